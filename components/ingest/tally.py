"""What ingest counts of the rows that it reads."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.columns import ColumnPlan
from headrace.data.config import SPLITS, DataConfig, TimeSplit
from headrace.data.errors import DataRejected
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
        times: The earliest and the latest time of a split by time; None before a row was seen.
    """

    def __init__(self, data: DataConfig, names: Sequence[str]) -> None:
        self._label = data.label
        self._time = data.split.column if isinstance(data.split, TimeSplit) else None
        self.labels = LabelTally(data)
        self.dates = DateTally()
        self.rows = dict.fromkeys(SPLITS, 0)
        self.missing = {split: dict.fromkeys(names, 0) for split in SPLITS}
        self.corrupt: list[Corrupt] = []
        self.corrupt_rows = 0
        self.checked = 0
        self.times: tuple[Any, Any] | None = None

    def check(self, block: Block, plan: ColumnPlan) -> None:
        """Check the labels, weights and category codes of a block, and note texts that are no dates.

        Raises:
            DataRejected: If one breaks a rule.
        """
        self._note(block.corrupt, len(block.corrupt))
        self.checked += block.batch.num_rows
        self.labels.check(block)
        check_codes(block, plan)
        self.dates.add(block, plan)

    def note_times(self, block: Block) -> None:
        """Note the times of a block whose rows a split by time divides."""
        if self._time is not None and block.batch.num_rows:
            limits = pc.min_max(block.batch.column(self._time))
            self._widen((limits["min"].as_py(), limits["max"].as_py()))

    def check_seen(self) -> None:
        """Judge what was checked so far, whatever splits it went to.

        Raises:
            DataRejected: If no picture could be decoded, or labels or dates break a rule.
        """
        if self.corrupt_rows and not self.checked:
            raise DataRejected(
                f"pictures must be decodable. Received: none of {self.corrupt_rows:,}; "
                f"{self.corrupt[0].path}: {self.corrupt[0].reason}"
            )
        self.labels.check_seen()
        self.dates.check()

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
        self.checked += other.checked
        if other.times is not None:
            self._widen(other.times)
        self.labels.merge(other.labels)
        self.dates.merge(other.dates)
        for split in SPLITS:
            self.rows[split] += other.rows[split]
            for name, count in other.missing[split].items():
                self.missing[split][name] += count

    def _widen(self, times: tuple[Any, Any]) -> None:
        known = self.times or times
        self.times = min(known[0], times[0]), max(known[1], times[1])

    def _note(self, corrupt: Sequence[Corrupt], rows: int) -> None:
        self.corrupt_rows += rows
        self.corrupt += corrupt[: _MOST_CORRUPT - len(self.corrupt)]
