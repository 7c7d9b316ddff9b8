"""Transform splits as a Beam job: each worker runs the fitted graph over whole shards."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import discard_unfinished, whole_file
from headrace.data.config import RawType

from .analyze import RowSize
from .apply import compile_transform, transform_shard
from .signatures import FittedTransform

__all__ = ["transform_splits"]


def transform_splits(
    splits: Mapping[str, Sequence[str]],
    types: Mapping[str, RawType],
    graph_dir: str,
    folder: str,
    row_size: RowSize,
    temp_dir: str,
    engine: tuple[str, Sequence[str]],
) -> dict[str, int]:
    """Write the same files as the transform in this process, with one job.

    Args:
        splits: Split -> gzip TFRecord files of tf.Example, in order.
        types: Raw column -> type, of the columns to parse.
        graph_dir: Folder of the fitted transform graph; workers must see it, and all files, at the same path.
        folder: Of the transformed examples.
        row_size: What a row takes up.
        temp_dir: For the count of rows.
        engine: Its name, and Beam pipeline options.

    Returns:
        Split -> rows written.
    """
    runner, beam_args = engine
    tasks = []
    for split, shards in splits.items():
        target = os.path.join(folder, f"Split-{split}")
        os.makedirs(target)
        tasks += [(split, shard, target, index, len(shards)) for index, shard in enumerate(shards)]
    counts = os.path.join(temp_dir, "transformed-rows.json")
    with beam_job(beam_args, runner) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(tasks)
            | "Transform" >> beam.ParDo(_TransformShard(graph_dir, dict(types), row_size))
            | "Count" >> beam.CombinePerKey(sum)
            | "Gather" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write_counts, counts)
        )
    discard_unfinished(folder)
    found: dict[str, int] = json.loads(Path(counts).read_text(encoding="utf-8"))
    return found


class _TransformShard(beam.DoFn):
    """Transforms one shard; the graph is loaded and traced once a worker."""

    def __init__(self, graph_dir: str, types: dict[str, RawType], row_size: RowSize) -> None:
        self._graph_dir = graph_dir
        self._types = types
        self._row_size = row_size
        self._transform: Any = None

    def setup(self) -> None:
        """Load the graph."""
        # Kept beside the traced function, which holds its tables by a weak reference alone.
        self._fitted = FittedTransform(self._graph_dir)
        self._transform = compile_transform(self._fitted.apply, self._types)

    def process(self, task: tuple[str, str, str, int, int]) -> Any:
        """Write the file of one shard; yield its split and rows."""
        split, shard, folder, index, count = task
        yield split, sum(transform_shard(shard, self._transform, folder, (index, count), self._row_size))


def _write_counts(counts: list[tuple[str, int]], path: str) -> None:
    with whole_file(path) as scratch:
        Path(scratch).write_text(json.dumps(dict(counts)), encoding="utf-8")
