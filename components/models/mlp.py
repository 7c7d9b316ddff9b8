"""Family `mlp`: categories become vectors, everything is joined, dense layers follow."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from .config import MlpConfig
from .head import hidden_layers, logits
from .inputs import encode, join, linear_term, read_inputs
from .output import Output

__all__ = ["build"]

_NUMBERS = ("dense", "image", "series")


def build(features: Mapping[str, Any], config: MlpConfig, output: Output, seed: int, precision: str) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    x = join([encode(entry, config, flat_images=True) for entry in inputs.entries])
    x = logits(hidden_layers(x, config, batch_norm=config.batch_norm), config, output)
    if config.linear_terms:
        terms = [linear_term(entry, output.logits) for entry in inputs.but(*_NUMBERS)]
        if terms:
            x = layers.Add(name="logits_and_terms", dtype="float32")([x, *terms])
    return keras.Model(inputs.tensors, x, name="mlp")
