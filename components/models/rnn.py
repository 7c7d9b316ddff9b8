"""Family `rnn`: recurrent layers over series and texts."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from .config import RnnConfig
from .head import hidden_layers, logits
from .inputs import Entry, encode, join, penalty, pool_steps, read_inputs, require, step_mask, token_vectors
from .output import Output

__all__ = ["build"]

_CELLS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple": layers.SimpleRNN}


def build(features: Mapping[str, Any], config: RnnConfig, output: Output, seed: int, precision: str) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    trunks = [_trunk(entry, config) for entry in require(inputs, config.family, "series", "tokens")]
    others = [encode(entry, config) for entry in inputs.but("series", "tokens")]
    x = logits(hidden_layers(join([*trunks, *others]), config), config, output)
    return keras.Model(inputs.tensors, x, name="rnn")


def _trunk(entry: Entry, config: RnnConfig) -> Any:
    x = token_vectors(entry, config) if entry.role == "tokens" else entry.tensor
    mask = step_mask(entry)
    # cuDNN refuses rows without any step; such a row counts as one step of padding, on every device.
    steps = ops.expand_dims(ops.arange(int(mask.shape[1])), 0)
    read = ops.logical_or(mask, ops.equal(steps, 0))
    for place, units in enumerate(config.units):
        if config.layer_dropout:
            x = layers.Dropout(config.layer_dropout, name=f"layer_dropout_{entry.place}_{place}")(x)
        sequences = place < len(config.units) - 1 or config.pool != "last"
        layer = _CELLS[config.cell](
            units,
            return_sequences=sequences,
            kernel_regularizer=penalty(config.l1, config.l2),
            recurrent_regularizer=penalty(config.l1, config.l2),
            name=f"{config.cell}_{entry.place}_{place}",
        )
        if config.bidirectional:
            layer = layers.Bidirectional(layer, name=f"both_{entry.place}_{place}")
        x = layer(x, mask=read)
    return x if config.pool == "last" else pool_steps(x, mask, (config.pool,))
