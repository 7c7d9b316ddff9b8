"""The search space: checked against the sections that it changes, before anything heavy starts."""

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from headrace.components.models.config import ModelConfig
from headrace.components.training.config import TrainingConfig
from headrace.components.training.settings import METRICS, Monitor, apply_values, resolve_monitor
from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .config import SearchRange, TuningConfig

__all__ = ["check_search", "choice_kind", "own_values", "resolve_objective", "searchable_fields"]

_NO_BEARING = {
    "model.family": "the other fields depend on it",
    "training.epochs": "trials take `tuning.epochs`",
    "training.tensorboard": "it has no bearing on the score",
    "training.backup": "it has no bearing on the score",
    "training.cache": "it has no bearing on the score",
    "training.shuffle_buffer": "it has no bearing on the score",
    "training.strategy": "it has no bearing on the score",
    "training.mixed_precision": "it has no bearing on the score",
}


def check_search(
    tuning: TuningConfig, model: ModelConfig, training: TrainingConfig, task: Task | None = None
) -> None:
    """Check that every value the search may pick gives valid sections.

    Args:
        tuning: The `tuning` section.
        model: The `model` section that trials change.
        training: The `training` section that trials change.
        task: What is predicted, to check the objective; None accepts the objective of any task.

    Raises:
        ConfigError: If a field does not exist or cannot be searched, a value is out of its range, or the
            objective is no log of the task.
    """
    if not tuning.enabled:
        return
    if not tuning.search:
        raise ConfigError("`tuning.search` must name at least one field. Received: {}")
    _check_objective(tuning.objective, task)
    sections: dict[str, BaseModel] = {"model": model, "training": training}
    known = searchable_fields(sections)
    for field, limits in tuning.search.items():
        place = f"tuning.search.{field}"
        if field in _NO_BEARING:
            raise ConfigError(f"`{place}` cannot be searched: {_NO_BEARING[field]}. Received: {field}")
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "Choose one of " + ", ".join(known)
            raise ConfigError(
                f"`tuning.search` must name fields under model or training. Received: {field}", hint
            )
        _check_range(limits, place)
        for value in _probes(limits):
            _check_value(sections, field, value, place)


def searchable_fields(sections: Mapping[str, BaseModel]) -> list[str]:
    """Return the dotted fields that a search may name, those of optional parts included."""
    found: list[str] = []
    for name, section in sections.items():
        found.extend(_fields(name, type(section)))
    return [field for field in found if field not in _NO_BEARING]


def choice_kind(values: tuple[object, ...]) -> Literal["number", "json"]:
    """Return how Keras Tuner is given a choice: as ordered numbers, or each value as JSON text."""
    kinds = {type(value) for value in values}
    return "number" if kinds in ({int}, {float}) else "json"


def own_values(search: Mapping[str, SearchRange], sections: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values that the config itself gives the searched fields, or None if one is out of range.

    Args:
        search: Dotted field -> range.
        sections: `model` and `training` as plain JSON values.
    """
    found: dict[str, Any] = {}
    for field, limits in search.items():
        value: Any = sections
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        bounds = limits.float or limits.int
        if bounds is None:
            if json.dumps(value) not in [json.dumps(choice) for choice in limits.choice]:
                return None
        elif not isinstance(value, int | float) or not _in_range(value, bounds, limits):
            return None
        found[field] = value
    return found


def _in_range(value: float, bounds: tuple[float, float], limits: SearchRange) -> bool:
    """Return whether the search itself may pick `value`."""
    if not bounds[0] <= value <= bounds[1]:
        return False
    if limits.step is None:
        return True
    steps = math.log(value / bounds[0], limits.step) if limits.log else (value - bounds[0]) / limits.step
    return abs(steps - round(steps)) < 1e-6


def resolve_objective(objective: str, task: Task) -> Monitor:
    """Return the log on eval and the direction that `tuning.objective` means."""
    return resolve_monitor(objective, task, "tuning.objective")


def _check_objective(objective: str, task: Task | None) -> None:
    if task is not None:
        resolve_objective(objective, task)
        return
    known = {name for names in METRICS.values() for name in names}
    if objective != "auto" and objective.removeprefix("val_") not in known:
        raise ConfigError(
            f"`tuning.objective` must be auto or one of {', '.join(f'val_{n}' for n in sorted(known))}. "
            f"Received: {objective}"
        )


def _fields(prefix: str, section: type[BaseModel]) -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        found.append(f"{prefix}.{name}")
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found.extend(_fields(f"{prefix}.{name}", part))
    return found


def _check_range(limits: SearchRange, place: str) -> None:
    bounds = limits.float or limits.int
    if bounds is None:
        if len({json.dumps(value, sort_keys=True) for value in limits.choice}) != len(limits.choice):
            raise ConfigError(f"`{place}.choice` must hold distinct values. Received: {list(limits.choice)}")
        return
    if limits.step is None:
        return
    widest = bounds[1] / bounds[0] if limits.log else bounds[1] - bounds[0]
    if limits.step > widest or (limits.log and limits.step <= 1):
        rule = "a factor above 1 that fits into the range" if limits.log else "no wider than the range"
        raise ConfigError(f"`{place}.step` must be {rule}. Received: {limits.step:g}")
    if limits.int is not None and limits.step != int(limits.step):
        raise ConfigError(f"`{place}.step` must be whole for `int`. Received: {limits.step:g}")


def _probes(limits: SearchRange) -> tuple[Any, ...]:
    """Return every listed value, or both ends and a value between them that is not round."""
    if limits.int is not None:
        return limits.int
    if limits.float is not None:
        low, high = limits.float
        return (low, low + (high - low) / 3, high)
    return limits.choice


def _check_value(sections: Mapping[str, BaseModel], field: str, value: Any, place: str) -> None:
    name = field.partition(".")[0]
    plain = {key: section.model_dump(mode="json") for key, section in sections.items()}
    changed = apply_values(plain, {field: value})
    try:
        type(sections[name]).model_validate(changed[name])
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"`{place}` must only hold values that `{field}` takes: {reason}. Received: {json.dumps(value)}"
        ) from error
