"""The scale of a regression target, fitted on the training split."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.models.output import TargetScale
from headrace.data.errors import HeadraceError

from .config import Target

__all__ = ["fit_target", "scaled", "target_spec", "unscaled"]


_HEADROOM = 1.0  # on the logarithm: answers reach e times the largest label of the training split


def fit_target(target: Target, labels: Iterable[np.ndarray]) -> TargetScale:
    """Return the scale that `target` asks for.

    Args:
        target: The `training.target` section.
        labels: The labels of the training split, in any number of parts.

    Raises:
        HeadraceError: If a label is no finite number, or has no logarithm.
    """
    if not target.log and target.scale == "none":
        return TargetScale()
    rows, mean, squares, largest = 0, 0.0, 0.0, -math.inf
    for part in labels:
        values = part.astype(np.float64).ravel()
        _check(values, target.log)
        values = np.log1p(values) if target.log else values
        if not len(values):
            continue
        # Chan et al., 1979: parts are joined without loss of digits.
        largest = max(largest, float(values.max()))
        shift, total = values.mean() - mean, rows + len(values)
        squares += float(((values - values.mean()) ** 2).sum()) + shift**2 * rows * len(values) / total
        mean += float(shift) * len(values) / total
        rows = total
    ceiling = largest + _HEADROOM if target.log and rows else math.inf
    if target.scale == "none" or not rows:
        return TargetScale(log=target.log, ceiling=ceiling)
    spread = math.sqrt(squares / rows)
    return TargetScale(target.log, mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0, ceiling)


def scaled(labels: Any, target: TargetScale) -> Any:
    """Return float32 labels in their own units on the scale that models are trained on."""
    labels = tf.math.log1p(labels) if target.log else labels
    return (labels - target.subtract) / target.divide


def unscaled(outputs: Any, target: TargetScale) -> Any:
    """Return what a model answers in the label's own units."""
    outputs = outputs * target.divide + target.subtract
    return tf.math.expm1(tf.minimum(outputs, target.ceiling)) if target.log else outputs


def target_spec(target: TargetScale) -> Mapping[str, Any]:
    """Return `target` as `keras/model.json` keeps it."""
    spec: dict[str, Any] = {"log": target.log, "subtract": target.subtract, "divide": target.divide}
    return spec | ({"ceiling": target.ceiling} if math.isfinite(target.ceiling) else {})


def _check(values: np.ndarray, log: bool) -> None:
    if not np.isfinite(values).all():
        raise HeadraceError("labels of a regression must be finite. Received: NaN or infinity")
    if log and len(values) and values.min() <= -1:
        raise HeadraceError(
            f"`training.target.log` needs labels > -1. Received: {values.min():g} (training split)",
            "set `training.target.log: false`",
        )
