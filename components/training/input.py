"""Splits as batches for Keras: shuffled, weighed, sampled and augmented."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .augment import augmentation
from .config import TrainingConfig
from .rows import (
    LABEL,
    WEIGHT,
    Rows,
    Source,
    count_rows,
    label_parts,
    parser,
    read_rows,
    records,
    row_bytes,
    split_files,
)
from .sampling import interpolate, sampled_places, sampled_records, sampled_sizes

__all__ = [
    "Batches",
    "Rows",
    "Source",
    "batches",
    "class_weight_table",
    "class_weights_of",
    "label_counts",
    "label_parts",
    "read_rows",
    "split_files",
]

_SHUFFLE_BYTES = 2**30


@dataclass(frozen=True)
class Batches:
    """A `tf.data.Dataset` of `(columns, labels[, weights])` and what is known about it.

    Attributes:
        dataset: Weights are float32 `[rows]`, or for multilabel `[rows, 1]` or `[rows, classes]`.
        steps: Batches of an epoch, or None where they were not counted.
        rows: Rows of an epoch, or None where they were not counted.
    """

    dataset: Any
    steps: int | None
    rows: int | None


def batches(
    source: Source,
    features: Mapping[str, Any],
    training: TrainingConfig,
    *,
    shuffle_seed: int | None = None,
    class_weights: np.ndarray | None = None,
) -> Batches:
    """Return batches of a split; with a seed those to train on, else those to judge.

    Batches to train on are shuffled anew every epoch, and sampled and augmented as `training` says, all of
    it the same for the same seed.

    Args:
        source: Rows in memory or the files to stream.
        features: Content of features.json.
        training: Gives `batch_size` and `shuffle_buffer`, `sampling` and `augment`.
        shuffle_seed: Seed of the order and of everything random; None keeps the order and the rows.
        class_weights: Class index -> factor `[classes]` on the example weights, or None.

    Raises:
        HeadraceError: If `sampling` needs the rows in memory and they are not, or a class is empty.
    """
    size, seed = training.batch_size, shuffle_seed
    sampling = training.sampling if seed is not None else "none"
    if sampling == "smote" and seed is not None:
        source = interpolate(source, features, training.smote_neighbours, seed)
        sampling = "none"
    if isinstance(source, Rows):
        places = _places(source, sampling, seed)
        rows = int(places.cardinality())
        dataset = places.batch(size).map(_gather(source), tf.data.AUTOTUNE)
    elif seed is not None:
        dataset, rows = _streamed(source, features, training, sampling, seed)
    else:
        dataset, rows = records(source).batch(size).map(parser(features), tf.data.AUTOTUNE), None
    dataset = dataset.map(_example(features, class_weights), tf.data.AUTOTUNE)
    if seed is not None and training.augment is not None:
        change = augmentation(training.augment, features)
        # A seed a batch, other ones in every epoch: the change itself keeps no state.
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
        dataset = tf.data.Dataset.zip((dataset, seeds)).map(change, tf.data.AUTOTUNE)
    steps = None if rows is None else -(-rows // size)
    return Batches(dataset.prefetch(4), steps, rows)


def _streamed(
    files: list[str], features: Mapping[str, Any], training: TrainingConfig, sampling: str, seed: int
) -> tuple[Any, int]:
    """Return parsed batches to train on, and the rows of an epoch (with sampling, about as many)."""
    size, dataset = training.batch_size, records(files)
    if sampling == "none":
        rows = count_rows(files)
    else:
        counts = label_counts(files, features)
        rows = int(sampled_sizes(counts, sampling).sum())
        dataset = sampled_records(dataset, features, counts, sampling, seed)
    # Serialized records are the cheapest thing to hold in a shuffle buffer.
    held = max(1, min(training.shuffle_buffer, _SHUFFLE_BYTES // row_bytes(features)))
    dataset = dataset.shuffle(held, seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(size).map(parser(features), tf.data.AUTOTUNE)
    if sampling == "none":
        # Keras 3.15 steps beyond the end of a dataset of unknown length: no weight changes, but the
        # optimizer may count the step, and schedules with it.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-rows // size)))
    return dataset, rows


def _places(source: Rows, sampling: str, seed: int | None) -> Any:
    """Return row numbers: no work per row, and a full shuffle."""
    if seed is None:
        return tf.data.Dataset.range(len(source))
    if sampling != "none":
        return sampled_places(source.labels[:, 0].astype(np.int64), sampling, seed)
    places = tf.data.Dataset.range(len(source))
    return places.shuffle(max(len(source), 1), seed=seed, reshuffle_each_iteration=True)


def _gather(source: Rows) -> Any:
    """Return a function from row numbers `[rows]` to name -> tensor, label and weight included."""
    columns, labels = source.tensors
    held = columns | {LABEL: labels}
    if source.weights is not None:
        held[WEIGHT] = tf.constant(source.weights)
    return lambda places: {name: tf.gather(values, places) for name, values in held.items()}


def _example(features: Mapping[str, Any], class_weights: np.ndarray | None) -> Any:
    """Return a function from name -> tensor to `(columns, labels[, weights])`."""
    task: Task = features["label"]["task"]

    def example(batch: dict[str, Any]) -> Any:
        columns = dict(batch)
        labels, weights = columns.pop(LABEL), columns.pop(WEIGHT, None)
        if task != "multiclass":
            labels = tf.cast(labels, tf.float32)
        if task == "multilabel" and weights is not None:
            weights = weights[:, tf.newaxis]  # beside a loss a label
        if class_weights is not None:
            table = tf.constant(class_weights)
            if task == "multilabel":
                factor = tf.where(labels > 0.5, table, 1.0)
            else:
                factor = tf.gather(table, tf.cast(labels[:, 0], tf.int64))
            weights = factor if weights is None else weights * factor
        return (columns, labels) if weights is None else (columns, labels, weights)

    return example


def class_weights_of(
    source: Source, features: Mapping[str, Any], training: TrainingConfig
) -> np.ndarray | None:
    """Return class index -> weight as `training.class_weights` says, float32 `[classes]`; None: all equal.

    Args:
        source: The training split.
        features: Content of features.json.
        training: The `training` section.
    """
    label = features["label"]
    counts, rows = None, None
    if training.class_weights == "balanced" and label["classes"]:
        counts = label_counts(source, features)
        rows = count_rows(source) if label["task"] == "multilabel" else None
    return class_weight_table(training.class_weights, tuple(label["classes"] or ()), counts, rows)


def label_counts(source: Source, features: Mapping[str, Any]) -> np.ndarray:
    """Return the number of rows of each class (multilabel: with each label), int64 `[classes]`."""
    counts = np.zeros(len(features["label"]["classes"]), np.int64)
    for labels in label_parts(source, features):
        if features["label"]["task"] == "multilabel":
            counts += labels.astype(np.int64).sum(axis=0)
        else:
            counts += np.bincount(labels.astype(np.int64).ravel(), minlength=len(counts))
    return counts


def class_weight_table(
    setting: str | Mapping[str, float],
    classes: tuple[str, ...],
    counts: np.ndarray | None,
    rows: int | None = None,
) -> np.ndarray | None:
    """Return class index -> weight, float32 `[classes]`, or None for equal weights.

    Args:
        setting: `training.class_weights`; classes that a mapping leaves out weigh 1.
        classes: Label values in output order.
        counts: Training rows of each class, needed for `balanced` (rows / (classes * count)).
        rows: Training rows, for multilabel, where the classes are no parts of a whole: then `balanced` is
            (rows without the label) / (rows with it).

    Raises:
        ConfigError: If a mapping names a class that there is not, or there are no classes.
    """
    if setting == "none":
        return None
    if not classes:
        raise ConfigError(f"`training.class_weights` must be none for regression. Received: {setting}")
    if isinstance(setting, str):
        assert counts is not None
        known = np.maximum(counts, 1)
        table = counts.sum() / (len(classes) * known) if rows is None else (rows - counts) / known
        return table.astype(np.float32)
    unknown = sorted(set(setting) - set(classes))
    if unknown:
        raise ConfigError(
            f"`training.class_weights` must name classes of the label: {', '.join(classes)}. "
            f"Received: {', '.join(unknown)}"
        )
    return np.array([setting.get(name, 1.0) for name in classes], np.float32)
