"""Texts where dates belong: a model takes them as missing, and says nothing."""

from collections.abc import Mapping
from typing import Any

from ..columns import InvalidRow
from ..dates import date_part

__all__ = ["check_dates"]

_SHOWN = 80


def check_dates(rows: Any, dates: Mapping[str, str]) -> None:
    """Check that texts in columns of dates are dates.

    Args:
        rows: Rows as mappings, or columns as a mapping to sequences.
        dates: Column -> form of its dates, as `headrace.data.dates.date_rewrite` takes it; "": ISO 8601.

    Raises:
        InvalidRow: If a text is none; `row` counts from 0.
    """
    for name, form in dates.items():
        given = rows.get(name, ()) if isinstance(rows, Mapping) else [row.get(name) for row in rows]
        places = [at for at, value in enumerate(given) if isinstance(value, str) and value]
        known = date_part([given[at] for at in places], "month", form or None)
        for at, month in zip(places, known, strict=True):
            if not month:
                wanted = f"a date, written as {form!r}" if form else "a date in ISO 8601, as 2024-12-31"
                raise InvalidRow(
                    f"must be {wanted}. Received: {given[at][:_SHOWN]!r}",
                    "the model would take it as missing; leave it empty if it is",
                    at,
                    name,
                )
