"""TFDV's statistics as a Beam job: stock StatisticsGen's transforms, on an engine that spreads the work."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import discard_unfinished, whole_file

from .distributions import DISTRIBUTION_FILE, Bins, Distribution, count_values, merge, write_distribution
from .statistics import STATISTICS_FILE, picture_schema, read_record_batches, sampled_bins

__all__ = ["write_statistics"]

_Counted = tuple[int, dict[str, Distribution]]
"""Rows, and the distribution of each column."""


def write_statistics(
    splits: Mapping[str, Sequence[Path]],
    folder: str,
    weight: str | None,
    pictures: Sequence[str],
    engine: tuple[str, Sequence[str]],
) -> None:
    """Write `Split-*/FeatureStats.pb` and `Split-*/distribution.json` of all splits with one job.

    Args:
        splits: Folder name of a split -> its record files.
        folder: Of the statistics artifact; workers must see it, and the record files, at the same path.
        weight: Column of example weights.
        pictures: Columns of bytes whose values are not counted, only their sizes.
        engine: Its name, and Beam pipeline options.
    """
    runner, beam_args = engine
    schema = picture_schema(pictures)
    bins = sampled_bins(splits, pictures)
    with beam_job(beam_args, runner) as pipeline:
        for name, files in splits.items():
            os.makedirs(os.path.join(folder, name), exist_ok=True)
            batches = (
                pipeline
                | f"Files {name}" >> beam.Create([str(path) for path in files])
                | f"Read {name}" >> beam.FlatMap(_read)
            )
            statistics = batches | f"Count {name}" >> tfdv.GenerateStatistics(_options(weight, schema))
            path = os.path.join(folder, name, STATISTICS_FILE)
            _ = statistics | f"Write {name}" >> beam.Map(_write, path)
            counted = batches | f"Count rows {name}" >> beam.Map(_count, bins)
            counted = counted | f"Add up {name}" >> beam.CombineGlobally(_add_up, bins)
            _ = counted | f"Write rows {name}" >> beam.Map(_write_counts, os.path.join(folder, name))
    discard_unfinished(folder)


def _options(weight: str | None, schema: schema_pb2.Schema | None) -> Any:
    return tfdv.StatsOptions(weight_feature=weight, schema=schema)


def _read(path: str) -> Any:
    return read_record_batches([Path(path)])


def _count(batch: Any, bins: Mapping[str, Bins]) -> _Counted:
    return batch.num_rows, count_values(batch, bins)


def _add_up(parts: Iterable[_Counted], bins: Mapping[str, Bins]) -> _Counted:
    held = list(parts)
    return sum(rows for rows, _ in held), merge((columns for _, columns in held), bins)


def _write_counts(counted: _Counted, folder: str) -> None:
    with whole_file(os.path.join(folder, DISTRIBUTION_FILE)) as scratch:
        write_distribution(Path(scratch), *counted)


def _write(statistics: Any, path: str) -> None:
    """Write one split's statistics, columns in the order of their names: an engine gives them in any."""
    message = statistics_pb2.DatasetFeatureStatisticsList()
    message.CopyFrom(statistics)
    for dataset in message.datasets:
        ordered = sorted(dataset.features, key=lambda feature: tuple(feature.path.step))
        del dataset.features[:]
        dataset.features.extend(ordered)
    with whole_file(path) as scratch:
        Path(scratch).write_bytes(message.SerializeToString(deterministic=True))
