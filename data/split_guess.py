"""How the rows of a data set that was seen once are divided."""

from collections.abc import Mapping

from .config import SPLITS, ColumnSplit
from .model_guess import split_shares
from .profile import ColumnProfile
from .yaml_text import quoted, scalar

__all__ = ["TimeBounds", "split_lines", "time_split", "told_split", "undated"]

TimeBounds = tuple[str, str, str]
"""Column, and the days that the eval and the test split begin with."""

_MIN_DAYS = 30
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "eval": ("eval", "val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_lines(split: ColumnSplit | TimeBounds | None, rows: int) -> list[str]:
    """Split by the column that tells it, or by time where a column of dates allows it, else by hash."""
    if isinstance(split, ColumnSplit):
        values = ((name, getattr(split, name)) for name in SPLITS)
        listed = ", ".join(f"{name}: [{quoted(texts)}]" for name, texts in values)
        return [f"  split: {{method: column, column: {scalar(split.column)}, {listed}}}"]
    if split is not None:
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
    shares = ", ".join(f"{name}: {share}" for name, share in split_shares(rows).items())
    return [
        "  # Rows are split at random by a hash of their values, so identical rows share a split. Where",
        "  # several rows belong together (one customer, one day), name the columns that say so in `key`.",
        f"  split: {{method: hash, {shares}}}",
    ]


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
