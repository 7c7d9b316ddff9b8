"""From what a file holds to the types that headrace knows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..columns import RawColumn
from ..config import RawType
from ..errors import DataRejected
from .block import Block

__all__ = [
    "ARROW_TYPES",
    "FLOATS",
    "MAX_EXACT_INT",
    "as_floats",
    "as_text",
    "clean",
    "first_true",
    "is_list",
    "unfit_for_number",
]

FLOATS = pa.large_list(pa.float32())

ARROW_TYPES: dict[RawType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "floats": FLOATS,
    "image": pa.large_binary(),
}
"""Raw type -> Arrow type of a clean column."""

MAX_EXACT_INT = 2**53
"""Whole numbers up to this magnitude survive the way through float64."""

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def clean(block: Block, columns: Sequence[RawColumn]) -> Block:
    """Check the values and bring them to int64, float64, string, large_list of float32 and large_binary.

    NaN becomes null, and so do empty text, empty lists and empty pictures; within a list null becomes NaN.

    Args:
        block: Columns as read: text for `string`, any number for `int` and `float`, lists of numbers for
            `floats`; for `image` bytes, or the text of a path, which stays text.
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
        elif column.type == "floats":
            arrays.append(as_floats(block, column.name, array))
        elif column.type == "image":
            arrays.append(_picture(array))
        else:
            arrays.append(_whole(block, column.name, array))
    names = [column.name for column in columns]
    return replace(block, batch=pa.RecordBatch.from_arrays(arrays, names=names))


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


def is_list(kind: pa.DataType) -> bool:
    """Tell whether an Arrow type is a list, of whatever width."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def as_floats(block: Block, name: str, array: pa.Array) -> pa.Array:
    """Return lists of numbers as large_list of float32: null and NaN steps are NaN, empty lists null.

    Args:
        block: Where the rows stand, for the error.
        name: Of the column, for the error.
        array: list, large_list or fixed_size_list of numbers.

    Raises:
        DataRejected: If a number is infinite in 32 bits.
    """
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    values = array.flatten()  # without the lists that are null
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    large = np.abs(numbers) > _MAX_FLOAT32  # NaN is not
    if large.any():
        at = int(np.argmax(large))
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        raise DataRejected(
            f"numbers must be finite in 32 bits. Received: {numbers[at]} in column {name!r}, step "
            f"{at - int(offsets[row]) + 1} ({block.place(row)})"
        )
    missing = pa.array(lengths == 0)
    floats = pa.array(numbers.astype(np.float32), from_pandas=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets), floats, mask=missing)


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


def _picture(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        return _text(array)
    array = array.cast(pa.large_binary())
    empty = pc.equal(pc.binary_length(array), 0)
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
