"""The `statistics` node: TFDV statistics of every split, in one pass without Beam.

TFDV's own generators do the counting, fed with record batches from the batched C++ decoder. Their
accumulators are mergeable sketches of bounded size, so that memory does not grow with the rows. The
result is TFDV's own proto in stock StatisticsGen's files. Two numbers differ from a stock run's where a
column has more than 16,384 distinct values: their count and the top values are then estimates of TFDV's
sketches (KMV and Misra-Gries), as in `tfdv.generate_statistics_from_dataframe`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.errors import DataRejected

__all__ = ["STATISTICS_FILE", "compute_statistics", "read_record_batches", "read_statistics", "run"]

STATISTICS_FILE = "FeatureStats.pb"

_BATCH_ROWS = 16_384
_BATCHES_BETWEEN_COMPACTIONS = 16


def run(ctx: NodeContext) -> NodeResult:
    """Write `Split-*/FeatureStats.pb` for every split of the examples."""
    splits = sorted(Path(ctx.input("examples")).glob("Split-*"))
    weight = ctx.config.get("data.weight")
    rows, columns = [], 0
    for done, split in enumerate(splits):
        name = split.name.removeprefix("Split-")
        emit("statistics", text=f"{name} split", done=done, total=len(splits))
        files = sorted(path for path in split.iterdir() if path.is_file())
        statistics = compute_statistics(read_record_batches(files), weight)
        (dataset,) = statistics.datasets
        rows.append(f"{name} {dataset.num_examples:,}")
        columns = max(columns, len(dataset.features))
        target = Path(ctx.outputs["statistics"], split.name)
        target.mkdir(parents=True, exist_ok=True)
        (target / STATISTICS_FILE).write_bytes(statistics.SerializeToString(deterministic=True))
    return NodeResult(finding=f"{columns} columns; rows: {', '.join(rows)}")


def compute_statistics(batches: Iterable[Any], weight: str | None = None) -> Any:
    """Compute TFDV statistics of record batches.

    Args:
        batches: `pyarrow.RecordBatch`es of (large) lists, a row an example.
        weight: Column of example weights; weighted counts are then given too.

    Returns:
        A `DatasetFeatureStatisticsList` with one dataset.
    """
    options = tfdv.StatsOptions(weight_feature=weight)
    generators = stats_impl.get_generators(options, in_memory=True)
    partial = [generator.create_accumulator() for generator in generators]
    empty = True
    for number, batch in enumerate(batches, 1):
        empty = False
        partial = [
            generator.add_input(acc, batch) for generator, acc in zip(generators, partial, strict=True)
        ]
        if number % _BATCHES_BETWEEN_COMPACTIONS == 0:
            partial = [generator.compact(acc) for generator, acc in zip(generators, partial, strict=True)]
    if empty:
        return statistics_pb2.DatasetFeatureStatisticsList(
            datasets=[statistics_pb2.DatasetFeatureStatistics()]
        )
    return stats_impl.extract_statistics_output(partial, generators)


def read_record_batches(files: Sequence[Path], batch_rows: int = _BATCH_ROWS) -> Iterator[Any]:
    """Read tf.Examples as record batches, without a schema (types are those of the examples).

    Args:
        files: TFRecord files; names that end in .gz are gzip.
        batch_rows: Most rows of a batch, >= 1.

    Yields:
        `pyarrow.RecordBatch`es; a column that no row of a batch has is absent from it.

    Raises:
        DataRejected: If a file is damaged or a record is no tf.Example; names the file.
    """
    decoder = ExamplesToRecordBatchDecoder()
    for path in files:
        compression = "GZIP" if path.suffix == ".gz" else ""
        dataset = tf.data.TFRecordDataset(str(path), compression, buffer_size=8 << 20)
        try:
            for records in dataset.batch(batch_rows).prefetch(2).as_numpy_iterator():
                yield decoder.DecodeBatch(records.tolist())
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].removeprefix("{{function_node __wrapped").strip()
            raise DataRejected(
                f"examples must be whole TFRecord files of tf.Example. Received: {reason} ({path})"
            ) from error


def read_statistics(folder: Path) -> dict[str, Any]:
    """Read a statistics artifact: split -> `DatasetFeatureStatisticsList`, train first."""
    found = {}
    for path in sorted(folder.glob(f"Split-*/{STATISTICS_FILE}")):
        message = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
        found[path.parent.name.removeprefix("Split-")] = message
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "train", name))}
