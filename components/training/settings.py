"""What training is told: tuned values laid over sections, and what suits a task."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, Literal

from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .config import TrainingConfig

__all__ = [
    "METRICS",
    "Monitor",
    "apply_values",
    "check_training",
    "loss_kind",
    "main_monitor",
    "resolve_monitor",
]

METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("loss", "auc", "accuracy"),
    "multiclass": ("loss", "accuracy"),
    "multilabel": ("loss", "auc", "accuracy"),
    "regression": ("loss", "rmse", "mae"),
}
"""Keras logs of each task; `val_` before a name means the eval split."""

_MAXIMISED = {"auc", "accuracy"}

_LOSSES: Mapping[Task, tuple[str, ...]] = {
    "binary": ("cross_entropy", "focal", "hinge", "custom"),
    "multiclass": ("cross_entropy", "focal", "hinge", "custom"),
    "multilabel": ("cross_entropy", "focal", "hinge", "custom"),
    "regression": ("mse", "mae", "huber", "quantile", "msle", "custom"),
}
"""What `training.loss.kind` may be; the first is what `auto` stands for."""

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
        mains = {"multiclass": "val_accuracy", "regression": "val_loss"}
        name = mains.get(task, "val_auc")
    metric = name.removeprefix("val_")
    if metric not in METRICS[task]:
        valid = [prefix + known for known in METRICS[task] for prefix in ("val_", "")]
        raise ConfigError(
            f"`{place}` must be auto or one of {', '.join(valid)} for {task} tasks. Received: {name}"
        )
    return name, "max" if metric in _MAXIMISED else "min"


def loss_kind(training: TrainingConfig, task: Task) -> str:
    """Return `training.loss.kind` with `auto` resolved for `task`."""
    return _LOSSES[task][0] if training.loss.kind == "auto" else training.loss.kind


def check_training(training: TrainingConfig, task: Task, kinds: Collection[str] | None = None) -> None:
    """Check that loss, target, sampling and augmentation suit the task and the features.

    Args:
        training: The `training` section.
        task: What is predicted.
        kinds: The kinds of the config's features; None where they are not known (a user's own
            preprocessing_fn).

    Raises:
        ConfigError: If something does not suit.
    """
    if training.early_stopping is not None:
        resolve_monitor(training.early_stopping.monitor, task)
    _check_loss(training, task)
    if task == "regression" and training.class_weights != "none":
        raise ConfigError(
            f"`training.class_weights` must be none for regression. Received: {training.class_weights}"
        )
    if task != "regression" and training.target.log:
        raise ConfigError(f"`training.target.log` goes with regression. Received: a {task} task")
    if training.sampling != "none" and task not in ("binary", "multiclass"):
        raise ConfigError(
            f"`training.sampling` must be none for {task} tasks. Received: {training.sampling}",
            "use `training.class_weights` or `data.weight`" if task == "multilabel" else "use `data.weight`",
        )
    if kinds is not None:
        _check_kinds(training, kinds)


def _check_loss(training: TrainingConfig, task: Task) -> None:
    kind = loss_kind(training, task)
    if kind not in _LOSSES[task]:
        raise ConfigError(
            f"`training.loss.kind` must be auto or one of {', '.join(_LOSSES[task])} for {task} tasks. "
            f"Received: {kind}"
        )
    if kind == "focal" and task == "multiclass" and training.loss.alpha is not None:
        raise ConfigError(
            "`training.loss.alpha` goes with binary and multilabel tasks. Received: a multiclass task",
            "weigh classes with `training.class_weights`",
        )
    if training.loss.label_smoothing and task == "regression":
        raise ConfigError("`training.loss.label_smoothing` goes with classes. Received: a regression task")
    if kind == "hinge" and training.augment is not None and training.augment.mixup:
        raise ConfigError(
            "`training.augment.mixup` needs a loss that takes shares of classes. Received: hinge",
            "use `training.loss.kind: cross_entropy`",
        )


_NUMBERS = ("numeric", "date")


def _check_kinds(training: TrainingConfig, kinds: Collection[str]) -> None:
    wanted = []
    if training.augment is not None:
        parts = {"image": ("image",), "text": ("text",), "series": ("series",), "tabular": _NUMBERS}
        for part, needed in parts.items():
            section = getattr(training.augment, part)
            if section != type(section)():
                wanted.append((f"augment.{part}", needed))
    if training.sampling == "smote":
        wanted.append(("sampling: smote", _NUMBERS))
    for place, needed in wanted:
        if not set(needed) & set(kinds):
            raise ConfigError(
                f"`training.{place}` needs a feature of kind {' or '.join(needed)}. "
                f"Received: {', '.join(sorted(set(kinds))) or 'none'}"
            )


def apply_values(sections: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `sections` with each dotted field of `values` set.

    With another `model.family`, the rest of `model` is what `values` say and the defaults of that family.

    Args:
        sections: Section name -> plain JSON values, such as `{"model": {...}, "training": {...}}`.
        values: Dotted field -> value, such as `{"training.learning_rate": 0.01}`.

    Example:
        >>> apply_values({"model": {"dropout": 0.1}}, {"model.dropout": 0.3})
        {'model': {'dropout': 0.3}}
    """
    changed = copy.deepcopy({name: dict(section) for name, section in sections.items()})
    family = values.get("model.family")
    if family is not None and family != changed["model"].get("family"):
        changed["model"] = {"family": family}  # the fields of one family mean nothing to another
    for field, value in values.items():
        *parents, last = field.split(".")
        target = changed
        for parent in parents:
            if target.get(parent) is None:  # an optional part that was switched off
                target[parent] = {}
            target = target[parent]
        target[last] = value
    return changed
