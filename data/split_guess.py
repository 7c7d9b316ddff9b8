"""How the rows of a data set that was seen once are divided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .config import SPLITS, ColumnSplit
from .group_guess import Group
from .model_guess import split_shares
from .profile import ColumnProfile
from .yaml_text import comment, listed, quoted, scalar

__all__ = ["Dealt", "TimeBounds", "dealt_by", "split_lines", "time_split", "told_split", "undated"]

TimeBounds = tuple[str, str, str]
"""Column, and the days that the eval and the test split begin with."""

_MIN_DAYS = 30
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "eval": ("eval", "val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Dealt:
    """How a hash deals rows out.

    Attributes:
        key: Columns that are hashed.
        group: The id that the key is, if it is one.
        pictures: Whether the key is the picture of `format: images`.
    """

    key: Sequence[str]
    group: Group | None = None
    pictures: bool = False


def dealt_by(held: Sequence[str], packed: Mapping[str, str], group: Group | None) -> Dealt:
    """Deal rows out by the id that keeps them together, else by all columns.

    Args:
        held: Columns of the data but the label.
        packed: Those of them that become part of a list -> its name.
        group: The id, if there is one.
    """
    if group is not None:
        return Dealt((group.column,), group)
    return Dealt(tuple(dict.fromkeys(packed.get(name, name) for name in held)))


def split_lines(split: ColumnSplit | TimeBounds | Dealt, rows: int) -> list[str]:
    """Split by the column that tells it, or by time where a column of dates allows it, else by hash."""
    if isinstance(split, ColumnSplit):
        values = ((name, getattr(split, name)) for name in SPLITS)
        named = ", ".join(f"{name}: [{quoted(texts)}]" for name, texts in values)
        return [f"  split: {{method: column, column: {scalar(split.column)}, {named}}}"]
    if isinstance(split, Dealt):
        return _dealt_lines(split, rows)
    column, eval_from, test_from = split
    return [
        "  # The model is judged on the latest rows, as it will be in use: about 80% train, 10% eval and",
        "  # 10% test.",
        "  split:",
        "    method: time",
        f"    column: {scalar(column)}",
        f'    eval_from: "{eval_from}"',
        f'    test_from: "{test_from}"',
    ]


def _dealt_lines(dealt: Dealt, rows: int) -> list[str]:
    together = dealt.group is not None or dealt.pictures
    return [
        *comment(_why_so(dealt), 2),
        "  split:",
        "    method: hash",
        *listed("    key: ", dealt.key),
        f"    equal_keys: {'together' if together else 'spread'}",
        "    seed: 0 # another one deals the rows anew; the run's `seed` does not",
        *(f"    {name}: {share}" for name, share in split_shares(rows).items()),
    ]


def _why_so(dealt: Dealt) -> str:
    if dealt.pictures:
        return "Pictures are dealt out by a hash of their files, so that equal ones share a split."
    if group := dealt.group:
        said = (
            f"Rows are dealt out by a hash of {scalar(group.column)} ({group.values}), so that all rows of "
            "one share a split, and the model is judged on others than those it learns from. To deal out "
            "single rows, name all columns but the label in `key`, with `equal_keys: spread`."
        )
        further = ", ".join(scalar(name) for name in group.others)
        return f"{said} What looks like an id and repeats, too: {further}." if further else said
    return (
        "Rows are dealt out at random by a hash of these columns, which never hold the label; since they are "
        "listed, neither another choice of features nor a new column moves a row. Rows that are equal in all "
        "of them are dealt out one by one. Where several rows belong together (one customer, one day), name "
        "the columns that say so in `key`, with `equal_keys: together`."
    )


def told_split(profiles: Mapping[str, ColumnProfile]) -> ColumnSplit | None:
    """Return the split by the first column whose values are names of all three splits and nothing else."""
    for name, profile in profiles.items():
        if profile.missing or profile.distinct > len(SPLITS):
            continue
        known = {
            split: tuple(text for text in profile.counts if text.casefold() in names)
            for split, names in _SPLIT_NAMES.items()
        }
        if all(len(texts) == 1 for texts in known.values()):
            return ColumnSplit(column=name, train=known["train"], eval=known["eval"], test=known["test"])
    return None


def time_split(profiles: Mapping[str, ColumnProfile]) -> TimeBounds | None:
    """Return (column, eval_from, test_from) for the first column of dates that spans a month or more."""
    for name, profile in profiles.items():
        if profile.is_date and not profile.missing and len(profile.days) >= _MIN_DAYS:
            bounds = _time_bounds(profile)
            if bounds is not None:
                return (name, *bounds)
    return None


def undated(profiles: Mapping[str, ColumnProfile]) -> list[str]:
    """Say why columns of dates do not split the rows."""
    notes = []
    for profile in profiles.values():
        if profile.is_date and profile.missing and len(profile.days) >= _MIN_DAYS:
            why = f"but {profile.missing:,} rows lack one"
        elif profile.date_format is not None:
            why = f'written "{profile.date_format}" where a split by time needs ISO 8601'
        else:
            continue
        notes.append(
            f"column {profile.name!r} holds dates, {why}: the rows are split at random instead of by time"
        )
    return notes


def _time_bounds(profile: ColumnProfile) -> tuple[str, str] | None:
    """Return the days from which 20% and 10% of the rows are left, or None where they do not differ."""
    seen = 0
    bounds: list[str] = []
    for day, rows in sorted(profile.days.items()):
        while len(bounds) < 2 and seen >= (0.8, 0.9)[len(bounds)] * profile.present:
            bounds.append(day)
        seen += rows
    return (bounds[0], bounds[1]) if len(set(bounds)) == 2 else None
