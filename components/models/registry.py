"""Model families by name: a new one is a module with `build` and one line here."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from pydantic import TypeAdapter

from . import (
    cnn,
    conv1d,
    custom,
    ensemble,
    mlp,
    resnet_tabular,
    rnn,
    transfer,
    transformer,
    wide_deep,
)
from .config import ModelConfig
from .output import Output
from .phases import WHOLE, Phase

__all__ = ["FAMILIES", "Phase", "build_model", "parse_model_config", "phases", "training_parts"]

# Imported by name, not by text: a node's cache key follows the imports of its sources.
FAMILIES: Mapping[str, Any] = {
    "mlp": mlp,
    "wide_deep": wide_deep,
    "resnet_tabular": resnet_tabular,
    "cnn": cnn,
    "transfer": transfer,
    "rnn": rnn,
    "conv1d": conv1d,
    "transformer": transformer,
    "custom": custom,
    "ensemble": ensemble,
}
"""Family -> module with `build(features, config, output, seed, precision) -> keras.Model`.

A module may also have `phases(config)`, `parts(model)` (see `training_parts`) and
`load_pretrained(model, config)`.
"""

_ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def parse_model_config(section: Mapping[str, Any]) -> ModelConfig:
    """Return the `model` section of a run config as the class of its family."""
    return _ADAPTER.validate_python(dict(section))


def build_model(
    features: Mapping[str, Any],
    config: ModelConfig,
    output: Output,
    *,
    seed: int = 0,
    precision: str = "float32",
    pretrained: bool = True,
) -> Any:
    """Build a Keras model over the transformed features.

    Args:
        features: Content of features.json: one input per entry of its `features`, under that name, of the
            shape and dtype that `headrace.components.features.spec` tells.
        config: The `model` section.
        output: Task and classes.
        seed: Seed of initial weights and dropout masks.
        precision: Keras dtype policy of the layers inside, `float32` or `mixed_float16`. Variables and
            the output are float32 either way.
        pretrained: Load the pretrained weights that `config` names, if any; False where the model's own
            weights follow anyway.

    Returns:
        An uncompiled functional model; output: logits float32 `[rows, output.logits]`.

    Raises:
        ConfigError: If the family cannot do with these features.
        EnvironmentProblem: If pretrained weights cannot be downloaded.
    """
    family = FAMILIES[config.family]
    with _layer_defaults(seed, precision):
        model = family.build(features, config, output, seed, precision)
    if pretrained and hasattr(family, "load_pretrained"):
        family.load_pretrained(model, config)
    return model


def phases(config: ModelConfig) -> tuple[Phase, ...]:
    """Return the phases that each part is trained in, first to last, at least one."""
    family = FAMILIES[config.family]
    return tuple(family.phases(config)) if hasattr(family, "phases") else WHOLE


def training_parts(model: Any, config: ModelConfig) -> list[Any]:
    """Return the Keras models that are fitted one after another; their variables are those of `model`.

    `[model]` for all families but ensembles. Part i was built with the seed + i, and is fitted with it.
    """
    family = FAMILIES[config.family]
    return list(family.parts(model)) if hasattr(family, "parts") else [model]


@contextlib.contextmanager
def _layer_defaults(seed: int, precision: str) -> Iterator[None]:
    """Give layers built inside that policy, and seeds that follow from `seed`.

    Keras draws the seed of an initializer or a dropout layer that is given none from Python's `random`, so
    every layer gets its own, those of `keras.applications` and of users too.
    """
    policy, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(precision)
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)
