"""What kind of label a column is, and what a model must beat to be of use."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ConfigError
from .feature_guess import share
from .profile import ColumnProfile
from .yaml_text import scalar

__all__ = ["LabelGuess", "guess_label"]

_MAX_CLASSES = 100
_MAX_NUMERIC_CLASSES = 20
_MARGIN = 0.001
_RARE = 0.9


@dataclass(frozen=True)
class LabelGuess:
    """The task that a label column calls for.

    Attributes:
        task: "binary", "multiclass" or "regression".
        comment: What was seen.
        classes: Label values in output order; empty for regression.
        gates: Lines of YAML, comments included, for `gates.quality`.
    """

    task: str
    comment: str
    classes: tuple[str, ...]
    gates: tuple[str, ...]


def guess_label(
    profile: ColumnProfile,
    judged: Mapping[str, int] | None = None,
    where: str = "",
    *,
    test_rows: int | None = None,
) -> LabelGuess:
    """Choose the task and quality bounds.

    Args:
        profile: The label column.
        judged: Label value -> rows among those that the model will be judged on; all rows by default.
        where: Which rows those are, as in "from 2026-01-31 on".
        test_rows: Rows of the test split, where they are so few that a guess may be right more often by
            chance; None: chance is left aside.

    Raises:
        ConfigError: If the column is no label: without values, constant, or a text that rarely repeats.
    """
    if profile.present == 0 or profile.distinct < 2:
        found = "no values" if not profile.present else f"{next(iter(profile.counts))!r} in every row"
        raise ConfigError(
            f"the label must have at least two values. Received: {found} (column {profile.name!r})"
        )
    is_amount = profile.is_number and (not profile.is_whole or profile.distinct > _MAX_NUMERIC_CLASSES)
    if is_amount and profile.distinct > 2:
        return _regression(profile)
    if profile.distinct > _MAX_CLASSES:
        raise ConfigError(
            f"a class label must have at most {_MAX_CLASSES} values. Received: {profile.distinct:,}"
            f"{' or more' if profile.overflowed else ''} (column {profile.name!r})",
            "choose another column with --label",
        )
    counts = judged or profile.counts
    return _classification(profile, counts, where, test_rows)


def _regression(profile: ColumnProfile) -> LabelGuess:
    mean = profile.total / profile.present
    seen = f"numbers from {profile.low:g} to {profile.high:g}, mean {mean:.4g}"
    gates = (
        "# Always answering the mean gives an r2 of 0; a model below this bound has learned little.",
        "- {metric: r2, min: 0.1}",
    )
    return LabelGuess("regression", seen + _missing(profile), (), gates)


def _classification(
    profile: ColumnProfile, judged: Mapping[str, int], where: str, test_rows: int | None
) -> LabelGuess:
    classes = _ordered(list(profile.counts), profile.is_number)
    listed = ", ".join(f"{name} {share(profile.counts[name], profile.present)}" for name in classes[:12])
    seen = f"{len(classes)} classes: {listed}{', ...' if len(classes) > 12 else ''}{_missing(profile)}"
    total = sum(judged.values())
    most, most_rows = max(judged.items(), key=lambda item: (item[1], item[0]))
    rate = most_rows / total
    rows = f"the rows {where}" if where else "the rows"
    chance = 2 * math.sqrt(rate * (1 - rate) / test_rows) if test_rows else 0.0
    bound = min(math.ceil((rate + max(_MARGIN, chance)) * 1000) / 1000, 0.999)
    better = f"better by more than chance in {test_rows:,} test rows" if chance > _MARGIN else "better"
    gates = [
        f"# Always answering {scalar(most)} is right for {100 * rate:.2f}% of {rows}; accuracy must",
        f"# be {better}.",
        f"- {{metric: accuracy, min: {bound:g}}}",
    ]
    if len(classes) == 2:
        if rate > _RARE:
            gates = _rare_positive(classes[-1], judged.get(classes[-1], 0) / total)
        gates = ["# Guessing ranks the rows no better than 0.5.", "- {metric: auc, min: 0.6}", *gates]
    return LabelGuess("binary" if len(classes) == 2 else "multiclass", seen, tuple(classes), tuple(gates))


def _rare_positive(positive: str, rate: float) -> list[str]:
    """Bound the precision-recall area where one class is so rare that accuracy says little."""
    if rate > 0.5:
        return []  # guessing already gives over 0.9 here
    return [
        f"# Guessing gives a pr_auc of {rate:.4f}, the share of {scalar(positive)}. Accuracy says little",
        f"# about so rare a class: the majority alone reaches {100 * (1 - rate):.2f}%.",
        f"- {{metric: pr_auc, min: {math.ceil(1500 * rate) / 1000:g}}}",
    ]


def _ordered(classes: list[str], are_numbers: bool) -> list[str]:
    return sorted(sorted(classes), key=float) if are_numbers else sorted(classes)


def _missing(profile: ColumnProfile) -> str:
    if not profile.missing:
        return ""
    return f"; {profile.missing:,} rows have no label: drop them first, since ingest rejects them"
