"""Learning curves and permutation importance."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.bars import Bar, bars
from ..charts.lines import Line, lines
from ..facts import Facts
from ..metrics import LESS_IS_BETTER
from ..numbers import DASH, count, duration, finite, metric, metric_title, significant
from ..svg import thin

__all__ = ["importance", "training"]

_RATES = ("learning_rate", "lr")
_MOST_PANELS = 6


def importance(facts: Facts) -> dict[str, Any] | None:
    """Return the drop of the main metric when each column is shuffled, largest first."""
    listed = facts.shown("evaluation", "importance") or []
    known = [(item, value) for item in listed if (value := finite(item.get("drop"))) is not None]
    if not known:
        return None
    known.sort(key=lambda pair: -pair[1])
    key = str(known[0][0].get("metric") or "metric")
    name, moves = metric_title(key), "rises" if key in LESS_IS_BETTER else "drops"
    change = "Rise" if moves == "rises" else "Drop"
    drawn = []
    for item, value in known[:30]:
        std = finite(item.get("std")) or None
        tip = f"{item.get('feature')}: {name} {moves} by {metric(value)}" + (
            f" (standard deviation {significant(std, 2)})" if std else ""
        )
        drawn.append(Bar(str(item.get("feature")), value, metric(value), std, tip))
    label = f"Permutation importance: {change.lower()} of {name} when a column is shuffled"
    title = f"{change} of {name} when the column is shuffled"
    return {"svg": bars(drawn, title, label), "metric": name, "moves": moves}


def training(facts: Facts) -> dict[str, Any] | None:
    """Return learning curves, train and eval in one panel a metric."""
    history = facts.evidence.get("history") or {}
    epochs = [epoch for epoch in history.get("epochs") or () if epoch.get("logs")]
    if not epochs:
        return None
    names = list(dict.fromkeys(key.removeprefix("val_") for epoch in epochs for key in epoch["logs"]))
    monitor = str(history.get("monitor") or "").removeprefix("val_")
    first = [name for name in ("loss", monitor) if name in names]
    last = [name for name in names if name in _RATES]
    ordered = list(dict.fromkeys([*first, *[n for n in names if n not in (*first, *last)]]))
    panels = [*ordered[: _MOST_PANELS - len(last)], *last]
    best = finite(history.get("best_epoch"))
    return {
        "panels": [{"title": metric_title(name), "svg": _panel(name, epochs, best)} for name in panels],
        "facts": _history_facts(history, epochs),
        "hint": str(history.get("hint") or ""),
        "rates": _rate_finder(facts.evidence.get("lr_finder") or {}),
        "validated": any(key.startswith("val_") for epoch in epochs for key in epoch["logs"]),
    }


def _rate_finder(found: Mapping[str, Any]) -> Any:
    """Return the loss over rising learning rates, or None."""
    rates, losses = found.get("learning_rates") or [], found.get("losses") or []
    if len(rates) < 2 or len(rates) != len(losses):
        return None
    suggested = finite(found.get("suggested"))
    tips = [
        f"learning rate {significant(x, 2)}: loss {metric(y)}" for x, y in zip(rates, losses, strict=True)
    ]
    drawn = [Line("loss", "s0", rates, losses, tips)]
    at = (suggested, f"suggested: {significant(suggested, 2)}") if suggested is not None else None
    label = "Loss over the learning rate, in a short sweep"
    return lines(drawn, label, "Learning rate", "Loss (smoothed)", at=at, x_log=True, height=230)


def _panel(name: str, epochs: Sequence[Mapping[str, Any]], best: float | None) -> Any:
    xs = [float(epoch["epoch"]) for epoch in epochs]
    drawn = []
    for key, words, mark in ((name, "train", "s0"), (f"val_{name}", "eval", "s1")):
        ys = [finite(epoch["logs"].get(key)) for epoch in epochs]
        if any(y is not None for y in ys):
            words = words if name not in _RATES else metric_title(name)
            shown = significant if name in _RATES else metric
            tips = [f"epoch {x:g}, {words}: {shown(y)}" for x, y in zip(xs, ys, strict=True)]
            drawn.append(Line(words, mark, xs, ys, tips, dots=len(xs) <= 40))
    steps = xs if len(xs) <= 8 else [round(x) for x in thin(xs, 6)]
    at = (best, f"best: epoch {best:g}") if best is not None and min(xs) <= best <= max(xs) else None
    room = (min(xs) - 0.3, max(xs) + 0.3)
    positive = [line_y for line in drawn for line_y in line.ys if line_y]
    log = name in _RATES and bool(positive) and max(positive) / min(positive) > 20
    y_range = (min(positive) * 0.8, max(positive) * 1.25) if log else None
    label = f"{metric_title(name)} by epoch"
    return lines(drawn, label, "Epoch", "", room, y_range, at=at, x_ticks=steps, y_log=log, height=230)


def _history_facts(history: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    seconds = [finite(epoch.get("seconds")) for epoch in epochs]
    found = [
        ("Epochs", count(len(epochs))),
        ("Best epoch", count(history.get("best_epoch"))),
        ("Monitored", str(history.get("monitor") or DASH)),
        ("Steps an epoch", count(history.get("steps_per_epoch"))),
        ("Time in epochs", duration(sum(s for s in seconds if s is not None)) if any(seconds) else DASH),
        ("Device", str(history.get("device") or DASH)),
        ("Strategy", str(history.get("strategy") or DASH)),
        ("Precision", str(history.get("precision") or DASH)),
    ]
    return [(name, value) for name, value in found if value != DASH]
