"""Family `mlp`: categories become vectors, everything is joined, dense layers follow."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from .config import MlpConfig
from .output import Output

__all__ = ["build"]


def build(features: Mapping[str, Any], config: MlpConfig, output: Output, seed: int, precision: str) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract."""
    seeds = _Seeds(seed)
    inputs: dict[str, Any] = {}
    parts: list[Any] = []
    terms: list[Any] = []
    for place, spec in enumerate(features["features"]):
        dtype = "float32" if spec["role"] == "dense" else "int64"
        # The key names an input; a layer of that name could meet one of ours or of Keras ("logits", "max").
        column = layers.Input((spec["width"],), dtype=dtype, name=f"input_{place}")
        inputs[spec["name"]] = column
        parts.append(_encode(column, spec, place, config, seeds, precision))
        if config.linear_terms and spec["role"] != "dense":
            terms.append(_linear_term(column, spec, place, output))

    x = parts[0] if len(parts) == 1 else layers.Concatenate(name="joined", dtype=precision)(parts)
    for place, units in enumerate(config.hidden):
        x = _hidden(x, units, place, config, seeds, precision)
    logits = layers.Dense(
        output.logits,
        kernel_initializer=keras.initializers.GlorotUniform(seeds.next()),
        kernel_regularizer=_penalty(config.l1, config.l2),
        dtype="float32",  # float16 logits would round scores to three digits
        name="logits",
    )(x)
    if terms:
        logits = layers.Add(name="logits_and_terms", dtype="float32")([logits, *terms])
    return keras.Model(inputs, logits, name="mlp")


class _Seeds:
    """Distinct seeds, so that equal layers do not start equal."""

    def __init__(self, seed: int) -> None:
        self._last = seed * 10_007

    def next(self) -> int:
        self._last += 1
        return self._last % (2**31 - 1)


def _penalty(l1: float, l2: float) -> Any:
    return keras.regularizers.L1L2(l1=l1, l2=l2) if l1 or l2 else None


def _encode(
    column: Any, spec: Mapping[str, Any], place: int, config: MlpConfig, seeds: _Seeds, precision: str
) -> Any:
    """Turn one input into floats `[rows, n]`."""
    if spec["role"] == "dense":
        return column
    if spec["encode"] == "embedding":
        x = _mean_embedding(column, spec, f"embedding_{place}", seeds, config.embedding_l2, precision)
        if config.embedding_dropout:
            x = layers.Dropout(
                config.embedding_dropout,
                seed=seeds.next(),
                dtype=precision,
                name=f"embedding_dropout_{place}",
            )(x)
        return x
    hot = ops.one_hot(column, spec["cardinality"], dtype="float32")  # [rows, width, cardinality], -1: zeros
    return ops.max(hot, axis=1)


def _mean_embedding(
    column: Any, spec: Mapping[str, Any], name: str, seeds: _Seeds, l2: float, precision: str
) -> Any:
    """Look up `[rows, width]` indices and average the vectors of those that are not padding."""
    table = layers.Embedding(
        spec["cardinality"],
        spec["embedding_dim"],
        embeddings_initializer=keras.initializers.RandomUniform(-0.05, 0.05, seeds.next()),
        embeddings_regularizer=_penalty(0.0, l2),
        dtype=precision,
        name=name,
    )
    return _average(table, column, spec)


def _average(table: Any, column: Any, spec: Mapping[str, Any]) -> Any:
    if spec["role"] == "index":
        return ops.squeeze(table(column), axis=1)  # [rows, dim]
    vectors = table(ops.maximum(column, 0))  # [rows, width, dim]
    present = ops.expand_dims(ops.cast(ops.greater_equal(column, 0), vectors.dtype), -1)
    total = ops.sum(vectors * present, axis=1)
    return total / ops.maximum(ops.sum(present, axis=1), 1.0)


def _linear_term(column: Any, spec: Mapping[str, Any], place: int, output: Output) -> Any:
    """Return what each category adds to the logits, starting at zero: float32 `[rows, output.logits]`."""
    table = layers.Embedding(
        spec["cardinality"],
        output.logits,
        embeddings_initializer="zeros",
        dtype="float32",
        name=f"term_{place}",
    )
    return _average(table, column, spec)


def _hidden(x: Any, units: int, place: int, config: MlpConfig, seeds: _Seeds, precision: str) -> Any:
    if config.batch_norm:
        x = layers.BatchNormalization(dtype=precision, name=f"norm_{place}")(x)
    x = layers.Dense(
        units,
        activation=config.activation,
        kernel_initializer=keras.initializers.GlorotUniform(seeds.next()),
        kernel_regularizer=_penalty(config.l1, config.l2),
        dtype=precision,
        name=f"dense_{place}",
    )(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, seed=seeds.next(), dtype=precision, name=f"dropout_{place}")(x)
    return x
