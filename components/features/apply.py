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
from headrace.components.whole_file import whole_file
from headrace.data.config import RawType

from .analyze import RowSize, batch_rows, parse_spec

__all__ = ["BatchTransform", "compile_transform", "transform_shard", "transform_shards"]

_BATCH_ROWS = 8192
_GZIP = 31  # zlib's window bits for a gzip header

BatchTransform = Callable[[Any], dict[str, Any]]
"""Serialized examples, string `[rows]` -> name -> dense `[rows, width]`."""


def compile_transform(
    transform: Callable[[Mapping[str, Any]], dict[str, Any]], types: Mapping[str, RawType]
) -> BatchTransform:
    """Return parsing and transforming as one function, traced once for all shards.

    Args:
        transform: Column -> SparseTensor in, name -> dense `[rows, width]` out.
        types: Raw column -> type, of the columns to parse.
    """
    spec = parse_spec(types)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def transform_batch(serialized: Any) -> dict[str, Any]:
        return transform(tf.io.parse_example(serialized, spec))

    return transform_batch.get_concrete_function()


def transform_shards(
    shards: Sequence[str], transform: BatchTransform, folder: str, row_size: RowSize
) -> Iterator[int]:
    """Write `transformed_examples-*-of-*.gz`, a file for each shard, rows in order.

    Args:
        shards: Gzip TFRecord files of tf.Example.
        transform: What to do with each batch.
        folder: An existing folder.
        row_size: What a row takes up: it bounds a batch.

    Yields:
        Rows written since the last yield.
    """
    for index, shard in enumerate(shards):
        yield from transform_shard(shard, transform, folder, (index, len(shards)), row_size)


def transform_shard(
    shard: str, transform: BatchTransform, folder: str, place: tuple[int, int], row_size: RowSize
) -> Iterator[int]:
    """Write the transformed file of one shard, whole or not at all.

    Args:
        shard: Gzip TFRecord file of tf.Example.
        transform: What to do with each batch.
        folder: An existing folder.
        place: Index of the shard, and how many there are.
        row_size: What a row takes up: it bounds a batch.

    Yields:
        Rows written since the last yield.
    """
    encoder = RecordBatchToExamplesEncoder()
    # Not `map(transform)`: each dataset would optimise the graph anew, at half a second a shard.
    rows = batch_rows(shard, _BATCH_ROWS, row_size)
    batches = tf.data.TFRecordDataset(shard, "GZIP").batch(rows).prefetch(1)
    path = os.path.join(folder, f"transformed_examples-{place[0]:05d}-of-{place[1]:05d}.gz")
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    with whole_file(path) as scratch, open(scratch, "wb") as stream:
        for serialized in batches:
            batch = _record_batch(transform(serialized))
            stream.write(packer.compress(frame_records(encoder.encode(batch))))
            yield batch.num_rows
        stream.write(packer.flush())


def _record_batch(tensors: Mapping[str, Any]) -> pa.RecordBatch:
    """Turn `[rows, width]` tensors into lists of `width` values."""
    names = sorted(tensors)
    columns = []
    for name in names:
        array = tensors[name].numpy()
        rows, width = array.shape
        offsets = pa.array(np.arange(rows + 1, dtype=np.int64) * width)
        columns.append(pa.LargeListArray.from_arrays(offsets, pa.array(array.reshape(-1))))
    return pa.RecordBatch.from_arrays(columns, names=names)
