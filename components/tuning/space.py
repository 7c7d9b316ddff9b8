"""The search space: checked against the sections that it changes, before anything heavy starts."""

import difflib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from headrace.components.models.config import ModelConfig
from headrace.components.training.config import TrainingConfig
from headrace.components.training.settings import METRICS, Monitor, apply_values, resolve_monitor
from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .conditions import active_fields, in_order, same, switches
from .config import SearchRange, TuningConfig

__all__ = ["check_search", "choice_kind", "own_values", "resolve_objective", "searchable_fields"]

_FAMILY = "model.family"

_NO_BEARING = {
    "training.epochs": "trials take `tuning.epochs`",
    **dict.fromkeys(
        (
            "training.tensorboard",
            "training.tensorboard_histograms",
            "training.monitoring",
            "training.lr_finder",
            "training.callbacks",
            "training.backup",
            "training.cache",
            "training.shuffle_buffer",
            "training.strategy",
            "training.mixed_precision",
            "training.xla",
        ),
        "it has no bearing on the score",
    ),
}

_CHANGES_LOSS = ("training.loss", "training.target", "training.class_weights", "training.sampling")

_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(ModelConfig),
    "training": TypeAdapter(TrainingConfig),
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
            objective is no log of the task, or differs in meaning from trial to trial.
    """
    if not tuning.enabled:
        return
    if not tuning.search:
        raise ConfigError("`tuning.search` must name at least one field. Received: {}")
    _check_objective(tuning, task)
    sections: dict[str, BaseModel] = {"model": model, "training": training}
    known = searchable_fields(sections, every_family=_FAMILY in tuning.search)
    for field, limits in tuning.search.items():
        place = f"tuning.search.{field}"
        if field in _NO_BEARING:
            raise ConfigError(f"`{place}` cannot be searched: {_NO_BEARING[field]}. Received: {field}")
        if field == _FAMILY and not limits.choice:
            raise ConfigError(f"`{place}` must list families as `choice`")
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "Choose one of " + ", ".join(known)
            raise ConfigError(
                f"`tuning.search` must name fields under model or training. Received: {field}", hint
            )
        _check_range(limits, place)
    plain = {name: section.model_dump(mode="json") for name, section in sections.items()}
    for setting in switches(tuning.search, always=(_FAMILY,) if _FAMILY in tuning.search else ()):
        _check_setting(tuning.search, plain, setting)


def searchable_fields(sections: Mapping[str, BaseModel], every_family: bool = False) -> list[str]:
    """Return the dotted fields that a search may name, those of optional parts included.

    Args:
        sections: The `model` and `training` sections.
        every_family: Whether to list the fields of all model families, not just of the config's own.
    """
    found: list[str] = []
    for name, section in sections.items():
        kinds = _models_in(ModelConfig) if name == "model" and every_family else (type(section),)
        for kind in kinds:
            found.extend(_fields(name, kind))
    return [field for field in dict.fromkeys(found) if field not in _NO_BEARING]


def choice_kind(values: tuple[object, ...]) -> Literal["number", "json"]:
    """Return how Keras Tuner is given a choice: as ordered numbers, or each value as JSON text."""
    kinds = {type(value) for value in values}
    return "number" if kinds in ({int}, {float}) else "json"


def own_values(search: Mapping[str, SearchRange], sections: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values that the config itself gives the searched fields, or None if one is out of range.

    Args:
        search: Dotted field -> range.
        sections: `model` and `training` as plain JSON values.

    Returns:
        Values of the fields that take part with those values.
    """
    given: dict[str, Any] = {}
    for field in search:
        value: Any = sections
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        given[field] = value
    active = active_fields(search, given)
    if not all(_may_pick(search[field], given[field]) for field in active):
        return None
    return {field: given[field] for field in active}


def resolve_objective(objective: str, task: Task) -> Monitor:
    """Return the log on eval and the direction that `tuning.objective` means."""
    return resolve_monitor(objective, task, "tuning.objective")


def _may_pick(limits: SearchRange, value: Any) -> bool:
    """Return whether the search itself may pick `value`."""
    bounds = limits.float or limits.int
    if bounds is None:
        return any(same(value, choice) for choice in limits.choice)
    if not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        return False
    if limits.step is None:
        return True
    steps = math.log(value / bounds[0], limits.step) if limits.log else (value - bounds[0]) / limits.step
    return abs(steps - round(steps)) < 1e-6


def _check_objective(tuning: TuningConfig, task: Task | None) -> None:
    objective = tuning.objective
    if task is not None:
        objective = resolve_objective(objective, task)[0]
    else:
        known = {name for names in METRICS.values() for name in names}
        if objective != "auto" and objective.removeprefix("val_") not in known:
            raise ConfigError(
                f"`tuning.objective` must be auto or one of {', '.join(f'val_{n}' for n in sorted(known))}. "
                f"Received: {objective}"
            )
    if objective not in ("loss", "val_loss"):
        return
    for field in tuning.search:
        if any(field == part or field.startswith(f"{part}.") for part in _CHANGES_LOSS):
            raise ConfigError(
                f"`tuning.objective` must be a metric where the search changes what the loss means. "
                f"Received: {objective} with `tuning.search.{field}`",
                "name one, such as val_rmse or val_accuracy",
            )


def _fields(prefix: str, section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}.{name}"
        for part in _models_in(field.annotation):
            yield from _fields(f"{prefix}.{name}", part)


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the sections that a value of this type may be; those inside lists are none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _models_in(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(found for part in typing.get_args(annotation) for found in _models_in(part))
    return ()


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


def _check_setting(
    search: Mapping[str, SearchRange], plain: Mapping[str, Any], setting: Mapping[str, Any]
) -> None:
    """Check every value of every field that takes part with `setting`, one at a time."""
    active = active_fields(search, setting)
    # One may only be valid beside another, as the options of a kind are.
    others = {field: setting[field] if field in setting else _probes(search[field])[0] for field in active}
    for field in (name for name in in_order(search) if name in active):
        for value in _probes(search[field]) if field not in setting else (setting[field],):
            wrong = _mistake(plain, {**setting, field: value}, field)
            if wrong is None:
                continue
            if _mistake(plain, {**others, field: value}, field) is not None:
                raise _refusal(wrong, field, value, setting)
            _check_company(search, plain, others, field, value)


def _check_company(
    search: Mapping[str, SearchRange],
    plain: Mapping[str, Any],
    others: Mapping[str, Any],
    field: str,
    value: Any,
) -> None:
    """Check that a value which is valid only beside others is so beside all that may stand there."""
    for other in others:
        for beside in search[other].choice if other != field else ():
            wrong = _mistake(plain, {**others, other: beside, field: value}, field)
            if wrong is not None:
                raise _refusal(wrong, field, value, {other: beside})


def _mistake(plain: Mapping[str, Any], values: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    """Return pydantic's first error about the section of `field` with `values`, or None."""
    name = field.partition(".")[0]
    try:
        _ADAPTERS[name].validate_python(apply_values(plain, values)[name])
    except ValidationError as error:
        return dict(error.errors()[0])
    return None


def _refusal(wrong: Mapping[str, Any], field: str, value: Any, setting: Mapping[str, Any]) -> ConfigError:
    if wrong["type"] == "extra_forbidden" and _FAMILY in setting:
        return ConfigError(
            f"`tuning.search.{field}` must be a field of every family in `tuning.search.{_FAMILY}`, or say "
            f"`when`. Received: {setting[_FAMILY]}, which has none",
            f"add `when: {{{_FAMILY}: [...]}}` to it",
        )
    hint = f"add `when: {{{next(iter(setting))}: [...]}}` to it" if setting else ""
    reason = str(wrong["msg"]).removeprefix("Value error, ")
    besides = ", ".join(f"{key} {json.dumps(found)}" for key, found in setting.items() if key != field)
    return ConfigError(
        f"`tuning.search.{field}` must only hold values that `{field}` takes: {reason}. "
        f"Received: {json.dumps(value)}{besides and f' with {besides}'}",
        hint if besides else "",
    )
