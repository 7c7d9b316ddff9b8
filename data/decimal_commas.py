"""Columns of numbers that are written with a decimal comma, which no reader here takes for numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence

from .config import DataConfig
from .errors import ConfigError
from .feature_guess import Guess
from .odd_cells import find_odd_cells, shown_cell
from .profile import FEW_CODES, ColumnProfile

__all__ = ["check_label", "comma_guess", "comma_notes", "has_decimal_commas"]

_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")
_MOST_STRANGE = 100
"""One text in so many may be no number at all."""


def has_decimal_commas(profile: ColumnProfile) -> bool:
    """Tell whether the values of a column are numbers with a decimal comma, such as 123,45 or 1.234,5.

    A value such as 1,234 may be either; where all are so, the column has none.
    """
    if profile.is_number or profile.is_date or profile.date_format is not None or not profile.counts:
        return False
    strange = sum(not _NUMBER.fullmatch(text.strip()) for text in profile.counts)
    return strange * _MOST_STRANGE <= len(profile.counts) and _first(profile) is not None


def comma_guess() -> Guess:
    """Return the feature of such a column: none."""
    return Guess((), "numbers with a decimal comma: they are not read; write them with a point")


def check_label(paths: Sequence[str], data: DataConfig, profile: ColumnProfile) -> None:
    """Make sure that the label is no column of such numbers; a few of them may be classes.

    Raises:
        ConfigError: If it is; names a value and its place.
    """
    if profile.distinct > FEW_CODES and (notes := comma_notes(paths, data, [profile])):
        raise ConfigError(f"the label must be numbers that are read, or classes. {notes[0]}")


def comma_notes(paths: Sequence[str], data: DataConfig, profiles: Iterable[ColumnProfile]) -> list[str]:
    """Return a line for each column of such numbers, with a value and its place.

    Args:
        paths: The files.
        data: The `data` section.
        profiles: Columns, of any kind.
    """
    first: Mapping[str, Mapping[str, int]] = {
        profile.name: {text: profile.counts[text]}
        for profile in profiles
        if has_decimal_commas(profile) and (text := _first(profile)) is not None
    }
    return [
        f"{cell.column}: numbers with a decimal comma are not read; write them with a point. "
        f"Received: {shown_cell(cell)}"
        for cell in find_odd_cells(paths, data, first)
    ]


def _first(profile: ColumnProfile) -> str | None:
    """Return the first value with a comma that can be nothing but a decimal one."""
    for text in profile.counts:
        digits = text.strip().partition(",")[2]
        if _NUMBER.fullmatch(text.strip()) and digits and len(digits) != 3:
            return text
    return None
