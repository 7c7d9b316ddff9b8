"""Which raw columns a config uses, in which role, and of what type."""

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .config import ColumnSplit, DataConfig, RawType, TimeSplit
from .errors import ConfigError

__all__ = ["ColumnPlan", "RawColumn", "Usage", "nearest", "plan_columns"]

Usage = str
"""How a feature reads a column: `number`, `category`, `date` (ISO 8601, or `date:` and its format), `text`,
`image`, or as numbers in order, `series`."""


@dataclass(frozen=True)
class RawColumn:
    """A column of the source and the type that it is read as."""

    name: str
    type: RawType


@dataclass(frozen=True)
class ColumnPlan:
    """Every column that a config uses.

    Attributes:
        columns: Columns written to the examples: features, then label, weight and slice columns.
        extra: Column of a split by time or by a column that nothing else reads; never written.
        features: Names of the columns that the model reads, in config order.
        label: Name of the label column.
        weight: Name of the weight column, or None.
        codes: Columns of whole numbers that a feature reads as categories.
        dates: Columns that a feature reads as dates, and their format; "" for ISO 8601.
    """

    columns: tuple[RawColumn, ...]
    extra: tuple[RawColumn, ...]
    features: tuple[str, ...]
    label: str
    weight: str | None
    codes: tuple[str, ...] = ()
    dates: tuple[tuple[str, str], ...] = ()

    @property
    def read(self) -> tuple[RawColumn, ...]:
        """All columns to read, the written ones first."""
        return self.columns + self.extra

    def type_of(self, name: str) -> RawType:
        """Return the type of column `name`.

        Raises:
            KeyError: If the config does not use it.
        """
        for column in self.read:
            if column.name == name:
                return column.type
        raise KeyError(name)


def plan_columns(
    data: DataConfig,
    usages: Iterable[tuple[str, Usage]],
    slices: Sequence[Sequence[str]] = (),
) -> ColumnPlan:
    """Combine what the sections say about columns.

    A declared type wins. Otherwise a column is `float` where only numbers are read from it,
    `string` where only categories, dates or texts are, and `int` where both are; `floats` for a series,
    and for a picture `image`, or `floats` where `data.pack` makes the column (a row of pixels).
    The label is `string` for classification (label values are compared as text) and `float` for
    regression; the weight is `float`. Where the config has no features (a user's own preprocessing
    function), every declared column is one.

    Args:
        data: The `data` section.
        usages: (column, usage) in the order of the features; see
            `headrace.components.features.columns.column_usages`.
        slices: Column names of each slice of `evaluation.slices`.

    Raises:
        ConfigError: If a column is used in ways that exclude each other.
    """
    found: dict[str, set[Usage]] = {}
    dates: dict[str, str] = {}
    for name, usage in usages:
        kind, _, form = usage.partition(":")
        found.setdefault(name, set()).add(kind)
        if kind == "date" and dates.setdefault(name, form) != form:
            raise ConfigError(
                f"the dates of a column must have one format. Received: {dates[name] or 'ISO 8601'!r} and "
                f"{form or 'ISO 8601'!r} for column {name!r} (features)"
            )
    if not found:
        declared = (name for name in data.columns if name not in (data.label, data.weight))
        found = {name: set() for name in declared}
    for taken, role in ((data.label, "label"), (data.weight, "weight")):
        if taken in found:
            raise ConfigError(
                f"the {role} must not be a feature. Received: column {taken!r} (features, data.{role})",
                "the model would read its own answer; take the column out of `features`",
            )
    if data.weight == data.label:
        raise ConfigError(f"`data.weight` must not be the label. Received: {data.weight!r} (data.weight)")

    types: dict[str, RawType] = {name: _feature_type(name, kinds, data) for name, kinds in found.items()}
    types[data.label] = "float" if data.task == "regression" else "string"
    if data.weight is not None:
        types[data.weight] = "float"
    for name in itertools.chain.from_iterable(slices):
        types.setdefault(name, data.columns.get(name, "string"))
    written = tuple(RawColumn(name, kind) for name, kind in types.items())
    extra = _split_columns(data, types)
    codes = tuple(name for name, kinds in found.items() if "category" in kinds and types[name] == "int")
    return ColumnPlan(written, extra, tuple(found), data.label, data.weight, codes, tuple(dates.items()))


_NEAR = 0.65
"""How alike two names must be, as difflib counts it: a letter or two apart, not `nope` and `income`."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a phrase that names the choice most like `name`, or all of a few, or nothing."""
    known = list(choices)
    folded = {choice.casefold().strip(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(name.casefold().strip(), folded, n=1, cutoff=_NEAR)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if not known:
        return ""
    shown = ", ".join(repr(choice) for choice in known[:12])
    return f"it has {shown}{', ...' if len(known) > 12 else ''}"


def _feature_type(name: str, kinds: set[Usage], data: DataConfig) -> RawType:
    declared = data.columns.get(name)
    if kinds & {"image", "series"}:
        return _list_type(name, kinds, data)
    if {"number", "date"} <= kinds:
        raise ConfigError(
            f"a column cannot be both a number and a date. Received: column {name!r} (features)"
        )
    if declared is not None:
        if declared == "string" and "number" in kinds:
            raise ConfigError(
                f"a numeric feature needs an `int` or `float` column. Received: string (data.columns.{name})"
            )
        if declared != "string" and "date" in kinds:
            raise ConfigError(
                f"a date feature needs a `string` column. Received: {declared} (data.columns.{name})"
            )
        return declared
    if kinds == {"number"}:
        return "float"
    return "int" if "number" in kinds else "string"


def _list_type(name: str, kinds: set[Usage], data: DataConfig) -> RawType:
    """Return the type of a column that a picture or a series is read from."""
    if len(kinds) > 1:
        raise ConfigError(
            f"a column of pictures or series has no other use. Received: column {name!r} as "
            f"{' and as '.join(sorted(kinds))} (features)"
        )
    default: RawType = "image" if "image" in kinds and name not in data.pack else "floats"
    declared = data.columns.get(name, default)
    wanted = ("image", "floats") if "image" in kinds else ("floats",)
    if declared not in wanted:
        raise ConfigError(
            f"a feature of kind {next(iter(kinds))} needs a column of type {' or '.join(wanted)}. "
            f"Received: {declared} (data.columns.{name})"
        )
    return declared


def _split_columns(data: DataConfig, types: dict[str, RawType]) -> tuple[RawColumn, ...]:
    """Return the columns that the split reads beyond `types`, and check those that it shares."""
    split = data.split
    if isinstance(split, TimeSplit):
        is_text = isinstance(split.eval_from, str)
        kind = types.get(split.column)
        if kind is None:
            return (RawColumn(split.column, "string" if is_text else "float"),)
        if (kind == "string") != is_text:
            wanted = "dates" if kind == "string" else "numbers"
            raise ConfigError(
                f"`eval_from` and `test_from` must be {wanted}, since column {split.column!r} is read as "
                f"{kind}. Received: {split.eval_from!r} (data.split.eval_from)"
            )
        return ()
    if not isinstance(split, ColumnSplit) or split.column in types:
        return ()
    return (RawColumn(split.column, data.columns.get(split.column, "string")),)
