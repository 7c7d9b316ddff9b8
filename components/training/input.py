"""Transformed examples as batches: from memory where they fit, else streamed."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.spec import dtype_of, label_width, shape_of
from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .config import TrainingConfig

__all__ = ["Batches", "Rows", "batches", "class_weight_table", "label_counts", "read_rows", "split_files"]

MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Splits up to this size are held in memory as arrays, larger ones are streamed every epoch."""

_PARSE_ROWS = 8192
_LABEL, _WEIGHT = "label", "weight"


@dataclass(frozen=True)
class Rows:
    """A split in memory.

    Attributes:
        columns: Feature -> `[rows, ...]`, float32 or int64 as features.json says.
        labels: `[rows, 1]`: float32 (binary 0/1, regression) or int64 (multiclass); float32
            `[rows, classes]` of 0 and 1 (multilabel).
        weights: float32 `[rows]`, or None where the config names no weight column.
    """

    columns: dict[str, np.ndarray]
    labels: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Rows":
        """Return the rows at `index` (integers)."""
        return Rows(
            {name: values[index] for name, values in self.columns.items()},
            self.labels[index],
            None if self.weights is None else self.weights[index],
        )


@dataclass(frozen=True)
class Batches:
    """A `tf.data.Dataset` of `(columns, labels[, weights])` and what is known about it."""

    dataset: Any
    steps: int | None
    rows: int | None


def split_files(examples_uri: str, split: str) -> list[str]:
    """Return the TFRecord files of a split, sorted.

    Raises:
        FileNotFoundError: If there are none.
    """
    pattern = os.path.join(examples_uri, f"Split-{split}", "*")
    files = sorted(path for path in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(path))
    if not files:
        raise FileNotFoundError(f"a split must have TFRecord files. Received: none at {pattern}")
    return files


def read_rows(
    files: list[str], features: Mapping[str, Any], limit_bytes: int = MEMORY_LIMIT_BYTES
) -> Rows | None:
    """Parse whole files into arrays, in file order.

    Args:
        files: gzip TFRecords of transformed tf.Examples.
        features: Content of features.json.
        limit_bytes: Give up beyond this size.

    Returns:
        The rows, or None where they need more than `limit_bytes`.
    """
    records = _records(files).batch(_PARSE_ROWS)
    parts: list[dict[str, np.ndarray]] = []
    size = 0
    for batch in records.map(_parser(features), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2):
        part = {name: tensor.numpy() for name, tensor in batch.items()}
        size += sum(values.nbytes for values in part.values())
        if size > limit_bytes:
            return None
        parts.append(part)
    if not parts:
        empty = _parser(features)(tf.zeros([0], tf.string))
        parts.append({name: tensor.numpy() for name, tensor in empty.items()})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = joined.pop(_LABEL)
    if features["label"]["task"] != "multiclass":
        labels = labels.astype(np.float32)
    weights = joined.pop(_WEIGHT, None)
    return Rows(joined, labels, weights)


def batches(
    source: Rows | list[str],
    features: Mapping[str, Any],
    training: TrainingConfig,
    *,
    shuffle_seed: int | None = None,
    class_weights: np.ndarray | None = None,
) -> Batches:
    """Return batches of a split, shuffled anew every epoch if a seed is given.

    Args:
        source: Rows in memory or the files to stream.
        features: Content of features.json.
        training: Gives `batch_size` and `shuffle_buffer`.
        shuffle_seed: Seed of the order; None keeps the order.
        class_weights: Class index -> factor `[classes]` on the example weights, or None.
    """
    task: Task = features["label"]["task"]
    if isinstance(source, Rows):
        steps = -(-len(source) // training.batch_size)
        dataset = _from_memory(source, training.batch_size, shuffle_seed, class_weights)
        return Batches(dataset.prefetch(4), steps, len(source))
    dataset = _records(source)
    if shuffle_seed is not None:
        # Serialized records are the cheapest thing to hold in a shuffle buffer.
        dataset = dataset.shuffle(training.shuffle_buffer, seed=shuffle_seed, reshuffle_each_iteration=True)
    parse = _parser(features)

    def example(serialized: Any) -> Any:
        columns = parse(serialized)
        labels = columns.pop(_LABEL)
        weights = columns.pop(_WEIGHT, None)
        if class_weights is not None:
            factor = tf.gather(tf.constant(class_weights), tf.cast(labels[:, 0], tf.int64))
            weights = factor if weights is None else weights * factor
        if task != "multiclass":
            labels = tf.cast(labels, tf.float32)
        return (columns, labels) if weights is None else (columns, labels, weights)

    dataset = dataset.batch(training.batch_size).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return Batches(dataset.prefetch(4), None, None)


def label_counts(source: Rows | list[str], features: Mapping[str, Any]) -> np.ndarray:
    """Return the number of rows of each class, int64 `[classes]`."""
    counts = np.zeros(len(features["label"]["classes"]), np.int64)
    for labels in _labels(source):
        counts += np.bincount(labels.astype(np.int64).ravel(), minlength=len(counts))
    return counts


def class_weight_table(
    setting: str | Mapping[str, float], classes: tuple[str, ...], counts: np.ndarray | None
) -> np.ndarray | None:
    """Return class index -> weight, float32 `[classes]`, or None for equal weights.

    Args:
        setting: `training.class_weights`; classes that a mapping leaves out weigh 1.
        classes: Label values in output order.
        counts: Training rows of each class, needed for `balanced` (rows / (classes * count)).

    Raises:
        ConfigError: If a mapping names a class that there is not, or there are no classes.
    """
    if setting == "none":
        return None
    if not classes:
        raise ConfigError(f"`training.class_weights` must be none for regression. Received: {setting}")
    if isinstance(setting, str):
        assert counts is not None
        return (counts.sum() / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
    unknown = sorted(set(setting) - set(classes))
    if unknown:
        raise ConfigError(
            f"`training.class_weights` must name classes of the label: {', '.join(classes)}. "
            f"Received: {', '.join(unknown)}"
        )
    return np.array([setting.get(name, 1.0) for name in classes], np.float32)


def _records(files: list[str]) -> Any:
    """Read serialized examples from all files side by side, in a fixed order."""
    return tf.data.Dataset.from_tensor_slices(files).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP", buffer_size=1 << 20),
        cycle_length=min(len(files), 8),
        block_length=256,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _parser(features: Mapping[str, Any]) -> Any:
    """Return a function from serialized examples `[rows]` to name -> tensor, label and weight included."""
    label = features["label"]
    spec: dict[str, Any] = {
        feature["name"]: tf.io.FixedLenFeature(shape_of(feature), tf.as_dtype(dtype_of(feature)))
        for feature in features["features"]
    }
    spec[_LABEL] = tf.io.FixedLenFeature(
        [label_width(label)], tf.float32 if label["task"] == "regression" else tf.int64
    )
    if features.get("weight"):
        spec[_WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
    return lambda serialized: dict(tf.io.parse_example(serialized, spec))


def _from_memory(
    rows: Rows, batch_size: int, shuffle_seed: int | None, class_weights: np.ndarray | None
) -> Any:
    """Draw row numbers and gather whole batches: no work per row, and a full shuffle."""
    weights = rows.weights
    if class_weights is not None:
        factor = class_weights[rows.labels[:, 0].astype(np.int64)]
        weights = factor if weights is None else weights * factor
    arrays: tuple[Any, ...] = (
        (rows.columns, rows.labels) if weights is None else (rows.columns, rows.labels, weights)
    )
    with tf.device("CPU:0"):
        held = tf.nest.map_structure(tf.constant, arrays)
    index = tf.data.Dataset.range(len(rows))
    if shuffle_seed is not None:
        index = index.shuffle(max(len(rows), 1), seed=shuffle_seed, reshuffle_each_iteration=True)
    return index.batch(batch_size).map(
        lambda places: tf.nest.map_structure(lambda values: tf.gather(values, places), held),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _labels(source: Rows | list[str]) -> Iterator[np.ndarray]:
    if isinstance(source, Rows):
        yield source.labels
        return
    spec = {_LABEL: tf.io.FixedLenFeature([1], tf.int64)}
    for serialized in _records(source).batch(_PARSE_ROWS):
        yield tf.io.parse_example(serialized, spec)[_LABEL].numpy()
