"""Which split each row belongs to, where a column of its own tells."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.config import SPLITS, ColumnSplit, TimeSplit
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Block
from headrace.data.readers.values import as_text, first_true

from .deal import Splits

__all__ = ["assign_splits"]

_ISO_DATE = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"


def assign_splits(block: Block, split: ColumnSplit | TimeSplit) -> Splits:
    """Return the split of each row as its index in `headrace.data.config.SPLITS`.

    Args:
        block: Rows with at least the column of the split.
        split: The section.

    Returns:
        uint8 `[rows]`.

    Raises:
        DataRejected: If the split column of a row is missing or holds what no split takes.
    """
    if isinstance(split, ColumnSplit):
        return _by_column(block, split)
    return _by_time(block, split)


def _by_column(block: Block, split: ColumnSplit) -> Splits:
    values = as_text(_present(block, split.column))
    result = np.full(len(values), len(SPLITS), np.uint8)
    for index, name in enumerate(SPLITS):
        wanted = pa.array(getattr(split, name), pa.string())
        result[pc.is_in(values, value_set=wanted).to_numpy(zero_copy_only=False)] = index
    strange = first_true(pa.array(result == len(SPLITS)))
    if strange is not None:
        known = ", ".join(repr(value) for name in SPLITS for value in getattr(split, name))
        raise DataRejected(
            f"split column {split.column!r} must hold one of {known}. Received: {values[strange].as_py()!r} "
            f"({block.place(strange)})",
            "name the value under `data.split`, or drop those rows",
        )
    return result


def _by_time(block: Block, split: TimeSplit) -> Splits:
    values = _present(block, split.column)
    if pa.types.is_string(values.type):
        odd = first_true(pc.invert(pc.match_substring_regex(values, _ISO_DATE)))
        if odd is not None:
            raise DataRejected(
                f"split column {split.column!r} must hold ISO 8601 dates such as 2026-01-31. Received: "
                f"{values[odd].as_py()!r} ({block.place(odd)})"
            )
    limits = (pa.scalar(split.eval_from, values.type), pa.scalar(split.test_from, values.type))
    passed = [pc.greater_equal(values, limit).to_numpy(zero_copy_only=False) for limit in limits]
    return passed[0].astype(np.uint8) + passed[1].astype(np.uint8)


def _present(block: Block, name: str) -> pa.Array:
    values = block.batch.column(name)
    if values.null_count:
        at = first_true(values.is_null())
        raise DataRejected(
            f"split column {name!r} must not be missing. Received: no value ({block.place(at or 0)})"
        )
    return values
