"""A sensible feature for a column that was seen once."""

import math
import re
from collections.abc import Container
from dataclasses import dataclass

from .profile import FEW_CODES, ColumnProfile
from .yaml_text import scalar

__all__ = ["Guess", "feature_name", "guess_feature", "share"]

_FEW_VALUES = 10
_MANY_VALUES = 1_000
_MAX_MISSING = 0.98
_ID_SHARE = 0.9
_MIN_ROWS_FOR_ID = 50
_SKEWED = 20
_TEXT_SHARE = 0.5
_MIN_TOKENS, _MAX_TOKENS = 16, 512
_RESERVED = ("label", "weight")
_SUFFIXES = {
    "missing_indicator: true": ("_missing",),
    "output: tfidf": ("_weights",),
    "kind: series": ("_length",),
    "kind: date": ("_month", "_day_of_week", "_hour"),
}
"""Line of a feature -> what the names of its further model inputs end with."""

_MAX_CODE = 2**24
_ID_NAME = re.compile(r"(?:^|[^a-z])(?:id|key|code|nr|no|num|number|zip|ean|isbn|phone|account)s?$", re.I)
_CAMEL_ID = re.compile(r"[a-z](?:Id|ID|Key|Code|Nr|No|Number)s?$")


@dataclass(frozen=True)
class Guess:
    """A feature in YAML, or why the column was left out.

    Attributes:
        lines: Keys of the feature, as YAML lines; empty where the column is left out.
        comment: What was seen.
        is_category: Whether the feature is a category.
    """

    lines: tuple[str, ...]
    comment: str
    is_category: bool = False


def guess_feature(profile: ColumnProfile) -> Guess:
    """Choose kind and transform of one column, or leave it out with a reason."""
    if _is_text(profile):
        return _text(profile)
    reason = _why_useless(profile)
    if reason:
        return Guess((), reason)
    if profile.is_date:
        parts = "[month, day_of_week, hour]" if profile.has_time else "[month, day_of_week]"
        first, last = min(profile.days), max(profile.days)
        seen = f"{len(profile.days):,} days from {first} to {last}"
        return Guess(("kind: date", f"parts: {parts}"), _with_missing(seen, profile))
    if profile.date_format is not None:
        parts = "[month, day_of_week, hour]" if profile.has_time else "[month, day_of_week]"
        lines = ("kind: date", f'format: "{profile.date_format}"', f"parts: {parts}")
        return Guess(lines, _with_missing(f"{_distinct(profile)} distinct dates", profile))
    few = profile.is_whole and profile.low >= 0 and profile.distinct <= FEW_CODES
    if profile.is_number and not few and not _names_things(profile):
        return _number(profile)
    return _category(profile)


def feature_name(column: str, guess: Guess, taken: Container[str]) -> str:
    """Return the name of the feature of a column: the column's own, unless its model inputs met another's.

    Args:
        column: The column.
        guess: Its feature.
        taken: Columns that other features may be called after.
    """
    suffixes = [suffix for line in guess.lines for suffix in _SUFFIXES.get(line, ())]
    name = column
    while (
        name in _RESERVED
        or (name != column and name in taken)
        or any(name + suffix in taken for suffix in suffixes)
    ):
        name += "_value"
    return name


def share(part: int, whole: int) -> str:
    """Return a share as a percentage with up to two digits, never 0 or 100 unless exact."""
    if part in (0, whole) or not whole:
        return "0%" if not part else "100%"
    percent = 100 * part / whole
    if percent < 0.01:
        return "<0.01%"
    return ">99.99%" if percent > 99.99 else f"{percent:.3g}%" if percent < 10 else f"{percent:.1f}%"


def _why_useless(profile: ColumnProfile) -> str:
    if profile.present == 0:
        return "no values"
    if profile.distinct <= 1 and not profile.overflowed:
        return _with_missing("one value in every row", profile)
    if profile.missing > _MAX_MISSING * profile.rows:
        return f"{share(profile.missing, profile.rows)} missing"
    if profile.is_date or profile.date_format is not None:
        return ""
    if profile.present < _MIN_ROWS_FOR_ID or profile.unique_share < _ID_SHARE:
        return ""
    if profile.is_number:
        is_id = profile.is_whole and profile.unique_share == 1
        # A whole number that never repeats and fills its range is a row number or a key.
        dense = profile.high - profile.low < 2 * profile.present
        is_key = dense or _names_things(profile)
        return f"an id: {_distinct(profile)} distinct whole numbers, none twice" if is_id and is_key else ""
    return f"an id: {_distinct(profile)} distinct values in {profile.tracked_rows:,} rows"


def _names_things(profile: ColumnProfile) -> bool:
    """Tell whether whole numbers are names rather than amounts: large, and called so or all of one length.

    Such a category is read as text, the type of a category that the config leaves open: as numbers in 32
    bits two of them could become one.
    """
    if not (profile.is_number and profile.is_whole and profile.low >= 0 and profile.high > _MAX_CODE):
        return False
    called = bool(_ID_NAME.search(profile.name) or _CAMEL_ID.search(profile.name))
    return called or len(f"{profile.low:.0f}") == len(f"{profile.high:.0f}")


def _is_text(profile: ColumnProfile) -> bool:
    """Tell whether values are sentences rather than names: long, of several words, and mostly distinct."""
    return (
        profile.present >= _MIN_ROWS_FOR_ID
        and profile.missing <= _MAX_MISSING * profile.rows
        and not profile.is_date
        and profile.spaced > profile.present / 2
        and profile.text_length > 20 * profile.present
        and profile.unique_share >= _TEXT_SHARE
    )


def _text(profile: ColumnProfile) -> Guess:
    length, words = profile.text_length / profile.present, profile.spaces / profile.present + 1
    # Words and pairs of words, with room for texts twice as long as the average.
    tokens = 2 ** math.ceil(math.log2(4 * words))
    lines = (
        "kind: text",
        "ngrams: [1, 2]",
        "output: tfidf",
        f"max_length: {min(max(tokens, _MIN_TOKENS), _MAX_TOKENS)}",
    )
    seen = (
        f"free text: {_distinct(profile)} distinct, {length:.0f} characters and {words:.0f} words on average"
    )
    return Guess(lines, _with_missing(seen, profile))


def _number(profile: ColumnProfile) -> Guess:
    lines = ["kind: numeric"]
    mean = profile.total / profile.present
    if profile.missing:
        lines += ["impute: median", "missing_indicator: true"]
    if profile.low >= 0 and mean > 0 and profile.high > _SKEWED * mean:
        lines.append("log: true # the largest value is far above the mean")
    lines.append("scale: zscore")
    kind = "whole numbers" if profile.is_whole else "numbers"
    seen = f"{_distinct(profile)} distinct {kind} from {profile.low:g} to {profile.high:g}, mean {mean:.4g}"
    return Guess(tuple(lines), _with_missing(seen, profile))


def _category(profile: ColumnProfile) -> Guess:
    seen = _with_missing(f"{_distinct(profile)} distinct values", profile)
    if profile.overflowed or profile.distinct > _MANY_VALUES:
        vocabulary = f"vocabulary: {{top_k: {_MANY_VALUES}, min_count: 5, oov_buckets: 16}}"
        return Guess(("kind: categorical", vocabulary, "encode: embedding"), seen, True)
    encode = "one_hot" if profile.distinct <= _FEW_VALUES else "embedding"
    return Guess(("kind: categorical", f"encode: {encode}"), seen, True)


def _distinct(profile: ColumnProfile) -> str:
    return f"over {profile.distinct - 1:,}" if profile.overflowed else f"{profile.distinct:,}"


def _with_missing(seen: str, profile: ColumnProfile) -> str:
    if not profile.missing:
        return seen
    also = (
        f" (written as {', '.join(map(scalar, sorted(profile.placeholders)))})"
        if profile.placeholders
        else ""
    )
    return f"{seen}; {share(profile.missing, profile.rows)} missing{also}"
