"""A request of any size, cut into requests that a server takes, and its answers put together."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from headrace.data.errors import ConfigError

from ..columns import InvalidRow, Rows, read_columns
from .rows import check_complete, cut, open_files, row_count, to_rows
from .signatures import ModelSignature, column_kinds, tensors_of

__all__ = ["Progress", "RowOptions", "RowRequest", "TensorRequest", "joined"]

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]
"""Called with the rows that are answered and all rows, after every part of a request."""

_PICTURES_AT_ONCE = 64


@dataclass(frozen=True)
class RowOptions:
    """How rows are read.

    Attributes:
        batch_rows: Most rows of a part, >= 1.
        batch_bytes: Most bytes of tensors of a part that has more than one row.
        images: Columns of pictures whose texts are paths.
        ignore_unknown: Whether to pass over columns that the model does not read.
        complete: Whether every column must be given.
    """

    batch_rows: int = 1024
    batch_bytes: int = 16 << 20
    images: Collection[str] = ()
    ignore_unknown: bool = False
    complete: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_rows", "batch_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be >= 1. Received: {getattr(self, name)}")


class RowRequest:
    """Rows, cut into parts.

    Args:
        given: Whatever `to_rows` takes.
        kinds: Column -> kind, as the model reads it.
        options: How they are read.

    Attributes:
        total: Number of rows.

    Raises:
        InvalidRow: If `given` is no rows, or a column is missing that must not be.
        ConfigError: If there is no row.
    """

    def __init__(self, given: Any, kinds: Mapping[str, str], options: RowOptions) -> None:
        self.kinds, self.options = dict(kinds), options
        self._rows = to_rows(given, kinds)
        self.total = row_count(self._rows)
        if not self.total:
            raise ConfigError("a request must hold at least one row. Received: none")
        if options.complete:
            check_complete(self._rows, kinds)
        pictures = "image" in self.kinds.values() or bool(options.images)
        self._step = min(options.batch_rows, _PICTURES_AT_ONCE) if pictures else options.batch_rows

    def parts(self) -> Iterator[tuple[int, Rows, dict[str, str]]]:
        """Yield first row, rows with their pictures read, and kinds of each part."""
        whole = self._rows
        for start in range(0, self.total, self._step):
            rows = cut(whole, start, start + self._step) if self.total > self._step else whole
            try:
                yield start, *open_files(rows, self.kinds, self.options.images)
            except InvalidRow as error:
                raise error.moved(start) from error.__cause__


class TensorRequest:
    """Rows as the tensors of a signature, cut into parts.

    Args:
        given: Whatever `to_rows` takes.
        signature: What it is sent to.
        options: How rows are read.

    Attributes:
        total: Number of rows.
        is_cut: Whether it has several parts, by their rows or bytes.
    """

    def __init__(self, given: Any, signature: ModelSignature, options: RowOptions) -> None:
        self.signature = signature
        self.request = RowRequest(given, column_kinds(signature), options)
        self.total = self.request.total
        self._parts = self._made()
        self._first = list(islice(self._parts, 2))
        self.is_cut = len(self._first) > 1

    def parts(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """Return the number of rows and the tensors of each part, once.

        Raises:
            InvalidRow: If a value does not fit; its row is counted from the start of the request.
        """
        first, self._first = self._first, []
        return chain(first, self._parts)

    def _made(self) -> Iterator[tuple[int, dict[str, Array]]]:
        options = self.request.options
        for start, rows, kinds in self.request.parts():
            try:
                size, columns = read_columns(rows, kinds, options.ignore_unknown)
            except InvalidRow as error:
                raise error.moved(start) from error.__cause__
            yield from _split(tensors_of(columns, self.signature), size, options.batch_bytes)


def joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Return the outputs of parts, put together in their order."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(tensors: dict[str, Array], rows: int, most_bytes: int) -> Iterator[tuple[int, dict[str, Array]]]:
    """Halve a part until it is small enough."""
    if rows == 1 or sum(map(_size_bytes, tensors.values())) <= most_bytes:
        yield rows, tensors
        return
    half = rows // 2
    yield from _split({name: tensor[:half] for name, tensor in tensors.items()}, half, most_bytes)
    yield from _split({name: tensor[half:] for name, tensor in tensors.items()}, rows - half, most_bytes)


def _size_bytes(tensor: Array) -> int:
    return sum(map(len, tensor.flat)) if tensor.dtype == object else tensor.nbytes
