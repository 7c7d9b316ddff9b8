"""Test rows: the serialized examples of a split and the columns inside them."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected

__all__ = [
    "MISSING",
    "Rows",
    "column_texts",
    "decode",
    "device_columns",
    "model_columns",
    "read_rows",
    "read_serialized",
]

MISSING = "(missing)"
"""Text of a missing value in the key of a slice."""

_BATCH = 8192
_ARROW_TYPES = {"int": pa.int64(), "float": pa.float32(), "string": pa.large_string()}


@dataclass(frozen=True)
class Rows:
    """One split, row by row in the order of its files.

    Attributes:
        serialized: Object array `[rows]` of serialized `tf.Example`.
        columns: Raw column -> Arrow array `[rows]`: int64, float32 or large_string; null is missing.
        labels: Class index int64 `[rows]`, or float64 `[rows]` for regression.
        weights: float64 `[rows]` >= 0, or None where the config names no weight column.
    """

    serialized: np.ndarray
    columns: Mapping[str, pa.Array]
    labels: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.serialized)


def read_serialized(folder: str) -> np.ndarray:
    """Read every record of a split's gzip TFRecord files, in the order of their names.

    Returns:
        Object array `[rows]` of bytes.
    """
    import tensorflow as tf

    files = sorted(glob.glob(os.path.join(glob.escape(folder), "*.gz")))
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_BATCH)
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate(batches) if batches else np.empty(0, object)


def decode(serialized: np.ndarray, types: Mapping[str, str]) -> dict[str, pa.Array]:
    """Decode examples into one Arrow array a column.

    Args:
        serialized: Object array `[rows]` of serialized `tf.Example`.
        types: Raw column -> `int`, `float` or `string`. A column that is in no example is all null.

    Returns:
        Column -> array `[rows]`; the first value where an example holds several.
    """
    from tfx_bsl.coders import example_coder

    decoder = example_coder.ExamplesToRecordBatchDecoder()
    starts = range(0, len(serialized), _BATCH)
    batches = [decoder.DecodeBatch(serialized[start : start + _BATCH].tolist()) for start in starts]
    return {
        name: pa.concat_arrays(
            [_first_values(batch, name, _ARROW_TYPES[kind]) for batch in batches]
            or [pa.array([], _ARROW_TYPES[kind])]
        )
        for name, kind in types.items()
    }


def _first_values(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """Return the first value of each row of a list column; null where there is none."""
    index = batch.schema.get_field_index(name)
    if index < 0 or pa.types.is_null(batch.schema.field(index).type):
        return pa.nulls(batch.num_rows, kind)
    lists = batch.column(index)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths
    return lists.flatten().take(pa.array(starts, pa.int64(), mask=lengths == 0)).cast(kind)


def read_rows(examples: str, split: str, ingest: Mapping[str, Any], data: DataConfig) -> Rows:
    """Read a split with its labels and weights.

    Args:
        examples: Folder of the examples artifact.
        split: `train`, `eval` or `test`.
        ingest: Content of ingest.json.
        data: The `data` section.

    Raises:
        DataRejected: If the split is empty, or a label is missing or not among the classes.
    """
    serialized = read_serialized(os.path.join(examples, f"Split-{split}"))
    if not len(serialized):
        raise DataRejected(f"the {split} split must hold rows. Received: 0 (data.split)")
    types = {column["name"]: column["type"] for column in ingest["columns"]}
    columns = decode(serialized, types)
    labels = _labels(columns[data.label], ingest["label"], split)
    weights = None
    if data.weight is not None:
        weights = np.nan_to_num(columns[data.weight].to_numpy(zero_copy_only=False).astype(np.float64))
    return Rows(serialized, columns, labels, weights)


def _labels(column: pa.Array, label: Mapping[str, Any], split: str) -> np.ndarray:
    """Return labels as class indices, or as numbers for regression."""
    if column.null_count:
        raise DataRejected(
            f"every row needs a label. Received: {column.null_count} rows without one "
            f"({split} split, column {label['name']})"
        )
    if label["task"] == "regression":
        return column.to_numpy(zero_copy_only=False).astype(np.float64)
    known = pa.array([str(name) for name in label["classes"]], pa.large_string())
    found = pc.index_in(pa.array(_texts(column), pa.large_string()), value_set=known)
    if found.null_count:
        row = found.is_null().index(True).as_py()
        raise DataRejected(
            f"labels must be one of {', '.join(known.to_pylist())}. Received: {_texts(column)[row]} "
            f"(row {row + 1} of {split}, column {label['name']})"
        )
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def column_texts(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns as the text that slices are named by.

    Integers are decimal, floats the shortest text that gives the same float32, missing is `(missing)`.

    Raises:
        ConfigError: If a column is not among the examples.
    """
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ConfigError(
            f"`evaluation.slices` must name columns of the examples: {', '.join(columns)}. "
            f"Received: {', '.join(unknown)} (evaluation.slices)"
        )
    return {name: _texts(columns[name]) for name in names}


def _texts(column: pa.Array) -> np.ndarray:
    """Return an object array `[rows]` of text."""
    distinct = column.dictionary_encode()
    values = distinct.dictionary
    if pa.types.is_floating(values.type):
        texts = [str(int(v)) if v == int(v) else str(v) for v in values.to_numpy(zero_copy_only=False)]
    else:
        texts = [str(value) for value in values.to_pylist()]
    codes = pc.fill_null(distinct.indices, len(texts)).to_numpy(zero_copy_only=False)
    return np.array([*texts, MISSING], object)[codes]


def model_columns(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns as the raw signature takes them.

    Returns:
        Column -> float32 `[rows]` with NaN where missing, or object `[rows]` of text with "" where missing.
    """
    out: dict[str, np.ndarray] = {}
    for name in names:
        column = columns[name]
        if pa.types.is_large_string(column.type):
            out[name] = np.array(pc.fill_null(column, "").to_pylist(), object)
        else:
            numbers = pc.fill_null(column.cast(pa.float64()), float("nan"))
            out[name] = numbers.to_numpy(zero_copy_only=False).astype(np.float32)
    return out


def device_columns(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return columns as the numpy sidecar takes them: exact integers, None or NaN where missing."""
    return {
        name: columns[name].to_numpy(zero_copy_only=False)  # nulls become NaN
        if pa.types.is_floating(columns[name].type)
        else columns[name].to_pylist()
        for name in names
    }
