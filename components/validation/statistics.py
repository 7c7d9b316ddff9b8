"""The `statistics` node: TFDV statistics of every split, in one pass without Beam, or as a Beam job.

TFDV's own generators do the counting, fed with record batches from the batched C++ decoder. Their
accumulators are mergeable sketches of bounded size, so that memory does not grow with the rows. The
result is TFDV's own proto in stock StatisticsGen's files. Two numbers differ from a stock run's where a
column has more than 65,536 distinct values: their count and the top values are then estimates of TFDV's
sketches (KMV and Misra-Gries). Of pictures only presence and size are counted.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_data_validation.statistics.generators import top_k_uniques_sketch_stats_generator as sketches
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.errors import DataRejected

from .distributions import (
    DISTRIBUTION_FILE,
    SAMPLE_ROWS,
    Bins,
    Distribution,
    choose_bins,
    count_values,
    merge,
    write_distribution,
)

__all__ = [
    "STATISTICS_FILE", "compute_statistics", "picture_schema", "read_record_batches", "read_statistics",
    "run", "sampled_bins",
]  # fmt: skip

STATISTICS_FILE = "FeatureStats.pb"

_BATCH_ROWS = 16_384
_BATCH_BYTES = 64 << 20
_STEP_ROWS = 256
_BATCHES_BETWEEN_COMPACTIONS = 16
_SKETCH_VALUES = 65_536
_TF_DECORATION = re.compile(r"\{\{.*?\}\}|\[Op:.*")


def run(ctx: NodeContext) -> NodeResult:
    """Write `Split-*/FeatureStats.pb` and `Split-*/distribution.json` for every split of the examples.

    Raises:
        DataRejected: If a shard is damaged, or rows that ingest wrote are not there any more.
    """
    splits = sorted(Path(ctx.input("examples")).glob("Split-*"))
    weight = ctx.config.get("data.weight")
    ingest = json.loads(Path(ctx.input("examples"), "ingest.json").read_text(encoding="utf-8"))
    expected = ingest["splits"]
    pictures = [column["name"] for column in ingest["columns"] if column.get("type") == "image"]
    files = {split.name: sorted(path for path in split.iterdir() if path.is_file()) for split in splits}
    folder = ctx.outputs["statistics"]
    if ctx.distributed:
        from .statistics_beam import write_statistics

        emit("statistics", text=f"a Beam job on {ctx.beam_runner}")
        write_statistics(files, folder, weight, pictures, (ctx.beam_runner, ctx.beam_args))
    else:
        _write_here(files, folder, weight, pictures)
    rows, columns = [], 0
    for name, statistics in read_statistics(Path(folder)).items():
        (dataset,) = statistics.datasets
        _check_rows(dataset.num_examples, expected.get(name), Path(ctx.input("examples"), f"Split-{name}"))
        rows.append(f"{name} {dataset.num_examples:,}")
        columns = max(columns, len(dataset.features))
    return NodeResult(
        f"{columns} columns; rows: {', '.join(sorted(rows))}{ctx.by_engine}",
        {"statistics": {"beam_runner": ctx.beam_runner}},
    )


def _write_here(
    splits: Mapping[str, Sequence[Path]], folder: str, weight: str | None, pictures: Sequence[str]
) -> None:
    bins = sampled_bins(splits, pictures)
    for done, (name, files) in enumerate(splits.items()):
        emit("statistics", text=f"{name.removeprefix('Split-')} split", done=done, total=len(splits))
        counted = merge((), bins)
        statistics = compute_statistics(
            _counting(read_record_batches(files), bins, counted), weight, pictures
        )
        target = Path(folder, name)
        target.mkdir(parents=True, exist_ok=True)
        (target / STATISTICS_FILE).write_bytes(statistics.SerializeToString(deterministic=True))
        write_distribution(target / DISTRIBUTION_FILE, statistics.datasets[0].num_examples, counted)


def sampled_bins(splits: Mapping[str, Sequence[Path]], pictures: Sequence[str]) -> dict[str, Bins]:
    """Choose the common bins of all columns from the first rows of every file of each split.

    Args:
        splits: Folder name of a split -> its record files.
        pictures: Columns of bytes, which have none.
    """
    samples = {}
    for name, files in splits.items():
        most = max(_STEP_ROWS, SAMPLE_ROWS // max(1, len(files)))
        parts = (next(read_record_batches([path], most), None) for path in files)
        samples[name.removeprefix("Split-")] = [part for part in parts if part is not None]
    return choose_bins(samples, pictures)


def _counting(
    batches: Iterable[Any], bins: Mapping[str, Bins], counted: dict[str, Distribution]
) -> Iterator[Any]:
    """Yield the batches as they come, and count each into `counted`."""
    for batch in batches:
        counted.update(merge([counted, count_values(batch, bins)], bins))
        yield batch


def compute_statistics(
    batches: Iterable[Any], weight: str | None = None, pictures: Sequence[str] = ()
) -> Any:
    """Compute TFDV statistics of record batches.

    Args:
        batches: `pyarrow.RecordBatch`es of (large) lists, a row an example.
        weight: Column of example weights; weighted counts are then given too.
        pictures: Columns of bytes whose values are not counted, only their sizes.

    Returns:
        A `DatasetFeatureStatisticsList` with one dataset.
    """
    generators = _generators(weight, pictures)
    partial = [generator.create_accumulator() for generator in generators]
    empty = True
    for number, batch in enumerate(batches, 1):
        empty = False
        # Infinities are counted and reported; the NaN that their variance becomes is no news.
        with np.errstate(invalid="ignore"):
            partial = [g.add_input(acc, batch) for g, acc in zip(generators, partial, strict=True)]
        if number % _BATCHES_BETWEEN_COMPACTIONS == 0:
            partial = [g.compact(acc) for g, acc in zip(generators, partial, strict=True)]
    if empty:
        return statistics_pb2.DatasetFeatureStatisticsList(
            datasets=[statistics_pb2.DatasetFeatureStatistics()]
        )
    with np.errstate(invalid="ignore"):
        return stats_impl.extract_statistics_output(partial, generators)


def _generators(weight: str | None, pictures: Sequence[str]) -> list[Any]:
    """Return TFDV's default generators, with sketches wide enough to count exactly on usual columns.

    Its in-memory default keeps about 1,000 values: a column of 2,700 values that occur at most twice was
    given a top value with count 4.
    """
    schema = picture_schema(pictures)
    options = tfdv.StatsOptions(weight_feature=weight, schema=schema)
    generators = [
        generator
        for generator in stats_impl.get_generators(options, in_memory=True)
        if not isinstance(generator, sketches.TopKUniquesSketchStatsGenerator)
    ]
    generators.append(
        sketches.TopKUniquesSketchStatsGenerator(
            schema=schema,
            example_weight_map=options.example_weight_map,
            num_top_values=options.num_top_values,
            num_rank_histogram_buckets=options.num_rank_histogram_buckets,
            frequency_threshold=options.frequency_threshold,
            weighted_frequency_threshold=options.weighted_frequency_threshold,
            num_misragries_buckets=_SKETCH_VALUES,
            num_kmv_buckets=_SKETCH_VALUES,
        )
    )
    return generators


def picture_schema(pictures: Sequence[str]) -> Any:
    """Return a schema that keeps TFDV from counting the bytes of pictures; None where there are none."""
    if not pictures:
        return None
    schema = schema_pb2.Schema()
    for name in pictures:
        schema.feature.add(name=name, type=schema_pb2.BYTES).image_domain.SetInParent()
    return schema


def read_record_batches(files: Sequence[Path], batch_rows: int = _BATCH_ROWS) -> Iterator[Any]:
    """Read tf.Examples as record batches, without a schema (types are those of the examples).

    Args:
        files: TFRecord files; names that end in .gz are gzip.
        batch_rows: Most rows of a batch, >= 1; fewer where they would come to over about 64 MiB.

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
            for records in _bounded(dataset, batch_rows):
                yield decoder.DecodeBatch(records)
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, ValueError, RuntimeError) as error:
            reason = _TF_DECORATION.sub("", str(error).splitlines()[0]).strip()
            raise DataRejected(
                f"examples must be whole TFRecord files of tf.Example. Received: {reason} ({path})"
            ) from error


def _bounded(dataset: Any, batch_rows: int) -> Iterator[list[bytes]]:
    """Yield the records of a dataset in batches bounded by rows and by bytes."""
    step = min(_STEP_ROWS, batch_rows)
    records: list[bytes] = []
    size = 0
    for part in dataset.batch(step).prefetch(2).as_numpy_iterator():
        records += part.tolist()
        size += sum(map(len, records[-len(part) :]))
        if len(records) + step > batch_rows or size >= _BATCH_BYTES:
            yield records
            records, size = [], 0
    if records:
        yield records


def _check_rows(found: int, written: int | None, split: Path) -> None:
    # TensorFlow takes a gzip stream that ends between two records for a whole one.
    if written is not None and found != written:
        raise DataRejected(
            f"examples must hold every row that ingest wrote: {written:,}. Received: {found:,} ({split})",
            "A shard was cut short; run the ingest again.",
        )


def read_statistics(folder: Path) -> dict[str, Any]:
    """Read a statistics artifact: split -> `DatasetFeatureStatisticsList`, train first."""
    found = {}
    for path in sorted(folder.glob(f"Split-*/{STATISTICS_FILE}")):
        message = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
        found[path.parent.name.removeprefix("Split-")] = message
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "train", name))}
