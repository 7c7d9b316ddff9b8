"""What a model answers: one logit for two classes, K logits for more, one number for regression."""

import math
from dataclasses import dataclass
from typing import Any

from headrace.data.config import Task

__all__ = ["Output", "TargetScale", "output_of"]


@dataclass(frozen=True)
class TargetScale:
    """How a regression target is scaled for training: z = (f(y) - subtract) / divide.

    Attributes:
        log: Whether f is log(1 + y), for y > -1; otherwise f is the identity.
        subtract: On the scale of f.
        divide: On the scale of f, > 0.
        ceiling: With `log`, on the scale of f: answers are cut off here, since a row unlike all others may
            lead to a number whose exponential is infinite.
    """

    log: bool = False
    subtract: float = 0.0
    divide: float = 1.0
    ceiling: float = math.inf


@dataclass(frozen=True)
class Output:
    """Task and classes of a model.

    Attributes:
        task: What is predicted.
        classes: Label values in output order (binary: the last is positive); empty for regression.
        target: What the serving signatures invert for regression: the model itself answers on the
            scaled target.
    """

    task: Task
    classes: tuple[str, ...] = ()
    target: TargetScale = TargetScale()

    @property
    def logits(self) -> int:
        """Width of the model's output: 1 for binary and regression, else the number of classes."""
        return len(self.classes) if self.task in ("multiclass", "multilabel") else 1


def output_of(features: dict[str, Any], target: TargetScale | None = None) -> Output:
    """Return the output that the label in `features` (the content of features.json) asks for.

    Args:
        features: Content of features.json.
        target: Scale of a regression target, as `keras/model.json` keeps it under `target`.
    """
    label = features["label"]
    return Output(label["task"], tuple(label["classes"] or ()), target or TargetScale())
