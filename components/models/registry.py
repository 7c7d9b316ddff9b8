"""Model families by name: a new one is a module with `build` and one line here."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from .config import ModelConfig
from .output import Output

__all__ = ["FAMILIES", "build_model", "parse_model_config"]

FAMILIES: Mapping[str, str] = {"mlp": "headrace.components.models.mlp"}
"""Family -> module with `build(features, config, output, seed, precision) -> keras.Model`."""


def parse_model_config(section: Mapping[str, Any]) -> ModelConfig:
    """Return the `model` section of a run config as the class of its family."""
    return TypeAdapter(ModelConfig).validate_python(dict(section))


def build_model(
    features: Mapping[str, Any],
    config: ModelConfig,
    output: Output,
    *,
    seed: int = 0,
    precision: str = "float32",
) -> Any:
    """Build a Keras model over the transformed features.

    Args:
        features: Content of features.json: one input per entry of its `features`, under that name;
            dense float32 `[rows, width]`, index int64 `[rows, 1]`, indices int64 `[rows, width]` (-1 pads).
        config: The `model` section.
        output: Task and classes.
        seed: Seed of initial weights and dropout masks.
        precision: Keras dtype policy of the layers inside, `float32` or `mixed_float16`. Variables and
            the output are float32 either way.

    Returns:
        An uncompiled functional model; output: logits float32 `[rows, output.logits]`.
    """
    family = import_module(FAMILIES[config.family])
    return family.build(features, config, output, seed, precision)
