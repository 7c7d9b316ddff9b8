"""Parts of ISO 8601 dates as categories, and their place in their cycle."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headrace.data.dates import DATE_PATTERN, SHORTEN, date_rewrite

__all__ = ["DATE_PARTS", "DAYS_BEFORE_MONTH", "DAYS_IN_MONTH", "cycle_table", "date_part"]

DATE_PARTS: Mapping[str, tuple[int, int]] = {
    "month": (1, 12),
    "day": (1, 31),
    "day_of_week": (0, 7),
    "day_of_year": (1, 366),
    "hour": (0, 24),
    "minute": (0, 60),
}
"""Part of a date -> its first value and how many values its cycle has. Monday is day 0 of the week."""

DAYS_IN_MONTH = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of month 1 to 12 in a common year; index 0 is unused."""

DAYS_BEFORE_MONTH = (0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
"""Days of a common year before month 1 to 12; index 0 is unused."""

_matches = re.compile(DATE_PATTERN).fullmatch


def date_part(texts: Sequence[str], part: str, form: str | None = None) -> npt.NDArray[np.int64]:
    """Return a part of each date as a category.

    A date without a time is at midnight. A UTC offset is read but not applied. What is not a date of
    the calendar (a wrong format, 30 February, hour 24, year 0) counts as missing.

    Args:
        texts: Dates; "" is missing.
        part: A key of `DATE_PARTS`.
        form: How dates are written, as `headrace.data.dates.date_rewrite` takes it; None: ISO 8601.

    Returns:
        int64 `[texts]`: 0 for missing, else 1 + (value - first value).

    Example:
        >>> date_part(["2024-02-29", "2023-02-29", "1999-12-31 23:59"], "day_of_year").tolist()
        [60, 0, 365]
    """
    if form is not None:
        texts = _rewritten(texts, form)
    # A plain date takes its time from what is appended; nothing below looks past the minutes.
    dates = [f"{text}T00:00" if _matches(text) else "0000-00-00T00:00" for text in texts]
    digits = np.array(
        [(date[:4], date[5:7], date[8:10], date[11:13], date[14:16]) for date in dates], "U4"
    ).reshape(-1, 5)
    year, month, day, hour, minute = digits.astype(np.int64).T
    leap = (((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)).astype(np.int64)
    slot = np.clip(month, 0, 12)
    days = np.array(DAYS_IN_MONTH)[slot] + leap * (month == 2)
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    valid &= (hour < 24) & (minute < 60)
    day_of_year = np.array(DAYS_BEFORE_MONTH)[slot] + day + leap * (month > 2)
    past = year - 1
    ordinal = past * 365 + past // 4 - past // 100 + past // 400 + day_of_year  # 0001-01-01 is 1, a Monday
    found = {
        "month": month,
        "day": day,
        "day_of_week": (ordinal - 1) % 7,
        "day_of_year": day_of_year,
        "hour": hour,
        "minute": minute,
    }
    return np.where(valid, 1 + found[part] - DATE_PARTS[part][0], 0)


def _rewritten(texts: Sequence[str], form: str) -> list[str]:
    """Return dates in ISO 8601; "" for what is not of the form."""
    pattern, replacement = date_rewrite(form)
    return [
        re.sub(*SHORTEN, re.sub(pattern, replacement, t)) if re.fullmatch(pattern, t) else "" for t in texts
    ]


def cycle_table(part: str) -> npt.NDArray[np.float32]:
    """Return float32 `[1 + values, 2]`: sine and cosine of 2 pi (category - 1) / values; row 0 is (0, 0)."""
    _, values = DATE_PARTS[part]
    angles = 2 * np.pi * np.arange(values) / values
    table = np.zeros((1 + values, 2), np.float32)
    table[1:] = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return table
