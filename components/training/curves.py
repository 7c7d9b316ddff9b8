"""What the learning curves say, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from .settings import Monitor

__all__ = ["curve_hint"]

_CLEAR = 0.02
"""Relative change of a loss that is taken for more than chance."""


def curve_hint(epochs: Sequence[Mapping[str, Any]], monitor: Monitor, limit: int) -> str:
    """Return a sentence on over- or underfitting.

    Args:
        epochs: `{epoch, logs}`, first to last, of one fit.
        monitor: Log name and direction that chose the best epoch.
        limit: Epochs that the fit might have taken.
    """
    known = [
        entry
        for entry in epochs
        if entry["logs"].get("loss") is not None and entry["logs"].get("val_loss") is not None
    ]
    if len(known) < 2:
        return "Too few epochs to tell over- from underfitting."
    train, judged = ([entry["logs"][name] for entry in known] for name in ("loss", "val_loss"))
    lowest = min(range(len(judged)), key=judged.__getitem__)
    size = max(abs(judged[lowest]), 1e-12)
    rise = (judged[-1] - judged[lowest]) / size
    if rise > _CLEAR and train[-1] < train[lowest]:
        return (
            f"Overfitting after epoch {known[lowest]['epoch']}: the loss on eval rose by {rise:.0%} while "
            "that on train went on falling. More rows, dropout, weight decay or augmentation may help; the "
            "best epoch was kept."
        )
    gained = (judged[0] - judged[lowest]) / max(abs(judged[0]), 1e-12)
    if gained < _CLEAR and train[0] - train[-1] < _CLEAR * max(abs(train[0]), 1e-12):
        return (
            "Underfitting: the losses hardly moved. A higher learning rate, a larger model or other features "
            "may help."
        )
    name, sign = monitor[0], 1 if monitor[1] == "min" else -1
    values = [sign * entry["logs"].get(name, float("inf")) for entry in known]
    if len(epochs) >= limit and values[-1] == min(values) and judged[-2] - judged[-1] > _CLEAR / 10 * size:
        return f"Still improving at the last epoch, {known[-1]['epoch']}: more epochs may help."
    gap = (judged[lowest] - train[lowest]) / max(abs(judged[lowest]), 1e-12)
    if gap > 0.25:
        return (
            f"At its best the loss on train is {gap:.0%} below that on eval: the model knows the training "
            "rows better than new ones. More rows or regularisation may help."
        )
    return (
        "The losses on train and eval went down together and levelled off: no sign of over- or underfitting."
    )
