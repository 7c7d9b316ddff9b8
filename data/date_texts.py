"""Which texts are dates."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .dates import DATE_PATTERN, SHORTEN, date_rewrite

__all__ = ["guess_format", "unfit_for_date"]

_LIKE_DATE = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})([ T]\d{1,2}:\d{1,2}(:\d{1,2})?)?")
_YEAR, _MONTHS = 4, 12
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def guess_format(text: str) -> str | None:
    """Return the format of one date that is not in ISO 8601, or None; the day comes first where it may.

    Example:
        >>> guess_format("31/12/2024 23:59"), guess_format("12-31-2024"), guess_format("2024/1/31")
        ('%d/%m/%Y %H:%M', '%m-%d-%Y', '%Y/%m/%d')
    """
    found = _LIKE_DATE.fullmatch(text)
    if found is None:
        return None
    first, mark, second, clock = found[1], found[2], found[3], found[5] or ""
    month_first = int(second) > _MONTHS
    names = "Ymd" if len(first) == _YEAR else "mdY" if month_first else "dmY"
    form = mark.join(f"%{name}" for name in names)
    form += f"{clock[0]}%H:%M{':%S' if found[6] else ''}" if clock else ""
    return None if unfit_for_date(pa.array([text]), form)[0].as_py() else form


def unfit_for_date(values: pa.Array, form: str | None = None) -> pa.Array:
    """Mark the texts that are no date of the calendar (null is no text).

    Args:
        values: string `[rows]`.
        form: Form of the dates, for `headrace.data.dates.date_rewrite`; None: ISO 8601.

    Returns:
        bool `[rows]`; a marked one counts as missing in every runtime of a model.

    Example:
        >>> unfit_for_date(pa.array(["2024-02-29", "2023-02-29", "31/12/2024", None])).to_pylist()
        [False, True, True, False]
        >>> unfit_for_date(pa.array(["29.2.2024", "31.12.24", None]), "%d.%m.%Y").to_pylist()
        [False, True, False]
    """
    coded = values.dictionary_encode()
    texts = coded.dictionary
    if form is not None:
        pattern, replacement = date_rewrite(form)
        fits = pc.match_substring_regex(texts, pattern)
        iso = pc.replace_substring_regex(pc.replace_substring_regex(texts, pattern, replacement), *SHORTEN)
        texts = pc.if_else(fits, iso, "")
    matches = pc.match_substring_regex(texts, f"^(?:{DATE_PATTERN})$").to_numpy(zero_copy_only=False)
    # A plain date has no more than ten characters: what follows must then come from the blank's own time.
    whole = pc.if_else(pa.array(matches), texts, "0000-00-00")
    whole = pc.if_else(
        pc.less(pc.utf8_length(whole), 16), pc.binary_join_element_wise(whole, "00:00", "T"), whole
    )
    year, month, day, hour, minute = (
        pc.utf8_slice_codeunits(whole, start, stop).cast(pa.int64()).to_numpy(zero_copy_only=False)
        for start, stop in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16))
    )
    leap = ((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)
    days = _DAYS[np.clip(month, 0, 12)] + leap * (month == 2)
    fits = matches & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    fits &= (hour < 24) & (minute < 60)
    return pc.take(pa.array(~fits), coded.indices).fill_null(False)
