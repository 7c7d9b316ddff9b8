"""Family `transformer`: an encoder over series and texts."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .config import TransformerConfig
from .head import hidden_layers, logits
from .inputs import (
    Entry,
    encode,
    join,
    lowest,
    penalty,
    pool_steps,
    read_inputs,
    require,
    step_mask,
    token_vectors,
)
from .output import Output

__all__ = ["FirstStep", "Positions", "build"]


def build(
    features: Mapping[str, Any], config: TransformerConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    trunks = [_trunk(entry, config) for entry in require(inputs, config.family, "series", "tokens")]
    others = [encode(entry, config) for entry in inputs.but("series", "tokens")]
    x = logits(hidden_layers(join([*trunks, *others]), config), config, output)
    return keras.Model(inputs.tensors, x, name="transformer")


def _trunk(entry: Entry, config: TransformerConfig) -> Any:
    if entry.role == "tokens":
        x = token_vectors(entry, config, config.dim)
    else:
        x = _dense(config.dim, config, f"steps_{entry.place}")(entry.tensor)
    mask = step_mask(entry)
    if config.positions != "none":
        x = Positions(config.positions, name=f"positions_{entry.place}")(x)
    if config.pool == "cls":
        x = FirstStep(name=f"cls_{entry.place}")(x)
        mask = ops.pad(mask, ((0, 0), (1, 0)), constant_values=True)
    for block in range(config.blocks):
        x = _block(x, mask, f"{entry.place}_{block}", config)
    x = layers.LayerNormalization(name=f"norm_{entry.place}")(x)
    return x[:, 0] if config.pool == "cls" else pool_steps(x, mask, (config.pool,))


def _block(x: Any, mask: Any, name: str, config: TransformerConfig) -> Any:
    y = layers.LayerNormalization(name=f"attention_norm_{name}")(x)
    x = x + _dropped(_attention(y, mask, name, config), f"attention_dropout_{name}", config)
    y = layers.LayerNormalization(name=f"dense_norm_{name}")(x)
    y = _dense(config.feedforward, config, f"up_{name}", config.activation)(y)
    y = _dense(config.dim, config, f"down_{name}")(_dropped(y, f"up_dropout_{name}", config))
    return x + _dropped(y, f"down_dropout_{name}", config)


def _attention(x: Any, mask: Any, name: str, config: TransformerConfig) -> Any:
    """Let steps `[rows, steps, dim]` look at all steps that `mask` `[rows, steps]` allows.

    Made of dense layers, since `MultiHeadAttention` starts queries and keys from equal weights when it is
    given a seed, and its einsums convert to slower TF Lite operators.
    """
    steps, size = int(x.shape[1]), config.dim // config.heads

    def heads(part: str) -> Any:
        y = ops.reshape(_dense(config.dim, config, f"{part}_{name}")(x), (-1, steps, config.heads, size))
        return ops.transpose(y, (0, 2, 1, 3))  # [rows, heads, steps, size]

    scores = ops.matmul(heads("query") * (1 / math.sqrt(size)), ops.transpose(heads("key"), (0, 1, 3, 2)))
    allowed = ops.expand_dims(ops.expand_dims(mask, 1), 1)  # [rows, 1, 1, steps]
    weights = ops.softmax(ops.where(allowed, scores, lowest(scores)), axis=-1)
    mixed = ops.matmul(_dropped(weights, f"weights_dropout_{name}", config), heads("value"))
    mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, steps, config.dim))
    return _dense(config.dim, config, f"attention_{name}")(mixed)


def _dropped(x: Any, name: str, config: TransformerConfig) -> Any:
    return layers.Dropout(config.block_dropout, name=name)(x) if config.block_dropout else x


def _dense(units: int, config: TransformerConfig, name: str, activation: str | None = None) -> Any:
    return layers.Dense(
        units, activation=activation, kernel_regularizer=penalty(config.l1, config.l2), name=name
    )


@keras.saving.register_keras_serializable("headrace")
class Positions(layers.Layer):
    """Adds to each step a vector that tells its place.

    Args:
        kind: `learned`, or `sinusoidal`: sines and cosines of wavelengths from 2 pi to 10,000 * 2 pi.

    Input and output shape: `[rows, steps, dim]`.
    """

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def build(self, shape: Any) -> None:
        """Make the table of positions."""
        steps, dim = int(shape[1]), int(shape[2])
        if self.kind == "learned":
            start = keras.initializers.RandomNormal(0.0, 0.02)
            self.table = self.add_weight(shape=(steps, dim), initializer=start, name="table")
            return
        angles = np.arange(steps)[:, None] / 10_000 ** (2 * (np.arange(dim) // 2) / dim)
        self.table = np.where(np.arange(dim) % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32)

    def call(self, x: Any) -> Any:
        """Add the positions."""
        return x + ops.cast(self.table, x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("headrace")
class FirstStep(layers.Layer):
    """Puts one learned step before all others: `[rows, steps, dim]` to `[rows, steps + 1, dim]`."""

    def build(self, shape: Any) -> None:
        """Make the step."""
        start = keras.initializers.RandomNormal(0.0, 0.02)
        self.step = self.add_weight(shape=(1, 1, int(shape[2])), initializer=start, name="step")

    def call(self, x: Any) -> Any:
        """Prepend the step."""
        first = ops.zeros_like(x[:, :1]) + ops.cast(self.step, x.dtype)
        return ops.concatenate([first, x], axis=1)
