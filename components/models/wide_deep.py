"""Family `wide_deep`: a linear model and dense layers over embeddings, their logits added."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from .config import WideDeepConfig
from .head import hidden_layers, logits
from .inputs import Entry, encode, join, linear_term, penalty, read_inputs
from .output import Output

__all__ = ["build"]

_CATEGORIES = ("index", "indices", "tokens", "bag")


def build(
    features: Mapping[str, Any], config: WideDeepConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    inputs = read_inputs(features)
    vectors = {
        entry.place: encode(entry, config, flat_images=True)
        for entry in inputs.entries
        if config.hidden or entry.role not in _CATEGORIES
    }
    parts = [_wide(entry, vectors.get(entry.place), config, output) for entry in inputs.entries]
    if config.hidden:
        x = join(list(vectors.values()))
        parts.append(logits(hidden_layers(x, config, batch_norm=config.batch_norm), config, output))
    else:
        # The bias that the dense layers otherwise bring.
        parts[0] = _Bias(dtype="float32", name="bias")(parts[0])
    x = parts[0] if len(parts) == 1 else layers.Add(name="logits_sum", dtype="float32")(parts)
    return keras.Model(inputs.tensors, x, name="wide_deep")


def _wide(entry: Entry, vector: Any, config: WideDeepConfig, output: Output) -> Any:
    """Return the linear model's share of one input: float32 `[rows, output.logits]`.

    Args:
        entry: The input.
        vector: Its numbers, float `[rows, n]`; not needed of categories.
        config: Gives `wide_l1` and `wide_l2`.
        output: Task and classes.
    """
    regularizer = penalty(config.wide_l1, config.wide_l2)
    if entry.role in _CATEGORIES:
        return linear_term(entry, output.logits, regularizer)
    return layers.Dense(
        output.logits,
        use_bias=False,
        kernel_initializer="zeros",
        kernel_regularizer=regularizer,
        dtype="float32",
        name=f"wide_{entry.place}",
    )(vector)


@keras.saving.register_keras_serializable("headrace")
class _Bias(layers.Layer):
    """Adds one learned number a column."""

    def build(self, shape: Any) -> None:
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x + self.bias
