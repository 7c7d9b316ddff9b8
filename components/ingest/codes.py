"""Whole numbers that name things, such as the id of a shop."""

import pyarrow.compute as pc

from headrace.data.columns import ColumnPlan
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Block
from headrace.data.readers.values import first_true

__all__ = ["MAX_CODE", "check_codes"]

MAX_CODE = 2**24
"""Whole numbers up to this magnitude survive the way through float32."""


def check_codes(block: Block, plan: ColumnPlan) -> None:
    """Check that codes keep apart on their way through the `serving_raw` signature, which is float32.

    Amounts may be larger: they are rounded alike wherever a model answers.

    Args:
        block: Clean rows.
        plan: The columns that the config uses.

    Raises:
        DataRejected: If a column of `plan.codes` has a value beyond 2**24 in size.
    """
    for name in plan.codes:
        values = block.batch.column(name)
        # The two sides apart: the absolute value of the smallest int64 does not fit.
        beyond = pc.or_kleene(pc.greater(values, MAX_CODE), pc.less(values, -MAX_CODE))
        if (at := first_true(beyond)) is not None:
            raise DataRejected(
                f"whole numbers that are read as categories must lie within ±2^24, where no two become one "
                f"in 32 bits. Received: {values[at].as_py()} in column {name!r} ({block.place(at)})",
                f"read them as text: set `data.columns.{name}: string`; where a numeric feature reads them, "
                "too, let a cross have ranges of them, `{column, bounds}`",
            )
