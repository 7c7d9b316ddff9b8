"""What a data set looks like: one streamed pass, in bounded memory, over all columns as text."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn
from .config import DataConfig
from .readers.rows import read_blocks

__all__ = ["MAX_TRACKED", "PLACEHOLDERS", "ColumnProfile", "profile_columns"]

MAX_TRACKED = 20_000
"""Distinct values of a column that are counted one by one."""

PLACEHOLDERS = ("?", "-", "--", "N/A", "n/a", "#N/A", "None", "none", "missing", "unknown")
"""Texts that stand for a missing number often enough to be taken so in a column of numbers."""

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


@dataclass
class ColumnProfile:
    """One column as it was seen.

    Attributes:
        name: Its name.
        rows: Rows of the data set.
        missing: Rows without a value.
        counts: Value -> rows; complete unless `overflowed`.
        overflowed: Whether there were more than `MAX_TRACKED` distinct values.
        tracked_rows: Rows with a value that had been seen when counting stopped.
        is_number: Whether every value is a number.
        is_whole: Whether every value is a whole number.
        is_date: Whether every value is an ISO 8601 date or date-time.
        has_time: Whether dates come with a time of day.
        placeholders: Texts of `PLACEHOLDERS` met; counted as missing in a column of numbers.
        low, high, total: Smallest, largest and sum of the numbers.
        text_length: Sum of the lengths of all values, in characters.
        spaced: Rows whose value holds a space.
        spaces: Sum of the spaces in all values.
        days: ISO day -> rows, for dates.
    """

    name: str
    rows: int = 0
    missing: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    overflowed: bool = False
    tracked_rows: int = 0
    is_number: bool = True
    is_whole: bool = True
    is_date: bool = True
    has_time: bool = False
    placeholders: set[str] = field(default_factory=set)
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    text_length: int = 0
    spaced: int = 0
    spaces: int = 0
    days: Counter[str] = field(default_factory=Counter)

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @property
    def distinct(self) -> int:
        """Distinct values; a lower bound if `overflowed`."""
        return len(self.counts)

    @property
    def unique_share(self) -> float:
        """Distinct values over rows with a value, as far as values were counted, in [0, 1]."""
        return self.distinct / self.tracked_rows if self.tracked_rows else 0.0

    def add(self, values: pa.Array) -> None:
        """Take in the next values.

        Args:
            values: Strings; null for missing.
        """
        self.rows += len(values)
        self.missing += values.null_count
        present = values.drop_null()
        if not len(present):
            return
        self.text_length += pc.sum(pc.utf8_length(present)).as_py()
        self.spaced += pc.sum(pc.match_substring(present, " ")).as_py()
        self.spaces += pc.sum(pc.count_substring(present, " ")).as_py()
        counted = pc.value_counts(present)
        distinct, rows = counted.field("values"), counted.field("counts")
        if not self.overflowed:
            self.tracked_rows += len(present)
            self.counts.update(dict(zip(distinct.to_pylist(), rows.to_pylist(), strict=True)))
            if len(self.counts) > MAX_TRACKED:
                self.overflowed = True
        if self.is_number:
            self._add_numbers(distinct, rows)
        if self.is_date:
            self._add_dates(distinct, rows)

    def _add_numbers(self, distinct: pa.Array, rows: pa.Array) -> None:
        odd = pc.is_in(distinct, value_set=pa.array(PLACEHOLDERS))
        self.placeholders.update(distinct.filter(odd).to_pylist())
        plain = pc.invert(odd)
        try:
            numbers = pc.utf8_trim_whitespace(distinct.filter(plain)).cast(pa.float64())
        except pa.ArrowInvalid:
            self.is_number = self.is_whole = False
            return
        finite = pc.is_finite(numbers)
        numbers, weights = numbers.filter(finite), rows.filter(plain).filter(finite)
        if not len(numbers):
            return
        limits = pc.min_max(numbers)
        self.low = min(self.low, limits["min"].as_py())
        self.high = max(self.high, limits["max"].as_py())
        self.total += pc.sum(pc.multiply(numbers, weights.cast(pa.float64()))).as_py()
        self.is_whole = self.is_whole and pc.all(pc.equal(numbers, pc.floor(numbers))).as_py()

    def _add_dates(self, distinct: pa.Array, rows: pa.Array) -> None:
        for value, count in zip(distinct.to_pylist(), rows.to_pylist(), strict=True):
            if not (found := _ISO_DATE.fullmatch(value)):
                self.is_date = False
                self.days.clear()
                return
            self.has_time = self.has_time or found[1] is not None
            self.days[value[:10]] += count

    def settle(self) -> None:
        """Draw the conclusions that need all values."""
        if not self.present:
            self.is_number = self.is_whole = self.is_date = False
        if self.is_number and self.low > self.high:
            self.is_number = self.is_whole = False  # nothing but placeholders
        if self.is_number:
            stand_ins = sum(self.counts.pop(text, 0) for text in self.placeholders)
            self.missing += stand_ins
            self.tracked_rows -= stand_ins
        else:
            self.placeholders.clear()


def profile_columns(paths: Sequence[str], data: DataConfig, names: Sequence[str]) -> list[ColumnProfile]:
    """Read all rows once and describe each column.

    Args:
        paths: The files.
        data: The `data` section; how to read them.
        names: Columns to describe.

    Raises:
        DataRejected: If the content cannot be read.
    """
    columns = [RawColumn(name, "string") for name in names]
    found = [ColumnProfile(name) for name in names]
    for block in read_blocks(paths, data, columns):
        for profile, values in zip(found, block.batch.columns, strict=True):
            profile.add(values)
    for profile in found:
        profile.settle()
    return found
