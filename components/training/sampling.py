"""Even classes out: draw rare ones more often, frequent ones less, or make rows between neighbours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.spatial import cKDTree

from headrace.data.errors import HeadraceError

from .rows import MEMORY_LIMIT_BYTES, Rows, Source, parse_labels

__all__ = ["interpolate", "sampled_places", "sampled_records", "sampled_sizes"]

_READ_ROWS = 4096


def sampled_sizes(counts: np.ndarray, sampling: str) -> np.ndarray:
    """Return how many rows of each class an epoch has, int64 `[classes]`.

    Args:
        counts: Rows of each class; a class without rows stays without.
        sampling: `over` or `under`.
    """
    known = counts[counts > 0]
    if not len(known):
        return counts.copy()
    each = known.max() if sampling == "over" else known.min()
    return np.where(counts > 0, each, 0)


def sampled_places(labels: np.ndarray, sampling: str, seed: int) -> Any:
    """Return a dataset of row numbers with classes of one size, drawn and ordered anew every epoch.

    Every row of a class that is drawn more often comes as often as any other of it, give or take one. Each
    epoch follows from one number, so that a resumed training can skip epochs.

    Args:
        labels: Class of each row, int64 `[rows]`.
        sampling: `over` or `under`.
        seed: Of draws and order.
    """
    sizes = sampled_sizes(np.bincount(labels), sampling)
    members = {label: np.flatnonzero(labels == label) for label in np.flatnonzero(sizes)}

    def epoch(start: Any) -> Any:
        drawn = []
        for label, places in members.items():
            own = tf.random.experimental.stateless_fold_in(start, label)
            order = tf.random.experimental.stateless_shuffle(tf.constant(places), own)
            whole, rest = divmod(int(sizes[label]), len(places))
            drawn += [tf.tile(order, [whole]), order[:rest]]
        order = tf.random.experimental.stateless_shuffle(tf.concat(drawn, axis=0), start)
        return tf.data.Dataset.from_tensor_slices(order)

    if not members:
        return tf.data.Dataset.range(0)
    starts = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2).take(1)
    return starts.flat_map(epoch).apply(tf.data.experimental.assert_cardinality(int(sizes.sum())))


def sampled_records(
    dataset: Any, features: Mapping[str, Any], counts: np.ndarray, sampling: str, seed: int
) -> Any:
    """Return serialized examples with classes of about one size: each is repeated or left out by chance.

    Args:
        dataset: Serialized examples.
        features: Content of features.json.
        counts: Rows of each class.
        sampling: `over` or `under`.
        seed: Of the chances.
    """
    rates = tf.constant(sampled_sizes(counts, sampling) / np.maximum(counts, 1), tf.float32)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)

    def repeat(serialized: Any, place: Any) -> Any:
        rate = tf.gather(rates, parse_labels(serialized, features)[:, 0])
        chance = tf.random.stateless_uniform(tf.shape(rate), place)
        times = tf.floor(rate) + tf.cast(chance < rate - tf.floor(rate), tf.float32)
        return tf.repeat(serialized, tf.cast(times, tf.int32))

    pairs = tf.data.Dataset.zip((dataset.batch(_READ_ROWS), seeds))
    return pairs.map(repeat, tf.data.AUTOTUNE).unbatch()


def interpolate(source: Source, features: Mapping[str, Any], neighbours: int, seed: int) -> Rows:
    """Return the rows and as many new ones as make all classes as large as the largest.

    A new row lies at a random place between a row and one of its nearest neighbours of the same class, in
    all dense inputs taken together; categories and all else are those of the row. (Chawla et al., "SMOTE:
    Synthetic Minority Over-sampling Technique", 2002.) A class of one row is repeated.

    Args:
        source: The training split.
        features: Content of features.json.
        neighbours: Neighbours to choose from, >= 1.
        seed: Of rows, neighbours and places.

    Raises:
        HeadraceError: If the rows are not in memory, or there are no dense inputs.
    """
    if not isinstance(source, Rows):
        raise HeadraceError(
            "`training.sampling: smote` needs the training split in memory, within "
            f"{MEMORY_LIMIT_BYTES / 2**30:g} GiB and with `training.cache: true`. Received: files to stream",
            "set `training.sampling: over`",
        )
    names = [spec["name"] for spec in features["features"] if spec["role"] == "dense"]
    if not names:
        raise HeadraceError("`training.sampling: smote` needs numbers to mix. Received: no dense inputs")
    random = np.random.default_rng(seed)
    labels = source.labels[:, 0].astype(np.int64)
    counts = np.bincount(labels)
    dense = np.concatenate([source.columns[name] for name in names], axis=1)
    starts, others = [], []
    for label, size in enumerate(sampled_sizes(counts, "over") - counts):
        if size > 0:
            members = np.flatnonzero(labels == label)
            start, other = _pairs(dense[members], int(size), neighbours, random)
            starts.append(members[start])
            others.append(members[other])
    if not starts:
        return source
    first, second = np.concatenate(starts), np.concatenate(others)
    share = random.random((len(first), 1)).astype(np.float32)
    made = source.take(first)
    for name in names:
        values = source.columns[name]
        made.columns[name] = values[first] + share * (values[second] - values[first])
    return _join(source, made)


def _pairs(
    points: np.ndarray, size: int, neighbours: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows evenly, and a near neighbour of each: two arrays of places `[size]`."""
    whole, rest = divmod(size, len(points))
    start = np.concatenate(
        [np.tile(np.arange(len(points)), whole), random.choice(len(points), rest, replace=False)]
    )
    near = min(neighbours, len(points) - 1)
    if near == 0:
        return start, start
    unique = np.unique(start)
    # The nearest is the row itself, or one that equals it, between which and the row is nothing to mix.
    _, found = cKDTree(points).query(points[unique], k=near + 1)
    found = np.stack([_without(row, own, near) for row, own in zip(found, unique, strict=True)])
    chosen = random.integers(0, near, size)
    return start, found[np.searchsorted(unique, start), chosen]


def _without(found: np.ndarray, own: int, size: int) -> np.ndarray:
    """Drop the row itself from its neighbours; where many equal it, it may not be among them."""
    return found[found != own][:size]


def _join(first: Rows, second: Rows) -> Rows:
    weights = None
    if first.weights is not None and second.weights is not None:
        weights = np.concatenate([first.weights, second.weights])
    return Rows(
        {name: np.concatenate([values, second.columns[name]]) for name, values in first.columns.items()},
        np.concatenate([first.labels, second.labels]),
        weights,
    )
