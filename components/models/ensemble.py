"""Family `ensemble`: members of one family and different seeds, their scores averaged."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from .config import EnsembleConfig
from .inputs import read_inputs
from .output import Output
from .phases import Phase

__all__ = ["average", "build", "load_pretrained", "parts", "phases"]

_MEMBER = "member_"


def build(
    features: Mapping[str, Any], config: EnsembleConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    from .registry import build_model  # which imports this module

    inputs = read_inputs(features)
    answers = []
    for place in range(config.size):
        member = build_model(
            features, config.member, output, seed=seed + place, precision=precision, pretrained=False
        )
        member.name = f"{_MEMBER}{place}"
        answers.append(member(inputs.tensors))
    return keras.Model(inputs.tensors, average(answers, output), name="ensemble")


def load_pretrained(model: Any, config: EnsembleConfig) -> None:
    """Give each member the pretrained weights that its section names, if any."""
    from .registry import FAMILIES

    family = FAMILIES[config.member.family]
    if hasattr(family, "load_pretrained"):
        for member in parts(model):
            family.load_pretrained(member, config.member)


def phases(config: EnsembleConfig) -> tuple[Phase, ...]:
    """Return the phases of each member."""
    from .registry import phases as phases_of

    return phases_of(config.member)


def parts(model: Any) -> list[Any]:
    """Return the members, in the order of their seeds."""
    return [layer for layer in model.layers if layer.name.startswith(_MEMBER)]


def average(answers: list[Any], output: Output) -> Any:
    """Return logits whose scores are the mean of the members' scores (regression: the mean).

    Args:
        answers: Logits of each member, float32 `[rows, output.logits]`.
        output: Task and classes.
    """
    if output.task == "regression":
        return sum(answers[1:], answers[0]) / len(answers)
    if output.task == "multiclass":
        return _log_mean([ops.log_softmax(logits, axis=-1) for logits in answers])
    yes = _log_mean([_log_sigmoid(logits) for logits in answers])
    no = _log_mean([_log_sigmoid(-logits) for logits in answers])
    return yes - no


def _log_mean(logs: list[Any]) -> Any:
    """Return the logarithm of the mean of numbers whose logarithms are given, exact where all are tiny."""
    highest = logs[0]
    for values in logs[1:]:
        highest = ops.maximum(highest, values)
    total = sum((ops.exp(values - highest) for values in logs[1:]), ops.exp(logs[0] - highest))
    return highest + ops.log(total / len(logs))


def _log_sigmoid(logits: Any) -> Any:
    """Return log(sigmoid(logits)); from operators that TF Lite has."""
    return ops.minimum(logits, 0.0) - ops.log(1.0 + ops.exp(-ops.abs(logits)))
