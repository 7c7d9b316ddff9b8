"""What a data set looks like: one streamed pass, in bounded memory, over all columns as text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn
from .config import DataConfig
from .date_texts import guess_format, unfit_for_date
from .readers.rows import read_blocks

__all__ = ["FEW_CODES", "MAX_TRACKED", "PLACEHOLDERS", "ColumnProfile", "profile_columns"]

MAX_TRACKED = 20_000
"""Distinct values of a column that are counted one by one."""

FEW_CODES = 31
"""Months, days, hours, ratings: so many whole numbers are as much names as amounts."""

PLACEHOLDERS = ("?", "-", "--", "N/A", "n/a", "#N/A", "None", "none", "missing", "unknown")
"""Texts that stand for a missing number often enough to be taken so in a column of numbers."""

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|[iI]nf(inity)?|[nN]a[nN])$"
_DAY = len("2024-12-31")
_MIN_ROWS = 20
_MOST_ODD = 20
_ODD_SHARE = 100
"""Kinds are told by all values but at most this many different ones, in at most one of so many rows."""


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
        is_number: Whether every value is a number, but for `odd` ones.
        is_whole: Whether those are whole numbers.
        is_date: Whether every value is an ISO 8601 date or date-time, but for `odd` ones.
        has_time: Whether dates come with a time of day.
        date_format: Form of dates that are not ISO 8601, as `headrace.data.dates.date_rewrite` takes it.
        placeholders: Texts of `PLACEHOLDERS` met; counted as missing in a column of numbers.
        no_numbers, no_dates: Value -> rows, as long as they are few.
        odd: Value that does not fit its column of numbers or dates -> rows; ingest will refuse it.
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
    date_format: str | None = None
    placeholders: set[str] = field(default_factory=set)
    odd: Counter[str] = field(default_factory=Counter)
    no_numbers: Counter[str] = field(default_factory=Counter)
    no_dates: Counter[str] = field(default_factory=Counter)
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
        texts, weights = pc.utf8_trim_whitespace(distinct.filter(plain)), rows.filter(plain)
        fit = pc.match_substring_regex(texts, _NUMBER)
        self.is_number = self._few(self.no_numbers, distinct.filter(plain), weights, fit)
        self.is_whole = self.is_whole and self.is_number
        if not self.is_number:
            return
        try:
            numbers = texts.filter(fit).cast(pa.float64())
        except pa.ArrowInvalid:
            self.is_number = self.is_whole = False
            return
        finite = pc.is_finite(numbers)
        numbers, weights = numbers.filter(finite), weights.filter(fit).filter(finite)
        if not len(numbers):
            return
        limits = pc.min_max(numbers)
        self.low = min(self.low, limits["min"].as_py())
        self.high = max(self.high, limits["max"].as_py())
        self.total += pc.sum(pc.multiply(numbers, weights.cast(pa.float64()))).as_py()
        self.is_whole = self.is_whole and pc.all(pc.equal(numbers, pc.floor(numbers))).as_py()

    def _add_dates(self, distinct: pa.Array, rows: pa.Array) -> None:
        fit = pc.invert(unfit_for_date(distinct))
        self.is_date = self._few(self.no_dates, distinct, rows, fit)
        if not self.is_date:
            self.days.clear()
            return
        dates = distinct.filter(fit)
        self.has_time = self.has_time or pc.any(pc.greater(pc.utf8_length(dates), _DAY)).as_py() is True
        days = pc.utf8_slice_codeunits(dates, 0, _DAY)
        for day, count in zip(days.to_pylist(), rows.filter(fit).to_pylist(), strict=True):
            self.days[day] += count

    def _few(self, odd: Counter[str], distinct: pa.Array, rows: pa.Array, fit: pa.Array) -> bool:
        """Take in the values that do not fit, and tell whether they are few so far."""
        strange = pc.invert(fit)
        texts = distinct.filter(strange)
        if len(odd) + len(texts) > _MOST_ODD and len({*odd, *texts.to_pylist()}) > _MOST_ODD:
            return False
        odd.update(dict(zip(texts.to_pylist(), rows.filter(strange).to_pylist(), strict=True)))
        return True

    def _find_format(self, most: int) -> None:
        """Find a form that all values have but for `most` rows."""
        texts = pa.array(self.counts, pa.string())
        guessed = guess_format(texts[0].as_py()) if len(texts) else None
        if guessed is None:
            return
        turned = guessed.translate({ord("d"): "m", ord("m"): "d"})
        odd = {form: texts.filter(unfit_for_date(texts, form)).to_pylist() for form in (guessed, turned)}
        form = min(odd, key=lambda name: len(odd[name]))
        rows = {text: self.counts[text] for text in odd[form]}
        if sum(rows.values()) <= most and len(rows) < len(texts):
            self.date_format, self.has_time = form, "%H" in form
            self.odd.update(rows)

    def settle(self) -> None:
        """Draw the conclusions that need all values."""
        most = max(1, self.present // _ODD_SHARE) if self.present >= _MIN_ROWS else 0
        self.is_date = self.is_date and bool(self.days) and self.no_dates.total() <= most
        # Nothing but placeholders is no column of numbers either; and a few codes are names.
        few = self.distinct - len(self.no_numbers) <= FEW_CODES
        self.is_number = self.is_number and self.low <= self.high
        self.is_number = self.is_number and self.no_numbers.total() <= (0 if few else most)
        self.is_whole = self.is_whole and self.is_number
        if not self.is_date:
            self.days.clear()
        if not (self.is_number or self.is_date):
            self._find_format(most)
        if self.is_number or self.is_date:
            self.odd.update(self.no_numbers if self.is_number else self.no_dates)
            self.tracked_rows -= sum(self.counts.pop(text, 0) for text in self.odd)
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
