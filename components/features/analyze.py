"""Fit a preprocessing_fn on the training split with tf.Transform, in large batches."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

from headrace.components.beam_job import beam_job
from headrace.data.config import RawType

__all__ = ["RowSize", "analyze", "batch_rows", "parse_spec", "read_record_batches"]

_BATCH_ROWS = 131_072  # the work that Beam and TensorFlow do per batch, not per row, is what costs
_BATCH_BYTES = 256 << 20

_DTYPES = {
    "int": tf.int64,
    "float": tf.float32,
    "string": tf.string,
    "floats": tf.float32,
    "image": tf.string,
}


@dataclass(frozen=True)
class RowSize:
    """What a row takes up while it is transformed: `factor` times its serialized size, and `extra` bytes."""

    factor: int = 4
    extra: int = 0


def parse_spec(types: Mapping[str, RawType]) -> dict[str, tf.io.VarLenFeature]:
    """Return the parse spec of raw columns, each of which may be absent."""
    return {name: tf.io.VarLenFeature(_DTYPES[kind]) for name, kind in types.items()}


def analyze(
    shards: Sequence[str],
    types: Mapping[str, RawType],
    preprocessing_fn: Callable[[Mapping[str, Any]], dict[str, Any]],
    transform_graph_dir: str,
    temp_dir: str,
    beam_args: Sequence[str] = (),
    row_size: RowSize = RowSize(),
    *,
    runner: str = "direct",
) -> None:
    """Fit `preprocessing_fn` and write `transform_fn/`, `transformed_metadata/` and `metadata/`.

    Args:
        shards: Gzip TFRecord files of tf.Example: the training split.
        types: Raw column -> type, of the columns to parse.
        preprocessing_fn: Takes column -> SparseTensor `[rows, values]`.
        transform_graph_dir: An empty folder.
        temp_dir: For Beam's scratch files.
        beam_args: Beam pipeline options, runner included.
        row_size: What a row takes up: it bounds a batch.
        runner: Name of Beam's engine; `direct`: this process.
    """
    schema = schema_utils.schema_from_feature_spec(parse_spec(types))
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata(schema), os.path.join(transform_graph_dir, "metadata")
    )
    adapter = TFExampleBeamRecord(
        physical_format="inmem", telemetry_descriptors=["headrace"], schema=schema
    ).TensorAdapterConfig()
    spread = runner != "direct"
    options = PipelineOptions(list(beam_args), pipeline_type_check=False)
    job = beam_job(beam_args, runner) if spread else beam.Pipeline(options=options)
    with job as pipeline, tft_beam.Context(temp_dir=temp_dir):
        batches = (
            pipeline
            | "Shards" >> beam.Create(list(shards), reshuffle=spread)
            | "Read" >> beam.FlatMap(read_record_batches, schema.SerializeToString(), row_size)
        )
        fitted = (batches, adapter) | "Fit" >> tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = fitted | "Write" >> tft_beam.WriteTransformFn(transform_graph_dir)


def read_record_batches(shard: str, schema: bytes, row_size: RowSize) -> Iterator[Any]:
    """Yield the rows of a shard as large Arrow record batches.

    Args:
        shard: A gzip TFRecord file of tf.Example.
        schema: Serialized TFMD schema of the columns to read.
        row_size: What a row takes up: it bounds a batch.
    """
    decoder = ExamplesToRecordBatchDecoder(schema)
    rows = batch_rows(shard, _BATCH_ROWS, row_size)
    for batch in tf.data.TFRecordDataset(shard, "GZIP").batch(rows).as_numpy_iterator():
        yield decoder.DecodeBatch(batch.tolist())


def batch_rows(shard: str, most: int, row_size: RowSize) -> int:
    """Return how many rows of a shard to take at once: about 256 MiB of them, at least one, at most `most`.

    Args:
        shard: A gzip TFRecord file, whose first records stand for all.
        most: Rows, >= 1.
        row_size: What a row takes up.
    """
    records = tf.data.TFRecordDataset(shard, "GZIP").take(64).as_numpy_iterator()
    size = max((len(record) for record in records), default=1)
    return max(1, min(most, _BATCH_BYTES // (size * row_size.factor + row_size.extra)))
