"""From features.json to Keras inputs, and the vector that each kind of input becomes by default.

A family sends the inputs of its own kind through its trunk and all others through `encode`; `join` puts the
vectors side by side. So every family takes every kind of input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from headrace.components.features.spec import dtype_of, shape_of
from headrace.data.errors import ConfigError

from .config import FamilyConfig

__all__ = [
    "Entry",
    "Inputs",
    "encode",
    "join",
    "linear_term",
    "lowest",
    "penalty",
    "pool_steps",
    "read_inputs",
    "require",
    "step_mask",
    "token_vectors",
]

_COMPANIONS = ("length", "bag_weights")
_IMAGE_FILTERS = (16, 32)


@dataclass(frozen=True)
class Entry:
    """One input of the model.

    Attributes:
        place: Its place in features.json, for layer names.
        spec: Its entry there.
        tensor: The Keras input `[rows, ...]`.
        companion: Lengths int64 `[rows, 1]` of a series, weights float32 `[rows, width]` of a bag; else None.
    """

    place: int
    spec: Mapping[str, Any]
    tensor: Any
    companion: Any = None

    @property
    def role(self) -> str:
        """The role in features.json."""
        return str(self.spec["role"])


@dataclass(frozen=True)
class Inputs:
    """All inputs of a model.

    Attributes:
        tensors: Name -> Keras input, companions included: what `keras.Model` is given.
        entries: All but companions, in order.
    """

    tensors: dict[str, Any]
    entries: tuple[Entry, ...]

    def of(self, *roles: str) -> list[Entry]:
        """Return the entries of these roles."""
        return [entry for entry in self.entries if entry.role in roles]

    def but(self, *roles: str) -> list[Entry]:
        """Return the entries of all other roles."""
        return [entry for entry in self.entries if entry.role not in roles]


def read_inputs(features: Mapping[str, Any]) -> Inputs:
    """Make a Keras input of every entry of features.json."""
    tensors: dict[str, Any] = {}
    companions: dict[str, Any] = {}
    for place, spec in enumerate(features["features"]):
        # The key names an input; a layer of that name could meet one of ours or of Keras ("logits", "max").
        tensors[spec["name"]] = layers.Input(shape_of(spec), dtype=dtype_of(spec), name=f"input_{place}")
        if spec["role"] in _COMPANIONS:
            companions[spec["of"]] = tensors[spec["name"]]
    entries = tuple(
        Entry(place, spec, tensors[spec["name"]], companions.get(spec["name"]))
        for place, spec in enumerate(features["features"])
        if spec["role"] not in _COMPANIONS
    )
    return Inputs(tensors, entries)


def require(inputs: Inputs, family: str, *roles: str) -> list[Entry]:
    """Return the entries of these roles.

    Raises:
        ConfigError: If there is none.
    """
    found = inputs.of(*roles)
    if not found:
        given = ", ".join(sorted({entry.role for entry in inputs.entries}))
        raise ConfigError(
            f"family `{family}` needs at least one input of role {' or '.join(roles)}. Received: {given} "
            "(features, model.family)"
        )
    return found


def encode(entry: Entry, config: FamilyConfig, *, flat_images: bool = False) -> Any:
    """Turn one input into numbers, float `[rows, n]`.

    Numbers stay as they are, categories become vectors or 0 and 1, tokens the mean of their vectors, a bag
    the sum of its vectors times its weights, a series the mean, maximum and last of its steps, an image what
    two small convolutions find in it on average.

    Args:
        entry: The input.
        config: Gives `embedding_dropout`, `embedding_l2`, `l1` and `l2`.
        flat_images: Take pixels as they are instead.
    """
    if entry.role == "dense":
        return entry.tensor
    if entry.role == "image":
        return (
            layers.Flatten(name=f"pixels_{entry.place}")(entry.tensor)
            if flat_images
            else _image(entry, config)
        )
    if entry.role == "series":
        return pool_steps(entry.tensor, step_mask(entry), ("mean", "max", "last"))
    if entry.spec["encode"] == "embedding":
        table = _embedding(entry, config)
        x = _gather(table, entry)
        if config.embedding_dropout:
            x = layers.Dropout(config.embedding_dropout, name=f"embedding_dropout_{entry.place}")(x)
        return x
    hot = ops.one_hot(entry.tensor, entry.spec["cardinality"], dtype="float32")  # [rows, width, n], -1: zeros
    return ops.max(hot, axis=1)


def join(parts: list[Any]) -> Any:
    """Put vectors `[rows, n_i]` side by side: `[rows, sum of n_i]`."""
    return parts[0] if len(parts) == 1 else layers.Concatenate(name="joined")(parts)


def linear_term(entry: Entry, units: int, regularizer: Any = None) -> Any:
    """Return what an input of categories or tokens adds to the logits, from zero on: float32 `[rows, units]`.

    Each category has one learned number a logit; several categories of a row are averaged, those of a bag
    weighed and summed.
    """
    table = layers.Embedding(
        entry.spec["cardinality"],
        units,
        embeddings_initializer="zeros",
        embeddings_regularizer=regularizer,
        dtype="float32",
        name=f"term_{entry.place}",
    )
    return _gather(table, entry)


def token_vectors(entry: Entry, config: FamilyConfig, dim: int | None = None) -> Any:
    """Look up the vector of every token: float `[rows, width, dim]`, padding included.

    Args:
        entry: An input of role `tokens`.
        config: Gives `embedding_dropout` and `embedding_l2`.
        dim: Width of a vector; None: the feature's `embedding_dim`.
    """
    x = _embedding(entry, config, dim)(entry.tensor)
    if config.embedding_dropout:
        x = layers.SpatialDropout1D(config.embedding_dropout, name=f"embedding_dropout_{entry.place}")(x)
    return x


def step_mask(entry: Entry) -> Any:
    """Return which steps of a series or tokens are no padding: bool `[rows, steps]`."""
    if entry.role == "tokens":
        return ops.greater(entry.tensor, 0)
    steps = ops.arange(int(entry.spec["shape"][0]), dtype="int32")
    return ops.less(ops.expand_dims(steps, 0), ops.cast(entry.companion, "int32"))


def pool_steps(x: Any, mask: Any, ways: tuple[str, ...]) -> Any:
    """Reduce steps to one vector; a row without steps gives zeros.

    Args:
        x: float `[rows, steps, n]`.
        mask: bool `[rows, steps]`; True steps come first.
        ways: Of `mean`, `max` and `last`, side by side in the answer.

    Returns:
        float `[rows, len(ways) * n]`.
    """
    present = ops.cast(mask, x.dtype)
    wide = ops.expand_dims(present, -1)
    count = ops.sum(present, axis=1, keepdims=True)  # [rows, 1]
    parts = []
    for way in ways:
        if way == "mean":
            parts.append(ops.sum(x * wide, axis=1) / ops.maximum(count, 1.0))
        elif way == "max":
            highest = ops.max(ops.where(ops.greater(wide, 0), x, lowest(x)), axis=1)
            parts.append(highest * ops.minimum(count, 1.0))
        else:
            later = ops.pad(present[:, 1:], ((0, 0), (0, 1)))
            parts.append(ops.sum(x * ops.expand_dims(present - later, -1), axis=1))
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def lowest(x: Any) -> float:
    """Return a number below all that layers answer, finite in the dtype of `x`."""
    return -6e4 if str(x.dtype) == "float16" else -1e30


def penalty(l1: float, l2: float) -> Any:
    """Return a Keras regularizer, or None where both are 0."""
    return keras.regularizers.L1L2(l1=l1, l2=l2) if l1 or l2 else None


def _embedding(entry: Entry, config: FamilyConfig, dim: int | None = None) -> Any:
    return layers.Embedding(
        entry.spec["cardinality"],
        dim or entry.spec["embedding_dim"],
        embeddings_initializer=keras.initializers.RandomUniform(-0.05, 0.05),
        embeddings_regularizer=penalty(0.0, config.embedding_l2),
        name=f"embedding_{entry.place}",
    )


def _gather(table: Any, entry: Entry) -> Any:
    """Look up all indices of a row and reduce their vectors to one: `[rows, dim]`."""
    if entry.role == "index":
        return ops.squeeze(table(entry.tensor), axis=1)
    vectors = table(ops.maximum(entry.tensor, 0))  # [rows, width, dim]
    first = 1 if entry.role == "tokens" else 0  # below it is padding
    present = ops.cast(ops.greater_equal(entry.tensor, first), vectors.dtype)
    if entry.role == "bag":
        weights = present * ops.cast(entry.companion, vectors.dtype)
        return ops.sum(vectors * ops.expand_dims(weights, -1), axis=1)
    total = ops.sum(vectors * ops.expand_dims(present, -1), axis=1)
    return total / ops.maximum(ops.sum(present, axis=1, keepdims=True), 1.0)


def _image(entry: Entry, config: FamilyConfig) -> Any:
    x = entry.tensor
    for step, filters in enumerate(_IMAGE_FILTERS):
        x = layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            activation="relu",
            kernel_regularizer=penalty(config.l1, config.l2),
            name=f"image_{entry.place}_{step}",
        )(x)
    return layers.GlobalAveragePooling2D(name=f"image_{entry.place}")(x)
