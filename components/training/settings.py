"""What training is told: tuned values laid over sections, and the metric that it follows."""

import copy
from collections.abc import Mapping
from typing import Any, Literal

from headrace.data.config import Task
from headrace.data.errors import ConfigError

__all__ = ["METRICS", "Monitor", "apply_values", "main_monitor", "resolve_monitor"]

METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("loss", "auc", "accuracy"),
    "multiclass": ("loss", "accuracy"),
    "regression": ("loss", "rmse", "mae"),
}
"""Keras logs of each task; `val_` before a name means the eval split."""

_MAXIMISED = {"auc", "accuracy"}

Monitor = tuple[str, Literal["min", "max"]]
"""Keras log name and the direction in which it is better."""


def main_monitor(task: Task) -> Monitor:
    """Return the log that `auto` stands for: the task's main metric on eval."""
    return resolve_monitor("auto", task)


def resolve_monitor(name: str, task: Task, place: str = "training.early_stopping.monitor") -> Monitor:
    """Return the log and direction that `name` means for `task`.

    Args:
        name: A Keras log name or `auto`.
        task: What is predicted.
        place: Config field to name in an error.

    Raises:
        ConfigError: If training logs no such metric.
    """
    if name == "auto":
        name = {"binary": "val_auc", "multiclass": "val_accuracy", "regression": "val_loss"}[task]
    metric = name.removeprefix("val_")
    if metric not in METRICS[task]:
        valid = [prefix + known for known in METRICS[task] for prefix in ("val_", "")]
        raise ConfigError(
            f"`{place}` must be auto or one of {', '.join(valid)} for {task} tasks. Received: {name}"
        )
    return name, "max" if metric in _MAXIMISED else "min"


def apply_values(sections: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `sections` with each dotted field of `values` set.

    Args:
        sections: Section name -> plain JSON values, such as `{"model": {...}, "training": {...}}`.
        values: Dotted field -> value, such as `{"training.learning_rate": 0.01}`.

    Example:
        >>> apply_values({"model": {"dropout": 0.1}}, {"model.dropout": 0.3})
        {'model': {'dropout': 0.3}}
    """
    changed = copy.deepcopy({name: dict(section) for name, section in sections.items()})
    for field, value in values.items():
        *parents, last = field.split(".")
        target = changed
        for parent in parents:
            if target.get(parent) is None:  # an optional part that was switched off
                target[parent] = {}
            target = target[parent]
        target[last] = value
    return changed
