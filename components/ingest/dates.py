"""Texts that are no dates where a feature reads dates: the model would take them as missing, unsaid."""

from dataclasses import dataclass, replace

import pyarrow.compute as pc

from headrace.data.columns import ColumnPlan
from headrace.data.date_texts import guess_format, unfit_for_date
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Block
from headrace.data.readers.values import first_true

__all__ = ["DateTally"]

_SHOWN = 80


@dataclass(frozen=True)
class _Odd:
    """Texts of a column that are no dates: how many, and the first one."""

    count: int
    text: str
    place: str


class DateTally:
    """Counts texts that are no dates."""

    def __init__(self) -> None:
        self._odd: dict[tuple[str, str], _Odd] = {}

    def add(self, block: Block, plan: ColumnPlan) -> None:
        """Take in the date columns of a block."""
        for name, form in plan.dates:
            values = block.batch.column(name)
            unfit = unfit_for_date(values, form or None)
            at = first_true(unfit)
            if at is not None:
                self._note((name, form), _Odd(pc.sum(unfit).as_py(), values[at].as_py(), block.place(at)))

    def merge(self, other: "DateTally") -> None:
        """Take in what was counted of later rows."""
        for key, odd in other._odd.items():
            self._note(key, odd)

    def check(self) -> None:
        """Judge what was counted.

        Raises:
            DataRejected: If a text is no date.
        """
        for (name, form), odd in self._odd.items():
            wanted = f"as {form!r}" if form else "in ISO 8601, as 2024-12-31 or 2024-12-31T23:59"
            more = f" and {odd.count - 1:,} more texts" if odd.count > 1 else ""
            guess = guess_format(odd.text)
            hints = [f'if all are written so, say `format: "{guess}"` in the feature'] if guess else []
            hints.append(
                "correct them, or, if they mean missing, list them in `data.csv.null_values` beside the "
                "default ones, which a list replaces"
            )
            raise DataRejected(
                f"column {name!r} is read as a date, written {wanted}. Received: {odd.text[:_SHOWN]!r}{more} "
                f"({odd.place})",
                "; else ".join(hints),
            )

    def _note(self, key: tuple[str, str], odd: _Odd) -> None:
        known = self._odd.get(key)
        self._odd[key] = odd if known is None else replace(known, count=known.count + odd.count)
