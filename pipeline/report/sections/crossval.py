"""Cross-validation: each metric over the folds, and every fold."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.strips import Strip, strips
from ..facts import Facts
from ..metrics import SHOWN, first_present
from ..numbers import count, duration, finite, metric, metric_title
from ..table import Cell, Column, Row, Table, number

__all__ = ["crossval"]

_MOST = 8
_METHODS = {
    "kfold": "k-fold, cut at random",
    "stratified": "stratified: every fold with the same share of each label",
    "grouped": "grouped: no group is in two parts of a fold",
    "time": "in time: trained on what lies before the rows judged",
}


def crossval(facts: Facts) -> dict[str, Any] | None:
    """Return the strips of the metrics and the table of folds; None where it was off."""
    found = facts.evidence.get("crossval") or {}
    folds: Sequence[Mapping[str, Any]] = found.get("folds") or ()
    if not folds:
        return None
    spread: Mapping[str, Mapping[str, Any]] = found.get("metrics") or {}
    names = first_present(SHOWN, facts.task, spread)[:_MOST] or list(spread)[:_MOST]
    judged = [fold for fold in folds if fold.get("metrics")]
    repeats = len({fold.get("repeat") for fold in folds})
    test = facts.leading
    drawn = [
        Strip(
            metric_title(name),
            [
                (_name(fold, repeats), value)
                for fold in judged
                if (value := finite(fold["metrics"].get(name))) is not None
            ],
            float(spread[name]["mean"]),
            finite(spread[name].get("std")),
            None if test is None else test.metrics.get(name),
            "" if test is None else f"{test.name} on the test split",
        )
        for name in names
    ]
    failed = len(folds) - len(judged)
    return {
        "svg": strips(drawn, "Metrics of every fold, with mean and standard deviation") if drawn else None,
        "table": _table(folds, names, repeats),
        "method": _METHODS.get(str(found.get("method")), str(found.get("method"))),
        "count": count(len(judged)),
        "repeats": count(repeats) if repeats > 1 else "",
        "failed": count(failed) if failed else "",
        "compared": test is not None and any(name in test.metrics for name in names),
    }


def _name(fold: Mapping[str, Any], repeats: int) -> str:
    name = f"fold {fold.get('fold')}"
    return f"{name} of repeat {fold.get('repeat')}" if repeats > 1 else name


def _table(folds: Sequence[Mapping[str, Any]], names: Sequence[str], repeats: int) -> Table:
    columns = [
        Column("Fold"),
        *(Column(metric_title(name), True) for name in names),
        Column("Trained on", True, "rows that the transform and the model were fitted on"),
        Column("Held out", True, "rows judged"),
        Column("Best epoch", True),
        Column("Time", True),
    ]
    rows = []
    for fold in folds:
        values = [finite((fold.get("metrics") or {}).get(name)) for name in names]
        sizes = fold.get("rows") or {}
        reason = str(fold.get("failed") or "")
        cells = [Cell(_name(fold, repeats), note="failed" if reason else "", hint=reason)]
        cells += [number(metric(value), value) for value in values]
        cells += [
            number(count(sizes.get("train")), finite(sizes.get("train"))),
            number(count(sizes.get("held_out")), finite(sizes.get("held_out"))),
            number(count(fold.get("best_epoch")), finite(fold.get("best_epoch"))),
            number(duration(fold.get("seconds")), finite(fold.get("seconds"))),
        ]
        rows.append(Row(cells))
    return Table(columns, rows, "Folds", sortable=True, tall=len(folds) > 14)
