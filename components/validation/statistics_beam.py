"""TFDV's statistics as a Beam job: stock StatisticsGen's transforms, on an engine that spreads the work."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import discard_unfinished, whole_file

from .statistics import STATISTICS_FILE, picture_schema, read_record_batches

__all__ = ["write_statistics"]


def write_statistics(
    splits: Mapping[str, Sequence[Path]],
    folder: str,
    weight: str | None,
    pictures: Sequence[str],
    engine: tuple[str, Sequence[str]],
) -> None:
    """Write `Split-*/FeatureStats.pb` of all splits with one job.

    Args:
        splits: Folder name of a split -> its record files.
        folder: Of the statistics artifact; workers must see it, and the record files, at the same path.
        weight: Column of example weights.
        pictures: Columns of bytes whose values are not counted, only their sizes.
        engine: Its name, and Beam pipeline options.
    """
    runner, beam_args = engine
    schema = picture_schema(pictures)
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
    discard_unfinished(folder)


def _options(weight: str | None, schema: schema_pb2.Schema | None) -> Any:
    return tfdv.StatsOptions(weight_feature=weight, schema=schema)


def _read(path: str) -> Any:
    return read_record_batches([Path(path)])


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
