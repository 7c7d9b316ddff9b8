"""What ingest counts of the rows that it reads."""

from collections.abc import Sequence

import pyarrow as pa

from headrace.data.columns import ColumnPlan
from headrace.data.config import SPLITS, DataConfig
from headrace.data.readers.block import Block, Corrupt

from .codes import check_codes
from .dates import DateTally
from .labels import LabelTally

__all__ = ["Tally"]

_MOST_CORRUPT = 1000


class Tally:
    """Rows, labels, missing values and corrupt pictures of a stretch of the data.

    Args:
        data: The `data` section.
        names: Columns to count missing values of.

    Attributes:
        labels: Of the labels.
        dates: Of texts that are no dates.
        rows: Split -> rows.
        missing: Split -> column -> rows without a value.
        corrupt: Pictures that were left out, the first 1,000.
        corrupt_rows: All rows that were left out.
    """

    def __init__(self, data: DataConfig, names: Sequence[str]) -> None:
        self._label = data.label
        self.labels = LabelTally(data)
        self.dates = DateTally()
        self.rows = dict.fromkeys(SPLITS, 0)
        self.missing = {split: dict.fromkeys(names, 0) for split in SPLITS}
        self.corrupt: list[Corrupt] = []
        self.corrupt_rows = 0

    def check(self, block: Block, plan: ColumnPlan) -> None:
        """Check the labels, weights and category codes of a block, and note texts that are no dates.

        Raises:
            DataRejected: If one breaks a rule.
        """
        self._note(block.corrupt, len(block.corrupt))
        self.labels.check(block)
        check_codes(block, plan)
        self.dates.add(block, plan)

    def count(self, parts: Sequence[pa.RecordBatch]) -> None:
        """Count the rows of each split, in the order of `SPLITS`."""
        for split, part in zip(SPLITS, parts, strict=True):
            self.rows[split] += part.num_rows
            self.labels.count(split, part.column(self._label))
            for name, column in zip(self.missing[split], part.columns, strict=True):
                self.missing[split][name] += column.null_count

    def merge(self, other: "Tally") -> None:
        """Take in what was counted of later rows."""
        self._note(other.corrupt, other.corrupt_rows)
        self.labels.merge(other.labels)
        self.dates.merge(other.dates)
        for split in SPLITS:
            self.rows[split] += other.rows[split]
            for name, count in other.missing[split].items():
                self.missing[split][name] += count

    def _note(self, corrupt: Sequence[Corrupt], rows: int) -> None:
        self.corrupt_rows += rows
        self.corrupt += corrupt[: _MOST_CORRUPT - len(self.corrupt)]
