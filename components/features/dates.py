"""ISO 8601 dates inside a TensorFlow graph."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from headrace.data.dates import DATE_PATTERN, SHORTEN, date_rewrite
from headrace.serving.dates import DATE_PARTS, DAYS_BEFORE_MONTH, DAYS_IN_MONTH, cycle_table

__all__ = ["date_tables", "parse_dates"]

_BLANK = "0000-00-00T00:00"


def date_tables() -> dict[str, npt.NDArray[np.float32]]:
    """Return part -> float32 `[1 + values, 2]`: sine and cosine by category, (0, 0) for missing."""
    return {part: cycle_table(part) for part in DATE_PARTS}


def parse_dates(text: Any, form: str | None = None) -> dict[str, Any]:
    """Return the parts of each date as categories: 0 missing or not a date, else 1 + (value - first).

    A date without a time is at midnight; a UTC offset is read but not applied.

    Args:
        text: string `[rows]`.
        form: How dates are written, as `headrace.data.dates.date_rewrite` takes it; None: ISO 8601.

    Returns:
        Part -> int64 `[rows]`.
    """
    if form is not None:
        pattern, replacement = date_rewrite(form)
        iso = tf.strings.regex_replace(tf.strings.regex_replace(text, pattern, replacement), *SHORTEN)
        text = tf.where(tf.strings.regex_full_match(text, pattern), iso, tf.fill(tf.shape(text), ""))
    matches = tf.strings.regex_full_match(text, DATE_PATTERN)
    padded = tf.strings.join([tf.where(matches, text, tf.fill(tf.shape(text), "")), _BLANK])
    # A plain date has ten characters; what follows must then come from the blank's own time.
    is_plain = tf.strings.length(text) == 10
    clock = tf.where(is_plain, tf.fill(tf.shape(text), "00:00"), tf.strings.substr(padded, 11, 5))

    def number(source: Any, start: int, size: int) -> Any:
        return tf.strings.to_number(tf.strings.substr(source, start, size), tf.int64)

    year, month, day = number(padded, 0, 4), number(padded, 5, 2), number(padded, 8, 2)
    hour, minute = number(clock, 0, 2), number(clock, 3, 2)
    leap = tf.cast(((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0), tf.int64)
    slot = tf.clip_by_value(month, 0, 12)
    days = tf.gather(tf.constant(DAYS_IN_MONTH, tf.int64), slot) + leap * tf.cast(month == 2, tf.int64)
    valid = matches & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    valid &= (hour < 24) & (minute < 60)
    before = tf.gather(tf.constant(DAYS_BEFORE_MONTH, tf.int64), slot)
    day_of_year = before + day + leap * tf.cast(month > 2, tf.int64)
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
    return {
        part: tf.where(valid, 1 + found[part] - first, tf.zeros_like(year))
        for part, (first, _) in DATE_PARTS.items()
    }
