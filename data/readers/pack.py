"""Several columns of numbers become one list column."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ..columns import RawColumn
from .block import Block
from .values import ARROW_TYPES

__all__ = ["pack_block"]


def pack_block(block: Block, columns: Sequence[RawColumn], packed: dict[str, tuple[str, ...]]) -> Block:
    """Return the block with `columns` alone, packed ones made of their parts.

    A row without any of the numbers has no list; one that lacks some has NaN in their places.

    Args:
        block: Clean rows that hold the parts.
        columns: Columns of the result.
        packed: Packed column -> its parts, in order.
    """
    arrays = [
        _pack([block.batch.column(part) for part in packed[column.name]])
        if column.name in packed
        else block.batch.column(column.name)
        for column in columns
    ]
    return replace(block, batch=pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns]))


def _pack(parts: Sequence[pa.Array]) -> pa.Array:
    rows, width = len(parts[0]), len(parts)
    values = np.empty((rows, width), np.float32)
    for index, part in enumerate(parts):
        # Null becomes NaN.
        values[:, index] = part.cast(ARROW_TYPES["float"]).to_numpy(zero_copy_only=False)
    missing = np.isnan(values).all(axis=1)
    lengths = np.where(missing, 0, width)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = pa.array(values[~missing].reshape(-1), from_pandas=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(missing))
