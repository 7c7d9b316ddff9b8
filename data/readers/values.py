"""From what a file holds to the three types that headrace knows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..columns import RawColumn
from ..errors import DataRejected
from .block import Block

__all__ = ["MAX_EXACT_INT", "as_text", "clean", "first_true", "unfit_for_number"]

MAX_EXACT_INT = 2**53
"""Whole numbers up to this magnitude survive the way through float64."""

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def clean(block: Block, columns: Sequence[RawColumn]) -> Block:
    """Check the values and bring them to int64, float64 and string.

    NaN becomes null, and so does empty text.

    Args:
        block: Columns as read: text for `string`, any number for `int` and `float`.
        columns: The columns of the block, in its order.

    Raises:
        DataRejected: If a number is infinite, or an `int` has a fraction or does not fit.
    """
    arrays = []
    for column, array in zip(columns, block.batch.columns, strict=True):
        if column.type == "string":
            arrays.append(_text(array))
        elif column.type == "float":
            arrays.append(_finite(block, column.name, array))
        else:
            arrays.append(_whole(block, column.name, array))
    names = [column.name for column in columns]
    return Block(block.path, block.first_row, pa.RecordBatch.from_arrays(arrays, names=names), block.line_of)


def as_text(array: pa.Array) -> pa.Array:
    """Return any plain array as text; a float without a fraction loses its ".0", so that 1.0 equals 1."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        values = array.cast(pa.float64())
        small = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), MAX_EXACT_INT))
        whole = pc.if_else(small, values, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(whole, pc.if_else(pc.is_nan(values), None, values).cast(pa.string()))
    return array.cast(pa.string())


def first_true(mask: pa.Array) -> int | None:
    """Return the index of the first true value, or None."""
    index = pc.index(mask, True).as_py()
    return None if index < 0 else index


def unfit_for_number(values: pa.Array) -> pa.Array:
    """Mark the values of a string array that do not read as a number (null does)."""
    text = pc.utf8_trim_whitespace(values)
    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.array([True])
        half = len(text) // 2
        parts = [unfit_for_number(part) for part in (text.slice(0, half), text.slice(half))]
        return pa.concat_arrays(parts)
    return pa.array(np.zeros(len(text), bool))


def _text(array: pa.Array) -> pa.Array:
    if array.type != pa.string():
        array = as_text(array)
    empty = pc.equal(array, "")
    return pc.if_else(empty, None, array) if pc.any(empty).as_py() else array


def _finite(block: Block, name: str, array: pa.Array) -> pa.Array:
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64())
    limits = pc.min_max(array)  # skips null and NaN
    low, high = limits["min"].as_py(), limits["max"].as_py()
    if low is not None and not (low >= -_MAX_FLOAT32 and high <= _MAX_FLOAT32):
        at = first_true(pc.greater(pc.abs(array), _MAX_FLOAT32))
        if at is not None:
            raise DataRejected(
                f"numbers must be finite in 32 bits. Received: {array[at].as_py()} in column {name!r} "
                f"({block.place(at)})"
            )
    return pc.if_else(pc.is_nan(array), None, array) if pc.any(pc.is_nan(array)).as_py() else array


def _whole(block: Block, name: str, array: pa.Array) -> pa.Array:
    if pa.types.is_integer(array.type) and not pa.types.is_uint64(array.type):
        return array.cast(pa.int64())
    array = _finite(block, name, array)
    broken = first_true(pc.not_equal(array, pc.floor(array)))
    if broken is None:
        broken = first_true(pc.greater(pc.abs(array), MAX_EXACT_INT))
    if broken is not None:
        raise DataRejected(
            f"an `int` column must hold whole numbers within ±2^53. Received: {array[broken].as_py()} in "
            f"column {name!r} ({block.place(broken)})",
            f"declare its type: set `data.columns.{name}` to float, or to string for codes",
        )
    return array.cast(pa.int64())
