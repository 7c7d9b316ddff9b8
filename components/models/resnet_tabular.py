"""Family `resnet_tabular`: residual blocks over embedded categories and embedded numbers."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from .config import ResnetTabularConfig
from .head import BATCH_MOMENTUM, hidden_layers, logits
from .inputs import Entry, encode, join, penalty, read_inputs
from .output import Output

__all__ = ["NumberEmbedding", "build"]


def build(
    features: Mapping[str, Any], config: ResnetTabularConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    x = join([_encode(entry, config) for entry in inputs.entries])
    x = _dense(config.width, config, "stem")(x)
    for place in range(config.blocks):
        x = _block(x, place, config)
    x = layers.Activation(config.activation, name="activation")(_norm(config, "norm")(x))
    x = logits(hidden_layers(x, config), config, output)
    return keras.Model(inputs.tensors, x, name="resnet_tabular")


def _encode(entry: Entry, config: ResnetTabularConfig) -> Any:
    x = encode(entry, config)
    if entry.role != "dense" or config.numbers == "plain":
        return x
    embedding = NumberEmbedding(
        config.frequencies, config.number_dim, config.frequency_scale, name=f"numbers_{entry.place}"
    )
    return embedding(x)


def _block(x: Any, place: int, config: ResnetTabularConfig) -> Any:
    y = _norm(config, f"norm_{place}")(x)
    y = _dense(max(1, round(config.width * config.expansion)), config, f"up_{place}", config.activation)(y)
    if config.dropout:
        y = layers.Dropout(config.dropout, name=f"block_dropout_{place}")(y)
    y = _dense(config.width, config, f"down_{place}")(y)
    return layers.Add(name=f"add_{place}")([x, y])


def _dense(units: int, config: ResnetTabularConfig, name: str, activation: str | None = None) -> Any:
    return layers.Dense(
        units, activation=activation, kernel_regularizer=penalty(config.l1, config.l2), name=name
    )


def _norm(config: ResnetTabularConfig, name: str) -> Any:
    if config.norm == "batch":
        return layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=name)
    return layers.LayerNormalization(name=name)


@keras.saving.register_keras_serializable("headrace")
class NumberEmbedding(layers.Layer):
    """Turns each number x into (x, W cos(2 pi f x + p) + b), with f, p, W and b of its own.

    Args:
        frequencies: Cosines a number.
        dim: Width of each number's embedding, x itself included.
        scale: Standard deviation of the first frequencies f.

    Input shape: `[rows, numbers]`. Output shape: `[rows, numbers * dim]`.
    """

    def __init__(self, frequencies: int, dim: int, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frequencies, self.dim, self.scale = frequencies, dim, scale

    def build(self, shape: Any) -> None:
        """Make the weights."""
        numbers, count, dim = int(shape[-1]), self.frequencies, self.dim - 1
        uniform, bound = keras.initializers.RandomUniform, 1 / math.sqrt(count)
        self.frequency = self.add_weight(
            shape=(numbers, count),
            initializer=keras.initializers.RandomNormal(0.0, self.scale),
            name="frequency",
        )
        self.phase = self.add_weight(
            shape=(numbers, count), initializer=uniform(-math.pi, math.pi), name="phase"
        )
        self.kernel = self.add_weight(
            shape=(numbers, count, dim), initializer=uniform(-bound, bound), name="kernel"
        )
        self.bias = self.add_weight(shape=(numbers, dim), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        """Embed `[rows, numbers]`."""
        numbers, width = int(x.shape[-1]), int(x.shape[-1]) * self.dim
        waves = ops.cos(2 * math.pi * ops.expand_dims(x, -1) * self.frequency + self.phase)
        mixed = (
            ops.sum(ops.expand_dims(waves, -1) * self.kernel, axis=2) + self.bias
        )  # [rows, numbers, dim - 1]
        both = ops.concatenate([ops.reshape(x, (-1, numbers, 1)), mixed], axis=-1)
        return ops.reshape(both, (-1, width))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        own = {"frequencies": self.frequencies, "dim": self.dim, "scale": self.scale}
        return {**super().get_config(), **own}
