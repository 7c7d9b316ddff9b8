"""What can never be pushed is refused before it costs anything."""

import math
from typing import TYPE_CHECKING

from headrace.components.gates.config import QualityGate

if TYPE_CHECKING:
    from .config import RunConfig

__all__ = ["check_pushable"]

_DECIDED = ("binary", "multilabel")
"""Tasks whose decisions take a threshold; the others take the best class, or a number."""

_SHARES = (
    "accuracy", "auc", "pr_auc", "precision", "recall", "f1", "macro_f1", "weighted_f1", "top_k_accuracy",
    "calibration_error", "subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1",
    "micro_auc", "micro_pr_auc",
)  # fmt: skip
_LARGEST = dict.fromkeys(_SHARES, 1.0) | {"r2": 1.0}
_SMALLEST = dict.fromkeys((*_SHARES, "log_loss", "rmse", "mae", "median_ae", "mape"), 0.0)


def check_pushable(config: "RunConfig") -> None:
    """Raise ValueError if a section asks for what this task, or these gates, can never give."""
    if config.preprocessing_fn is not None and config.push.lite is not None:
        raise ValueError(
            "`push.lite` must be null with `preprocessing_fn`: devices apply no transform of your own, and "
            f"nothing would ever be pushed. Received: {config.push.lite}"
        )
    threshold, task = config.evaluation.threshold, config.data.task
    if task not in _DECIDED and threshold != type(config.evaluation)().threshold:
        raise ValueError(
            f"`evaluation.threshold` goes with binary and multilabel tasks. Received: {threshold} ({task})"
        )
    for number, gate in enumerate(config.gates.quality):
        _check_bounds(gate, f"gates.quality.{number}")


def _check_bounds(gate: QualityGate, place: str) -> None:
    metric = gate.metric
    if gate.min is not None and gate.min > _LARGEST.get(metric, math.inf):
        raise ValueError(
            f"`{place}.min` must be at most {_LARGEST[metric]:g}, the best {metric}. Received: {gate.min:g}"
        )
    if gate.max is not None and gate.max < _SMALLEST.get(metric, -math.inf):
        raise ValueError(
            f"`{place}.max` must be at least {_SMALLEST[metric]:g}, the least. Received: {gate.max:g}"
        )
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        raise ValueError(f"`{place}.min` must be at most its `max`. Received: {gate.min:g} and {gate.max:g}")
