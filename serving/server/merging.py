"""The rows of several requests in one run: put together, and taken apart again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import Code, ServingError

__all__ = ["merge", "row_shapes", "rows_of", "split"]

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


def merge(requests: Sequence[Sequence[Array]]) -> list[Array]:
    """Put the rows of several requests together.

    Args:
        requests: For each request its inputs, each [n_i, ...], all in the same order.

    Returns:
        The inputs, each [sum of n_i, ...].
    """
    return [np.concatenate(arrays) for arrays in zip(*requests, strict=True)]


def split(outputs: Sequence[Array], sizes: Sequence[int]) -> list[list[Array]]:
    """Take the rows of every request apart.

    Args:
        outputs: Results of a merged run, each [sum of sizes, ...].
        sizes: Rows of each request, in the order they were merged in.

    Returns:
        For each request its results, as views.

    Raises:
        ServingError: FAILED_PRECONDITION, if a result has not a row for every row of the inputs.
    """
    if any(not array.ndim or len(array) != sum(sizes) for array in outputs):
        raise ServingError(Code.FAILED_PRECONDITION, "a result must have a row for every row of the inputs")
    ends = np.cumsum(sizes)
    return [[array[end - size : end] for array in outputs] for size, end in zip(sizes, ends, strict=True)]
