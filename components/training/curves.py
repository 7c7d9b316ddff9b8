"""What the learning curves say, in a sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .settings import Monitor

__all__ = ["curve_hint"]

_CLEAR = 0.02
"""Relative change of a loss that is taken for more than chance."""

_GAP = 0.25
"""By which part of the loss on eval that on train is lower where a fit is said to know its rows better."""


def curve_hint(epochs: Sequence[Mapping[str, Any]], monitor: Monitor, limit: int) -> str:
    """Return a sentence on over- or underfitting; "" where none of the cases was measured.

    Args:
        epochs: `{epoch, logs}`, first to last, of one fit.
        monitor: Log name and direction that chose the best epoch.
        limit: Epochs that the fit might have taken.
    """
    known = [entry for entry in epochs if _has_losses(entry["logs"])]
    if not known:
        return ""
    if len(known) < 2:
        return "Too few epochs to tell over- from underfitting."
    curves = _Curves(known, monitor, limit)
    return next((sentence for case in _CASES if (sentence := case(curves))), "")


@dataclass(frozen=True)
class _Curves:
    """The epochs of one fit that have both losses, two or more; what chose the best; the most allowed."""

    known: Sequence[Mapping[str, Any]]
    monitor: Monitor
    limit: int

    @property
    def train(self) -> list[float]:
        return [entry["logs"]["loss"] for entry in self.known]

    @property
    def judged(self) -> list[float]:
        return [entry["logs"]["val_loss"] for entry in self.known]

    @property
    def lowest(self) -> int:
        """Place of the lowest loss on eval."""
        return min(range(len(self.judged)), key=self.judged.__getitem__)


def _overfit(curves: _Curves) -> str:
    train, judged, lowest = curves.train, curves.judged, curves.lowest
    rise = _change(judged[lowest], judged[-1])
    if not (rise > _CLEAR and train[-1] < train[lowest]):
        return ""
    return (
        f"Overfitting after epoch {curves.known[lowest]['epoch']}: the loss on eval rose by {rise:.0%} while "
        "that on train fell further. More rows, dropout, weight decay or augmentation may help."
    )


def _diverged(curves: _Curves) -> str:
    rises = [_change(values[0], values[-1]) for values in (curves.train, curves.judged)]
    if min(rises) <= _CLEAR:
        return ""
    return (
        f"The losses rose from the first epoch to the last, by {rises[0]:.0%} on train and {rises[1]:.0%} on "
        "eval. A lower learning rate may help."
    )


def _still(curves: _Curves) -> str:
    moves = [_change(min(values), max(values)) for values in (curves.train, curves.judged)]
    if max(moves) >= _CLEAR:
        return ""
    return (
        f"The losses hardly moved, by {moves[0]:.1%} on train and {moves[1]:.1%} on eval: underfitting, "
        "unless one epoch is enough. A higher learning rate, a larger model or other features may help."
    )


def _improving(curves: _Curves) -> str:
    name, sign = curves.monitor[0], 1 if curves.monitor[1] == "min" else -1
    values = [sign * entry["logs"].get(name, math.inf) for entry in curves.known]
    gained = _change(curves.judged[-1], curves.judged[-2])
    if len(curves.known) < curves.limit or values[-1] != min(values) or gained <= _CLEAR / 10:
        return ""
    return f"Still improving at the last epoch, {curves.known[-1]['epoch']}: more epochs may help."


def _apart(curves: _Curves) -> str:
    train, judged = curves.train[curves.lowest], curves.judged[curves.lowest]
    gap = -_change(judged, train)
    if gap <= _GAP:
        return ""
    return (
        f"At its best the loss on train is {gap:.0%} below that on eval: the model knows the training rows "
        "better than new ones. More rows or regularisation may help."
    )


def _level(curves: _Curves) -> str:
    falls = [-_change(values[0], values[-1]) for values in (curves.train, curves.judged)]
    last = abs(_change(curves.judged[-2], curves.judged[-1]))
    if min(falls) <= _CLEAR or last > _CLEAR or _change(min(curves.judged), curves.judged[-1]) > _CLEAR:
        return ""
    return (
        f"The losses fell, by {falls[0]:.0%} on train and {falls[1]:.0%} on eval, and that on eval levelled "
        "off: no sign of over- or underfitting."
    )


_CASES = (_overfit, _diverged, _still, _improving, _apart, _level)
"""The first that was measured is told."""


def _has_losses(logs: Mapping[str, Any]) -> bool:
    return all(logs.get(name) is not None and math.isfinite(logs[name]) for name in ("loss", "val_loss"))


def _change(before: float, after: float) -> float:
    """Return by which part of its size a loss rose."""
    return (after - before) / max(abs(before), 1e-12)
