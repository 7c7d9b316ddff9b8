"""Golden vectors: raw rows and what the fitted transform makes of them."""

import base64
import math
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
from headrace.serving.images import encode_png
from headrace.serving.raw import picture_bytes

from .analyze import parse_spec
from .signatures import FittedTransform

__all__ = ["GOLDEN_ROWS", "encode_rows", "golden_limit", "golden_rows", "golden_vectors", "read_rows"]

GOLDEN_ROWS = 256
"""Rows taken from the data, before those in which a column is missing or unseen."""

_FEWEST_ROWS = 8
_MOST_NUMBERS = 400_000
"""Of all rows together: about 4 MB of JSON."""

Row = dict[str, Any]

_UNSEEN: Mapping[str, int | float | str] = {
    "int": -9_999_991,  # small enough for the float32 of the `serving_raw` signature
    "float": -987_654.5,
    "string": "unseen \N{SNOWMAN}",
}
_UNSEEN_PICTURE = encode_png(np.arange(0, 252, 14).astype(np.uint8).reshape(2, 3, 3))
_ARROW = {
    "int": pa.int64(),
    "float": pa.float32(),
    "string": pa.string(),
    "floats": pa.large_list(pa.float32()),
    "image": pa.binary(),
}


def golden_limit(width: int) -> int:
    """Return how many rows of the data golden vectors take: fewer where a row is large.

    Args:
        width: Numbers of a transformed row, of all model inputs together.
    """
    return max(_FEWEST_ROWS, min(GOLDEN_ROWS, _MOST_NUMBERS // max(width, 1)))


def read_rows(shards: Sequence[str], types: Mapping[str, RawType], limit: int) -> list[Row]:
    """Read the first `limit` rows of TFRecord shards as JSON values: column -> value, None where missing.

    A list has None for each step without a number; a picture is `{"b64": text}`, as REST clients send it.
    """
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
        found.append((row := next(given)) | {name: _unseen(kind, row[name])})
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
    """Serialize rows as tf.Examples; a missing value leaves its feature out.

    Args:
        rows: As `read_rows` gives them; pictures may also be bytes.
        types: Raw column -> type.
    """
    arrays = [
        pa.array([_encodable(row[name], kind) for row in rows], _ARROW[kind]) for name, kind in types.items()
    ]
    return encode_examples(pa.RecordBatch.from_arrays(arrays, names=list(types)))


def _unseen(kind: RawType, value: Any) -> Any:
    """Return a value that no data holds; of a list, one as long as `value`."""
    if kind == "image":
        return {"b64": base64.b64encode(_UNSEEN_PICTURE).decode()}
    if kind == "floats":
        # A constant: what is mixed from numbers of this size and opposite signs has few true digits.
        return [_UNSEEN["float"]] * (len(value) if value else 1)
    return _UNSEEN[kind]


def _encodable(value: Any, kind: RawType) -> Any:
    if value is None:
        return None
    if kind == "floats":
        return [math.nan if step is None else step for step in value]
    return picture_bytes(value) or None if kind == "image" else value


def _plain(values: list[Any] | None, kind: RawType) -> Any:
    if not values:
        return None
    if kind == "floats":
        return [None if math.isnan(step) else step for step in values]
    if kind == "image":
        return {"b64": base64.b64encode(values[0]).decode()}
    return values[0].decode() if kind == "string" else values[0]


def _finite(values: Any) -> list[Any]:
    """Return nested lists, with None for what JSON cannot hold and floats in as few digits as they need."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    short = values.astype(str).astype(np.float64)  # the shortest text that gives the same float32
    if not np.isfinite(short).all():
        short = np.where(np.isfinite(short), short.astype(object), None)
    return list(short.tolist())
