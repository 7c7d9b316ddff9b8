"""The search for hyperparameters: every trial, their settings, and how each learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.bars import cell_bar
from ..charts.lines import Line, lines
from ..charts.parallel import parallel
from ..facts import Facts
from ..metrics import LESS_IS_BETTER
from ..numbers import DASH, count, duration, finite, metric, significant
from ..svg import thin
from ..table import Cell, Column, Row, Table, number

__all__ = ["tuning"]

_MOST_CURVES = 40


def tuning(facts: Facts) -> dict[str, Any] | None:
    """Return the trials as a table, as parallel coordinates (three or more) and as curves."""
    trials = list(facts.evidence.get("trials") or ())
    if not trials:
        return None
    best = facts.evidence.get("best") or {}
    fields = list(dict.fromkeys(name for trial in trials for name in trial.get("values") or {}))
    objective = str(best.get("objective") or "score")
    scored = [trial for trial in trials if finite(trial.get("score")) is not None]
    chosen = _chosen(scored, best)
    label = f"Tuner trials: hyperparameters and {objective}"
    failed = len(trials) - len(scored)
    return {
        "svg": parallel(scored, fields, chosen, objective, label) if len(scored) >= 3 and fields else None,
        "curves": _curves(scored, chosen, objective),
        "table": _trials(trials, fields, chosen, objective),
        "chosen": chosen,
        "count": count(len(trials)),
        "failed": count(failed) if failed else "",
        "gaps": any(name not in (trial.get("values") or {}) for trial in trials for name in fields),
    }


def _chosen(scored: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Any:
    """Return the name of the trial that best.json tells, or None."""
    same = [trial for trial in scored if best.get("values") and trial.get("values") == best["values"]]
    exact = [trial for trial in same if trial["score"] == best.get("score")]
    return next((trial["trial"] for trial in exact or same), None)


def _curves(scored: Sequence[Mapping[str, Any]], chosen: object, objective: str) -> Any:
    """Return the objective over epochs, a line a trial and the chosen one last; None for single epochs."""
    known = [trial for trial in scored if len(trial.get("curve") or ()) > 1]
    if not known:
        return None
    others = thin([trial for trial in known if trial["trial"] != chosen], _MOST_CURVES)
    drawn = []
    for trial in [*others, *(trial for trial in known if trial["trial"] == chosen)]:
        ys = [finite(value) for value in trial["curve"]]
        xs = [float(epoch) for epoch in range(1, len(ys) + 1)]
        own = trial["trial"] == chosen
        tips = [f"trial {trial['trial']}, epoch {x:g}: {metric(y)}" for x, y in zip(xs, ys, strict=True)]
        drawn.append(Line(f"trial {trial['trial']}", "best" if own else "other", xs, ys, tips))
    longest = max(len(trial["curve"]) for trial in known)
    steps = [float(epoch) for epoch in range(1, longest + 1)]
    steps = steps if longest <= 8 else [round(x) for x in thin(steps, 6)]
    return lines(drawn, f"{objective} of each trial by epoch", "Epoch", objective, x_ticks=steps, height=250)


def _trials(
    trials: Sequence[Mapping[str, Any]], fields: Sequence[str], chosen: object, objective: str
) -> Table:
    columns = [
        Column("Trial"),
        *[Column(name.rpartition(".")[2].replace("_", " "), True, name) for name in fields],
        Column(objective, True),
        Column("Epochs", True),
        Column("Time", True),
        Column("Status"),
    ]
    scores = [score for trial in trials if (score := finite(trial.get("score"))) is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
    name = objective.removeprefix("val_")
    worst, span = (high, low - high) if name == "loss" or name in LESS_IS_BETTER else (low, high - low)
    rows = []
    for trial in trials:
        values = trial.get("values") or {}
        score = finite(trial.get("score"))
        # Trials differ in the third decimal: the bar spans worst to best, with a stub for the worst.
        share = 0.08 + 0.92 * (score - worst) / span if score is not None and span else None
        own = trial.get("trial") == chosen and chosen is not None
        cells = [
            Cell(f"{trial.get('trial')}", note="chosen" if own else "", css="variant pushed" if own else "")
        ]
        cells += [_setting(values[name]) if name in values else Cell("", sort=None) for name in fields]
        cells += [
            number(metric(score), score, note=cell_bar(share, 1.0), css="main"),
            number(count(trial.get("epochs")), finite(trial.get("epochs"))),
            number(duration(trial.get("seconds")), finite(trial.get("seconds"))),
            Cell(str(trial.get("status") or DASH).lower(), hint=str(trial.get("reason") or "")),
        ]
        rows.append(Row(cells))
    return Table(columns, rows, "Tuner trials", sortable=True, tall=len(trials) > 14)


def _setting(value: Any) -> Cell:
    known = finite(value)
    if known is not None:
        return number(significant(known, 3) if isinstance(value, float) else count(known), known)
    if value is None or isinstance(value, bool):
        words = {None: "null", True: "true", False: "false"}[value]
    else:
        words = " × ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return Cell(words, sort=words)
