"""Several requests in one run: rows put together, padded and taken apart again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import Code, ServingError

__all__ = ["agree", "cut", "join", "merge", "pad_rows", "row_shapes", "rows_of", "split"]

Array = np.ndarray[Any, Any]


def rows_of(inputs: Sequence[Array]) -> int | None:
    """Return the common first dimension of `inputs`; None if there is none."""
    if not inputs or not inputs[0].ndim:
        return None
    rows = len(inputs[0])
    if any(not array.ndim or len(array) != rows for array in inputs):
        return None
    return rows


def row_shapes(inputs: Sequence[Array]) -> tuple[tuple[int, ...], ...]:
    """Return the shape of one row of every input: only equal ones can be put together."""
    return tuple(array.shape[1:] for array in inputs)


def merge(requests: Sequence[Sequence[Array]], rows: int, *, variable: bool = False) -> list[Array]:
    """Put the rows of several requests together.

    Args:
        requests: For each request its inputs, each [n_i, ...], all in the same order.
        rows: Rows of the result, at least the sum of n_i. More are copies of the last request's first row,
            which is known to be valid.
        variable: Pad inputs whose other dimensions differ to the largest, with zeros or empty strings.

    Returns:
        The inputs, each [rows, ...].
    """
    merged = []
    for arrays in zip(*requests, strict=True):
        parts = _evened(arrays) if variable else list(arrays)
        missing = rows - sum(len(part) for part in parts)
        if missing > 0:
            parts.append(np.repeat(parts[-1][:1], missing, axis=0))
        merged.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return merged


def pad_rows(rows: int, allowed: Sequence[int]) -> int:
    """Return the lowest of the `allowed` batch sizes (increasing) that holds `rows`; `rows` if none does."""
    return next((size for size in allowed if size >= rows), rows)


def split(outputs: Sequence[Array], sizes: Sequence[int], rows: int) -> list[list[Array]]:
    """Take the rows of every request apart.

    Args:
        outputs: Results of a merged run, each [rows, ...].
        sizes: Rows of each request, in the order they were merged in.
        rows: Rows of the run, padding included.

    Returns:
        For each request its results, as views.

    Raises:
        ServingError: FAILED_PRECONDITION, if a result has not a row for every row of the inputs.
    """
    _check_rows(outputs, rows)
    parts = []
    start = 0
    for size in sizes:
        parts.append([array[start : start + size] for array in outputs])
        start += size
    return parts


def cut(inputs: Sequence[Array], start: int, end: int) -> list[Array]:
    """Return the rows from `start` to before `end` of every input, as views."""
    return [array[start:end] for array in inputs]


def join(answers: Sequence[Sequence[Array]], sizes: Sequence[int]) -> list[Array]:
    """Put the answers to the pieces of one request together.

    Args:
        answers: For each piece its results, each [n_i, ...].
        sizes: Rows of each piece.

    Returns:
        The results, each [sum of n_i, ...].

    Raises:
        ServingError: FAILED_PRECONDITION, if a result has not a row for every row of its piece, or rows
            have different shapes.
    """
    for outputs, size in zip(answers, sizes, strict=True):
        _check_rows(outputs, size)
    try:
        return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    except ValueError as error:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"Split output tensors must have rows of one shape: {error}"
        ) from error


def agree(merged: Sequence[Array], alone: Sequence[Array]) -> bool:
    """Return whether a request got the same answer among others as alone, but for rounding."""
    return all(_same(left, right) for left, right in zip(merged, alone, strict=True))


def _check_rows(outputs: Sequence[Array], rows: int) -> None:
    for array in outputs:
        if not array.ndim:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )


def _same(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype == object or left.dtype.kind in "biu":
        return bool(np.array_equal(left, right))
    if left.dtype.kind not in "fc":  # bfloat16 and its like, which numpy cannot compare
        left, right = left.astype(np.float32), right.astype(np.float32)
    return bool(np.allclose(left, right, rtol=1e-3, atol=1e-4, equal_nan=True))


def _evened(arrays: Sequence[Array]) -> list[Array]:
    """Pad every array but in its first dimension to the largest shape among them."""
    if len({array.ndim for array in arrays}) > 1:
        raise ServingError(
            Code.FAILED_PRECONDITION, "Batched input tensors must have the same number of dimensions"
        )
    largest = np.max([array.shape for array in arrays], axis=0)
    found = []
    for array in arrays:
        widths = [
            (0, 0),
            *((0, int(most) - have) for most, have in zip(largest[1:], array.shape[1:], strict=True)),
        ]
        filler: Any = b"" if array.dtype == object else 0
        found.append(np.pad(array, widths, constant_values=filler) if any(w for _, w in widths) else array)
    return found
