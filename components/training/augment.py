"""Random changes of training batches: a pure function of a batch and a seed."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from headrace.data.errors import ConfigError

from .augment_images import change_images
from .config import Augment, AugmentSeries, AugmentText

__all__ = ["augmentation"]

Columns = dict[str, Any]


def augmentation(augment: Augment, features: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """Return the function `(batch, seed) -> batch` that changes training batches.

    Args:
        augment: The `training.augment` section.
        features: Content of features.json.

    Returns:
        Takes `(columns, labels[, weights])` and a seed int64 `[2]`, and returns the same structure. With
        `mixup` multiclass labels become shares of classes, float32 `[rows, classes]`.

    Raises:
        ConfigError: If there is no input that a part of the section would change.
    """
    specs = {spec["name"]: spec for spec in features["features"]}
    _check(augment, {spec["role"] for spec in specs.values()})
    companions = {(spec["role"], spec["of"]): spec["name"] for spec in specs.values() if spec.get("of")}

    def change(batch: Any, seed: Any) -> Any:
        columns, *rest = batch
        changed = dict(columns)
        for place, (name, spec) in enumerate(specs.items()):
            own = tf.random.experimental.stateless_fold_in(seed, place)
            role = spec["role"]
            if role == "image":
                changed[name] = change_images(columns[name], augment.image, own)
            elif role == "dense" and augment.tabular.noise > 0 and not _is_flag(spec):
                noise = tf.random.stateless_normal(tf.shape(columns[name]), own)
                changed[name] = columns[name] + augment.tabular.noise * noise
            elif role == "series":
                length = columns.get(companions.get(("length", name), ""))
                changed[name] = _change_series(columns[name], length, augment.series, own)
            elif role == "tokens":
                changed[name] = _change_tokens(columns[name], augment.text, own)
            elif role == "bag" and augment.text.drop > 0:
                kept = tf.random.stateless_uniform(tf.shape(columns[name]), own) >= augment.text.drop
                changed[name] = tf.where(kept, columns[name], -1)
                weights = companions[("bag_weights", name)]
                changed[weights] = tf.where(kept, columns[weights], 0.0)
        if augment.mixup > 0:
            own = tf.random.experimental.stateless_fold_in(seed, len(specs))
            return _mix((changed, *rest), specs, features["label"], augment.mixup, own)
        return (changed, *rest)

    return change


def _check(augment: Augment, roles: set[str]) -> None:
    parts = {"image": {"image"}, "text": {"tokens", "bag"}, "series": {"series"}, "tabular": {"dense"}}
    for part, wanted in parts.items():
        section = getattr(augment, part)
        if section != type(section)() and not wanted & roles:
            raise ConfigError(
                f"`training.augment.{part}` needs an input of role {' or '.join(sorted(wanted))}. "
                f"Received: {', '.join(sorted(roles))}"
            )


def _is_flag(spec: Mapping[str, Any]) -> bool:
    """Return whether a dense input only says that a value was missing."""
    return bool(spec["name"] == f"{spec['source']}_missing")


def _change_tokens(tokens: Any, text: AugmentText, seed: Any) -> Any:
    """Swap neighbours, then leave tokens out and close the gaps: int64 `[rows, width]`, 0 pads."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    if text.swap > 0:
        tokens = _swap(tokens, text.swap, seeds[:2])
    if text.drop > 0:
        there = tokens > 0
        kept = there & (tf.random.stateless_uniform(tf.shape(tokens), seeds[2]) >= text.drop)
        kept = tf.where(tf.reduce_any(kept, axis=1, keepdims=True), kept, there)
        order = tf.argsort(tf.cast(~kept, tf.int32), axis=1, stable=True)
        tokens = tf.gather(tf.where(kept, tokens, 0), order, axis=1, batch_dims=1)
    return tokens


def _swap(tokens: Any, chance: float, seeds: list[Any]) -> Any:
    """Let disjoint pairs of neighbours change places; whether they start at 0 or 1 is drawn a row."""
    rows, width = tf.shape(tokens)[0], tf.shape(tokens)[1]
    first = tf.random.stateless_uniform([rows, 1], seeds[0], 0, 2, tf.int32)
    place = tf.range(width)[tf.newaxis]
    pair = (place + first) // 2  # of two neighbours it is equal
    other = tf.where((place + first) % 2 == 0, place + 1, place - 1)
    safe = tf.clip_by_value(other, 0, width - 1)
    whole = (other == safe) & (tokens > 0) & (tf.gather(tokens, safe, axis=1, batch_dims=1) > 0)
    drawn = tf.random.stateless_uniform([rows, width // 2 + 1], seeds[1]) < chance
    swapped = whole & tf.gather(drawn, pair, axis=1, batch_dims=1)
    return tf.gather(tokens, tf.where(swapped, safe, tf.broadcast_to(place, tf.shape(safe))), batch_dims=1)


def _change_series(series: Any, length: Any, section: AugmentSeries, seed: Any) -> Any:
    """Shift, scale and shake series float32 `[rows, steps, channels]`; steps after `length` stay 0."""
    shape = tf.shape(series)
    rows, steps = shape[0], shape[1]
    length = tf.fill([rows, 1], steps) if length is None else tf.cast(length, tf.int32)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    step = tf.range(steps)[tf.newaxis]
    if section.shift > 0:
        by = tf.random.stateless_uniform([rows, 1], seeds[0], -section.shift, section.shift + 1, tf.int32)
        start = tf.clip_by_value(step - by, 0, tf.maximum(length - 1, 0))
        series = tf.gather(series, tf.where(step < length, start, step), axis=1, batch_dims=1)
    if section.scale > 0:
        series *= 1 + section.scale * tf.random.stateless_normal([rows, 1, shape[2]], seeds[1])
    if section.jitter > 0:
        noise = section.jitter * tf.random.stateless_normal(shape, seeds[2])
        series += tf.where((step < length)[:, :, tf.newaxis], noise, 0.0)
    return series


_MIXED = ("dense", "image", "series")


def _mix(
    batch: Any, specs: Mapping[str, Mapping[str, Any]], label: Mapping[str, Any], alpha: float, seed: Any
) -> Any:
    """Mix each row with another one (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018)."""
    columns, labels, *weights = batch
    rows = tf.shape(labels)[0]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    # Beta(a, a) from two Gamma(a, 1); the larger share is the row's own, since categories come from it.
    gammas = tf.random.stateless_gamma([2, rows], seeds[0], alpha) + 1e-12
    share = gammas[0] / (gammas[0] + gammas[1])
    share = tf.maximum(share, 1 - share)
    other = tf.argsort(tf.random.stateless_uniform([rows], seeds[1]))

    def mix(values: Any) -> Any:
        own = tf.reshape(share, [-1] + [1] * (values.shape.rank - 1))
        return tf.ensure_shape(own * values + (1 - own) * tf.gather(values, other), values.shape)

    mixed = dict(columns)
    for name, spec in specs.items():
        if spec["role"] in _MIXED:
            mixed[name] = mix(columns[name])
        elif spec["role"] == "length":
            mixed[name] = tf.maximum(columns[name], tf.gather(columns[name], other))
    if label["task"] == "multiclass":
        labels = tf.one_hot(tf.cast(labels[:, 0], tf.int32), len(label["classes"]))
    return (mixed, mix(labels), *(mix(values) for values in weights))
