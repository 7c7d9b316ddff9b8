"""Family `cnn`: convolutions over images."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from .config import CnnConfig
from .head import BATCH_MOMENTUM, hidden_layers, logits
from .inputs import Entry, encode, join, penalty, read_inputs, require
from .output import Output

__all__ = ["build"]


def build(features: Mapping[str, Any], config: CnnConfig, output: Output, seed: int, precision: str) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    trunks = [_trunk(entry, config) for entry in require(inputs, config.family, "image")]
    others = [encode(entry, config) for entry in inputs.but("image")]
    x = logits(hidden_layers(join([*trunks, *others]), config), config, output)
    return keras.Model(inputs.tensors, x, name="cnn")


def _trunk(entry: Entry, config: CnnConfig) -> Any:
    x = entry.tensor
    for block, filters in enumerate(config.filters):
        name = f"{entry.place}_{block}"
        for place in range(config.convolutions):
            halve = config.pool == "stride" and place == config.convolutions - 1
            x = _convolution(x, filters, 2 if halve else 1, f"{name}_{place}", config)
        if config.pool != "stride":
            pool = layers.MaxPooling2D if config.pool == "max" else layers.AveragePooling2D
            x = pool(2, padding="same", name=f"pool_{name}")(x)
        if config.block_dropout:
            x = layers.SpatialDropout2D(config.block_dropout, name=f"block_dropout_{name}")(x)
    name = f"vector_{entry.place}"
    if config.global_pool == "flatten":
        return layers.Flatten(name=name)(x)
    whole = layers.GlobalMaxPooling2D if config.global_pool == "max" else layers.GlobalAveragePooling2D
    return whole(name=name)(x)


def _convolution(x: Any, filters: int, stride: int, name: str, config: CnnConfig) -> Any:
    # In this order TF Lite folds the batch norm and the activation into the convolution.
    x = layers.Conv2D(
        filters,
        config.kernel,
        strides=stride,
        padding="same",
        use_bias=not config.batch_norm,
        kernel_initializer=keras.initializers.HeUniform(),
        kernel_regularizer=penalty(config.l1, config.l2),
        name=f"conv_{name}",
    )(x)
    if config.batch_norm:
        x = layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"batch_norm_{name}")(x)
    return layers.Activation(config.activation, name=f"activation_{name}")(x)
