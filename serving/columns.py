"""Rows from a client as typed columns: missing values told apart, wrong types rejected with their place."""

import base64
import binascii
import datetime
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.data.errors import HeadraceError

__all__ = ["Column", "InvalidRow", "Rows", "read_columns"]

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any] | npt.NDArray[Any]]
"""Rows as mappings, or columns as sequences of one length."""

_INT64 = (-(2**63), 2**63 - 1)


class InvalidRow(HeadraceError, ValueError):
    """A value that does not fit its column, or a column that the model does not read.

    Args:
        text: The rule and the value received.
        hint: What the user can do about it.
        row: Row of the request, from 0; None where the whole column is meant.
        column: Its column, or an empty string.
        place: Name of the row for the user, such as "line 3"; empty for its number.
    """

    exit_code = 2

    def __init__(
        self, text: str, hint: str = "", row: int | None = None, column: str = "", place: str = ""
    ) -> None:
        self.text, self.row, self.column = text, row, column
        parts = [place] if place else [] if row is None else [f"row {row}"]
        parts += [f"column {column!r}"] if column else []
        super().__init__(f"{text} ({', '.join(parts)})" if parts else text, hint)

    def __str__(self) -> str:
        # Callers of a client see no command line, which shows a hint on a line of its own.
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidRow, (self.text, self.hint, self.row, self.column)

    def moved(self, rows: int, name: Callable[[int], str] | None = None) -> "InvalidRow":
        """Return the error with its row counted from the start of a larger request.

        Args:
            rows: Rows before those that it speaks of.
            name: Row -> its name for the user.
        """
        row = None if self.row is None else self.row + rows
        place = name(row) if name is not None and row is not None else ""
        return InvalidRow(self.text, self.hint, row, self.column, place)


@dataclass(frozen=True)
class Column:
    """A raw column.

    Attributes:
        present: bool `[rows]`.
        numbers: int64 or float32 `[rows]`, 0 where missing; None for text.
        texts: Text of each row, "" where missing; None for numbers.
        lists: float32 `[rows, longest]`, NaN where there is no number; for columns of lists alone.
        files: The bytes of a file in each row, b"" where missing; for columns of pictures alone.
    """

    present: npt.NDArray[np.bool_]
    numbers: npt.NDArray[Any] | None = None
    texts: list[str] | None = None
    lists: npt.NDArray[np.float32] | None = None
    files: list[bytes] | None = None


def read_columns(
    rows: Rows, types: Mapping[str, str], ignore_unknown: bool = False
) -> tuple[int, dict[str, Column]]:
    """Turn rows into typed columns.

    None, NaN, NaT, "" and an absent key are missing. In a text column an integer is taken as its decimal
    text, and a date of `datetime`, pandas or numpy as ISO 8601, with a space before the time.
    A list of numbers may hold None or NaN for a step without one. A picture is the bytes of a file, or
    `{"b64": text}` as in the REST interface of TensorFlow Serving.

    Args:
        rows: Rows or columns.
        types: Column -> `int`, `float`, `string`, `floats` or `image`.
        ignore_unknown: Whether to pass over columns that `types` does not name.

    Returns:
        The number of rows, and column -> values for every column of `types`.

    Raises:
        InvalidRow: If a column is unknown, columns differ in length, or a value has the wrong type.
    """
    if isinstance(rows, Mapping):
        sizes = {name: len(values) for name, values in rows.items()}
        size = next(iter(sizes.values()), 0)
        for name, other in sizes.items():
            if other != size:
                raise InvalidRow(
                    f"columns must be of one length. Received: {other} values in column {name!r} and {size} "
                    f"in column {next(iter(sizes))!r}"
                )
        if not ignore_unknown:
            _check_known(rows, types, None)
        given: dict[str, Any] = {name: rows.get(name, [None] * size) for name in types}
    else:
        size = len(rows)
        if not ignore_unknown:
            known = types.keys()
            for index, row in enumerate(rows):
                if not row.keys() <= known:
                    _check_known(row, types, index)
        given = {name: [row.get(name) for row in rows] for name in types}
    return size, {name: _read_column(name, given[name], kind) for name, kind in types.items()}


def _check_known(names: Iterable[str], types: Mapping[str, str], row: int | None) -> None:
    for name in names:
        if name not in types:
            close = difflib.get_close_matches(str(name), types, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it reads {', '.join(map(repr, types))}"
            raise InvalidRow(
                f"a column must be one that the model reads. Received: {name!r}", hint, row, str(name)
            )


def _read_column(name: str, given: Sequence[Any] | npt.NDArray[Any], kind: str) -> Column:
    if kind == "floats":
        return _read_lists(name, given)
    if isinstance(given, np.ndarray):
        # Of dates `tolist` makes integers.
        values: Sequence[Any] = list(given) if given.dtype.kind == "M" else given.tolist()
    else:
        values = given
    if kind == "image":
        return _read_files(name, values)
    if kind == "string":
        return _read_texts(name, values)
    return _read_integers(name, values) if kind == "int" else _read_floats(name, values)


def _read_texts(name: str, values: Sequence[Any]) -> Column:
    if set(map(type, values)) <= {str, type(None)}:
        texts = [value or "" for value in values]
    else:
        texts = [_as_text(name, index, value) for index, value in enumerate(values)]
    return Column(np.fromiter(map(bool, texts), np.bool_, len(texts)), texts=texts)


def _read_floats(name: str, values: Sequence[Any]) -> Column:
    if not set(map(type, values)) <= {float, int, type(None)}:
        values = [_as_number(name, index, value, "float") for index, value in enumerate(values)]
    try:
        wide = np.array([math.nan if value is None else value for value in values], np.float64)
    except OverflowError:  # an integer beyond float64
        wide = np.array([_as_float(value) for value in values], np.float64)
    present = ~np.isnan(wide)
    with np.errstate(over="ignore"):
        numbers = np.where(present, wide, 0.0).astype(np.float32)
    return Column(present, numbers=numbers)


def _read_integers(name: str, values: Sequence[Any]) -> Column:
    present = np.ones(len(values), np.bool_)
    if set(map(type, values)) != {int}:
        values = [_as_number(name, index, value, "int") for index, value in enumerate(values)]
        present = np.fromiter((value is not None for value in values), np.bool_, len(values))
        values = [0 if value is None else value for value in values]
    try:
        return Column(present, numbers=np.array(values, np.int64))
    except OverflowError:
        for index, value in enumerate(values):
            if not _INT64[0] <= value <= _INT64[1]:
                raise _wrong(name, index, value, "must fit in 64 bits") from None
        raise


def _read_lists(name: str, given: Sequence[Any] | npt.NDArray[Any]) -> Column:
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype.kind in "fiu":
        lists = given.astype(np.float32)
    else:
        rows = [_as_list(name, index, value) for index, value in enumerate(given)]
        lists = np.full((len(rows), max(map(len, rows), default=0)), np.nan, np.float32)
        for row, values in zip(lists, rows, strict=True):
            row[: len(values)] = values
    return Column(np.any(~np.isnan(lists), axis=1), lists=lists)


def _read_files(name: str, values: Sequence[Any]) -> Column:
    files = [_as_bytes(name, index, value) for index, value in enumerate(values)]
    return Column(np.fromiter(map(bool, files), np.bool_, len(files)), files=files)


def _as_list(name: str, index: int, value: Any) -> npt.NDArray[np.float32]:
    """Return the numbers of a list, float32 `[steps]`, NaN where there is none."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return np.zeros(0, np.float32)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu":
        with np.errstate(over="ignore"):
            return value.astype(np.float32)
    steps = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(steps, list | tuple):
        raise _wrong(name, index, value, "must be a list of numbers")
    if not set(map(type, steps)) <= {float, int, type(None)}:
        steps = [_as_number(name, index, step, "float") for step in steps]
    with np.errstate(over="ignore"):
        return np.array([_as_float(step) for step in steps], np.float64).astype(np.float32)


def _as_bytes(name: str, index: int, value: Any) -> bytes:
    """Return the bytes of a file, b"" where there is none."""
    if value is None or value == "" or (isinstance(value, float | np.floating) and math.isnan(value)):
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise _wrong(name, index, _clipped(value["b64"]), f"must be base64 ({error})") from error
    shown = _clipped(value) if isinstance(value, str) else value
    raise _wrong(name, index, shown, 'must be the bytes of a JPEG or PNG file, or {"b64": text}')


def _clipped(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _as_text(name: str, index: int, value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime.date | np.datetime64):
        return _as_date(value)
    raise _wrong(name, index, value, "must be text, a date, or an integer, taken as its decimal text")


def _as_date(value: datetime.date | np.datetime64) -> str:
    """Return a date as ISO 8601; "" for NaT, which pandas gives out as a datetime."""
    if value != value:
        return ""
    if isinstance(value, np.datetime64):
        return str(value).replace("T", " ")
    return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()


def _as_number(name: str, index: int, value: Any, kind: str) -> int | float | None:
    """Return a number, or None where it is missing."""
    if value is None or (isinstance(value, str) and value == ""):
        return None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        if kind == "float":
            return float(value)
        if math.isfinite(value) and float(value).is_integer():
            return int(value)
    raise _wrong(name, index, value, f"must be {'a number' if kind == 'float' else 'an integer'}")


def _as_float(value: int | float | None) -> float:
    if value is None:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _wrong(name: str, index: int, value: Any, rule: str) -> InvalidRow:
    received = f"{_clipped(repr(value), 200)}, of type {type(value).__name__}"
    return InvalidRow(
        f"a value of column {name!r} {rule}. Received: {received}",
        row=index,
        column=name,
    )
