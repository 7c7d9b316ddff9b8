"""Golden vectors: raw rows and what the fitted transform makes of them."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from headrace.components.ingest.tfrecord import encode_examples
from headrace.data.config import RawType

from .analyze import parse_spec
from .signatures import FittedTransform

__all__ = ["GOLDEN_ROWS", "encode_rows", "golden_rows", "golden_vectors", "read_rows"]

GOLDEN_ROWS = 256
"""Rows taken from the data, before those in which a column is missing or unseen."""

Row = dict[str, Any]

_UNSEEN: Mapping[str, int | float | str] = {
    "int": -9_999_991,  # small enough for the float32 of the `serving_raw` signature
    "float": -987_654.5,
    "string": "unseen \N{SNOWMAN}",
}
_ARROW = {"int": pa.int64(), "float": pa.float32(), "string": pa.string()}


def read_rows(shards: Sequence[str], types: Mapping[str, RawType], limit: int) -> list[Row]:
    """Read the first `limit` rows of TFRecord shards: column -> value, None where missing."""
    schema = schema_utils.schema_from_feature_spec(parse_spec(types))
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    records = list(tf.data.TFRecordDataset(list(shards), "GZIP").take(limit).as_numpy_iterator())
    columns = decoder.DecodeBatch(records).to_pydict() if records else {}
    return [
        {name: _plain(columns[name][row], kind) for name, kind in types.items()}
        for row in range(len(records))
    ]


def golden_rows(rows: Sequence[Row], types: Mapping[str, RawType], limit: int = GOLDEN_ROWS) -> list[Row]:
    """Return `limit` rows (repeating what there is), then each column once missing and once unseen.

    Args:
        rows: Rows of the data, at least one.
        types: Raw column -> type.
        limit: Rows to take as they are.
    """
    given = cycle(rows)
    found = list(islice(given, limit))
    for name, kind in types.items():
        found.append(next(given) | {name: None})
        found.append(next(given) | {name: _UNSEEN[kind]})
    found.append(dict.fromkeys(types))
    return found


def golden_vectors(
    rows: Sequence[Row], types: Mapping[str, RawType], transform: FittedTransform
) -> dict[str, Any]:
    """Return the content of golden.json: the rows, and the transform graph's outputs for them."""
    outputs = transform.from_examples(tf.constant(encode_rows(rows, types)))
    transformed = {name: _finite(tensor.numpy()) for name, tensor in outputs.items()}
    return {"inputs": list(rows), "transformed": transformed}


def encode_rows(rows: Sequence[Row], types: Mapping[str, RawType]) -> list[bytes]:
    """Serialize rows as tf.Examples; a missing value leaves its feature out."""
    arrays = [pa.array([row[name] for row in rows], _ARROW[kind]) for name, kind in types.items()]
    return encode_examples(pa.RecordBatch.from_arrays(arrays, names=list(types)))


def _plain(values: list[Any] | None, kind: RawType) -> Any:
    if not values:
        return None
    return values[0].decode() if kind == "string" else values[0]


def _finite(values: Any) -> list[Any]:
    """Return nested lists, with None for what JSON cannot hold."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values.astype(object), None)
    return values.tolist()
