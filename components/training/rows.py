"""Transformed examples as arrays in memory, or as the files that hold them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.spec import dtype_of, label_width, shape_of

__all__ = [
    "LABEL",
    "WEIGHT",
    "Rows",
    "Source",
    "count_rows",
    "label_parts",
    "parse_labels",
    "parser",
    "read_rows",
    "records",
    "row_bytes",
    "split_files",
]

MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Splits up to this size are held in memory as arrays, larger ones are streamed every epoch."""

PARSE_ROWS = 8192
LABEL, WEIGHT = "label", "weight"


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

    @cached_property
    def tensors(self) -> tuple[dict[str, Any], Any]:
        """The columns and labels as tensors in main memory, made once for all datasets over these rows."""
        with tf.device("CPU:0"):
            columns = {name: tf.constant(values) for name, values in self.columns.items()}
            return columns, tf.constant(self.labels)


Source = Rows | list[str]
"""A split: rows in memory, or the files to stream."""


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
    parts: list[dict[str, np.ndarray]] = []
    size = 0
    # Fewer at a time where rows are large, such as pictures.
    step = max(1, min(PARSE_ROWS, 2**26 // row_bytes(features)))
    for batch in records(files).batch(step).map(parser(features), tf.data.AUTOTUNE).prefetch(2):
        part = {name: tensor.numpy() for name, tensor in batch.items()}
        size += sum(values.nbytes for values in part.values())
        if size > limit_bytes:
            return None
        parts.append(part)
    if not parts:
        empty = parser(features)(tf.zeros([0], tf.string))
        parts.append({name: tensor.numpy() for name, tensor in empty.items()})
    # Parts are let go column by column: the largest alone is held twice.
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    labels = joined.pop(LABEL)
    if features["label"]["task"] != "multiclass":
        labels = labels.astype(np.float32)
    weights = joined.pop(WEIGHT, None)
    return Rows(joined, labels, weights)


def row_bytes(features: Mapping[str, Any]) -> int:
    """Return the memory that a row takes, in bytes, without its label."""
    widths = {"float32": 4, "int64": 8}
    return sum(int(np.prod(shape_of(spec))) * widths[dtype_of(spec)] for spec in features["features"]) or 1


def label_parts(source: Source, features: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Return the labels of a split in parts `[rows, label width]`."""
    if isinstance(source, Rows):
        yield source.labels
        return
    for serialized in records(source).batch(PARSE_ROWS):
        yield parse_labels(serialized, features).numpy()


def count_rows(source: Source) -> int:
    """Return the rows of a split; files are read through."""
    if isinstance(source, Rows):
        return len(source)
    return sum(int(tf.shape(part)[0]) for part in records(source).batch(PARSE_ROWS))


def records(files: list[str]) -> Any:
    """Return a dataset of serialized examples from all files side by side, in a fixed order."""
    return tf.data.Dataset.from_tensor_slices(files).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP", buffer_size=1 << 20),
        cycle_length=min(len(files), 8),
        block_length=256,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def parser(features: Mapping[str, Any]) -> Any:
    """Return a function from serialized examples `[rows]` to name -> tensor, label and weight included."""
    spec: dict[str, Any] = {
        feature["name"]: tf.io.FixedLenFeature(shape_of(feature), tf.as_dtype(dtype_of(feature)))
        for feature in features["features"]
    }
    spec[LABEL] = _label_spec(features)
    if features.get("weight"):
        spec[WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
    return lambda serialized: dict(tf.io.parse_example(serialized, spec))


def parse_labels(serialized: Any, features: Mapping[str, Any]) -> Any:
    """Return the labels alone, `[rows, label width]`, of serialized examples `[rows]`."""
    return tf.io.parse_example(serialized, {LABEL: _label_spec(features)})[LABEL]


def _label_spec(features: Mapping[str, Any]) -> Any:
    label = features["label"]
    kind = tf.float32 if label["task"] == "regression" else tf.int64
    return tf.io.FixedLenFeature([label_width(label)], kind)
