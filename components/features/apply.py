"""Run a fitted transform graph over a split, in batches, and write transformed examples."""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from headrace.components.ingest.tfrecord import frame_records
from headrace.data.config import RawType

from .analyze import parse_spec

__all__ = ["transform_shards", "transformed_batches"]

_BATCH_ROWS = 8192
_GZIP = 31  # zlib's window bits for a gzip header

Transform = Callable[[Mapping[str, Any]], dict[str, Any]]


def transform_shards(
    shards: Sequence[str], types: Mapping[str, RawType], transform: Transform, folder: str
) -> Iterator[int]:
    """Write `transformed_examples-*-of-*.gz`, a file for each shard, rows in order.

    Args:
        shards: Gzip TFRecord files of tf.Example.
        types: Raw column -> type, of the columns to parse.
        transform: Column -> SparseTensor in, name -> dense `[rows, width]` out.
        folder: An existing folder.

    Yields:
        Rows written since the last yield.
    """
    encoder = RecordBatchToExamplesEncoder()
    for index, shard in enumerate(shards):
        name = f"transformed_examples-{index:05d}-of-{len(shards):05d}.gz"
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        with open(os.path.join(folder, name), "wb") as stream:
            for tensors in transformed_batches(shard, types, transform):
                batch = _record_batch(tensors)
                stream.write(packer.compress(frame_records(encoder.encode(batch))))
                yield batch.num_rows
            stream.write(packer.flush())


def transformed_batches(
    shard: str, types: Mapping[str, RawType], transform: Transform
) -> Iterator[dict[str, Any]]:
    """Yield the transformed rows of a shard: name -> array `[rows, width]`."""
    spec = parse_spec(types)
    return iter(
        tf.data.TFRecordDataset(shard, "GZIP")
        .batch(_BATCH_ROWS)
        .map(lambda serialized: transform(tf.io.parse_example(serialized, spec)), num_parallel_calls=2)
        .prefetch(1)
        .as_numpy_iterator()
    )


def _record_batch(tensors: Mapping[str, Any]) -> pa.RecordBatch:
    """Turn `[rows, width]` arrays into lists of `width` values."""
    names = sorted(tensors)
    columns = []
    for name in names:
        rows, width = tensors[name].shape
        offsets = pa.array(np.arange(rows + 1, dtype=np.int64) * width)
        columns.append(pa.LargeListArray.from_arrays(offsets, pa.array(tensors[name].reshape(-1))))
    return pa.RecordBatch.from_arrays(columns, names=names)
