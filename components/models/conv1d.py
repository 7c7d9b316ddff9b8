"""Family `conv1d`: convolutions along series and texts."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from .config import Conv1dConfig
from .head import BATCH_MOMENTUM, hidden_layers, logits
from .inputs import Entry, encode, join, penalty, pool_steps, read_inputs, require, step_mask, token_vectors
from .output import Output

__all__ = ["build"]


def build(
    features: Mapping[str, Any], config: Conv1dConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    trunks = [_trunk(entry, config) for entry in require(inputs, config.family, "series", "tokens")]
    others = [encode(entry, config) for entry in inputs.but("series", "tokens")]
    x = logits(hidden_layers(join([*trunks, *others]), config), config, output)
    return keras.Model(inputs.tensors, x, name="conv1d")


def _trunk(entry: Entry, config: Conv1dConfig) -> Any:
    x = token_vectors(entry, config) if entry.role == "tokens" else entry.tensor
    mask = step_mask(entry)
    x = _blank(x, mask)
    for place, filters in enumerate(config.filters):
        y = _convolution(
            x, mask, filters, f"{entry.place}_{place}", 2**place if config.dilated else 1, config
        )
        x = x + y if x.shape[-1] == filters else y
    return pool_steps(x, mask, config.pool)


def _convolution(x: Any, mask: Any, filters: int, name: str, dilation: int, config: Conv1dConfig) -> Any:
    x = layers.Conv1D(
        filters,
        config.kernel,
        padding="same",
        dilation_rate=dilation,
        kernel_initializer=keras.initializers.HeUniform(),
        kernel_regularizer=penalty(config.l1, config.l2),
        name=f"conv_{name}",
    )(x)
    if config.norm == "batch":
        x = layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"norm_{name}")(x, mask=mask)
    elif config.norm == "layer":
        x = layers.LayerNormalization(name=f"norm_{name}")(x)
    x = layers.Activation(config.activation, name=f"activation_{name}")(x)
    if config.layer_dropout:
        x = layers.SpatialDropout1D(config.layer_dropout, name=f"layer_dropout_{name}")(x)
    return _blank(x, mask)


def _blank(x: Any, mask: Any) -> Any:
    """Put zeros in place of padding, so that no convolution sees how long the padding is."""
    return x * ops.expand_dims(ops.cast(mask, x.dtype), -1)
