"""A column whose value tells which rows belong together: the id of a patient who came several times."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .feature_guess import Guess, share
from .profile import ColumnProfile
from .yaml_text import scalar

__all__ = ["Group", "guess_group"]

_WHO = (
    "patient|subject|participant|respondent|person|customer|cust|client|user|member|player|student|pupil|"
    "employee|worker|household|visitor|passenger|driver|speaker|author"
)
"""Whom rows are about; what holds for some of them is to hold for others."""

_NUMBER = "id|uid|uuid|guid|key|code|nr|no|num|number"
_WHO_NAME = re.compile(rf"(?:.*[\W_])?(?:{_WHO})(?P<number>[\W_]*(?:{_NUMBER}))?", re.I)
_WHO_CAMEL = re.compile(rf".*[a-z0-9](?i:{_WHO})[\W_]*(?i:{_NUMBER})")
_ID_NAME = re.compile(r"(?:.*[\W_])?(?:id|uid|uuid|guid)", re.I)
_ID_CAMEL = re.compile(r".*[a-z0-9](?:Id|ID|Uid|UID|Uuid|UUID|Guid|GUID)")

_MIN_WHO, _MIN_OTHERS = 10, 50
_MOST_ROWS_OF_WHO, _MOST_ROWS_OF_OTHERS = 1000, 50
_MAX_MISSING = 0.01


@dataclass(frozen=True)
class Group:
    """An id that repeats.

    Attributes:
        column: Its name.
        values: How many different ones there are, in words.
        others: Further columns that look like ids and repeat.
    """

    column: str
    values: str
    others: tuple[str, ...] = ()

    def guess(self) -> Guess:
        """Return why the column is no feature."""
        seen = f"tells which rows belong together: {self.values}; a model is to do without those it has seen"
        return Guess((), seen)

    def note(self) -> str:
        """Return what to know of it where the rows are split by time."""
        return (
            f"column {self.column!r} looks like an id and repeats ({self.values}): a split by time has rows "
            "of one in several splits; to judge the model on others than it learns from, leave it out of the "
            f"features and set `data.split: {{method: hash, key: [{scalar(self.column)}]}}`"
        )


def guess_group(profiles: Iterable[ColumnProfile]) -> Group | None:
    """Return the id that keeps rows together; of several that of a person, or else the most varied one."""
    fit = [profile for profile in profiles if _repeats(profile)]
    if not fit:
        return None
    best = max(fit, key=lambda profile: (_is_of_someone(profile), profile.distinct))
    known = f"{'over ' if best.overflowed else ''}{best.distinct - best.overflowed:,}"
    values = f"{known} different values in {best.rows:,} rows"
    if best.missing:
        values += f", {share(best.missing, best.rows)} missing"
    others = tuple(profile.name for profile in fit if profile is not best)
    return Group(best.name, values, others)


def _repeats(profile: ColumnProfile) -> bool:
    """Tell whether a column looks like the id of what has several rows."""
    of_someone = _is_of_someone(profile)
    named = of_someone or _ID_NAME.fullmatch(profile.name) or _ID_CAMEL.fullmatch(profile.name)
    if not named or profile.is_date or profile.missing > _MAX_MISSING * profile.rows:
        return False
    if (profile.is_number and not profile.is_whole) or profile.spaced > profile.present / 2:
        return False
    least, most = (_MIN_WHO, _MOST_ROWS_OF_WHO) if of_someone else (_MIN_OTHERS, _MOST_ROWS_OF_OTHERS)
    return least <= profile.distinct < profile.tracked_rows <= most * profile.distinct


def _is_of_someone(profile: ColumnProfile) -> bool:
    """Tell whether a column holds ids of people: it is called so, or called after them and full of codes."""
    if _WHO_CAMEL.fullmatch(profile.name):
        return True
    named = _WHO_NAME.fullmatch(profile.name)
    return named is not None and (named["number"] is not None or _holds_codes(profile))


def _holds_codes(profile: ColumnProfile) -> bool:
    """Tell whether most values have a digit: a subject is "S07", and a school subject "art"."""
    return 2 * sum(any(map(str.isdigit, text)) for text in profile.counts) > profile.distinct
