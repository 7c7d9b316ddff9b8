"""Ingest as a Beam job: files are read, rows shuffled and shards written by the workers of an engine.

The result is that of the ingest in one process, row for row: a row's split, bucket and place in it depend on
its values, its position in the data and the seed alone. A file is read by one worker.
"""

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import discard_unfinished, whole_file
from headrace.data.columns import ColumnPlan
from headrace.data.config import SPLITS, DataConfig
from headrace.data.derived import unwindowed
from headrace.data.errors import HeadraceError
from headrace.data.readers.rows import read_blocks

from .run import gzip_level, shuffle_buckets
from .shuffle import choose_places, order_in_bucket
from .split import assign_splits
from .tally import Tally
from .tfrecord import shard_limits, shard_name, write_shard

__all__ = ["read_and_write"]

_TALLIES = "tallies"


def read_and_write(
    paths: Sequence[str],
    data: DataConfig,
    plan: ColumnPlan,
    seed: int,
    folder: str,
    temp_dir: str,
    engine: tuple[str, Sequence[str]],
) -> Tally:
    """Write the TFRecord shards of every split with one job, and return what was counted.

    Args:
        paths: The data's files, in order; workers must see them, and the folders, at the same path.
        data: The `data` section.
        plan: The columns that the config uses.
        seed: Of the shuffle of the training split.
        folder: Where `Split-*` folders are made.
        temp_dir: For the counts.
        engine: Its name, and Beam pipeline options.

    Raises:
        HeadraceError: What the first file that broke a rule raised.
    """
    runner, beam_args = engine
    for split in SPLITS:
        os.makedirs(os.path.join(folder, f"Split-{split}"))
    buckets = shuffle_buckets(paths, data, plan)
    tallies = os.path.join(temp_dir, "tallies.pickle")
    with beam_job(beam_args, runner) as pipeline:
        read = (
            pipeline
            | "Files" >> beam.Create(list(enumerate(paths)))
            | "Read" >> beam.ParDo(_ReadFile(data, plan)).with_outputs(_TALLIES, main="rows")
        )
        counted = read[_TALLIES] | "Sizes" >> beam.Map(_size)
        scattered = read.rows | "Scatter" >> beam.FlatMap(
            _scatter, buckets, seed, sizes=beam.pvalue.AsDict(counted)
        )
        places = scattered | "Place" >> beam.Map(_rows_of) | "Count" >> beam.CombinePerKey(sum)
        _ = (
            scattered
            | "Bucket" >> beam.GroupByKey()
            | "Arrange" >> beam.FlatMap(_arrange, buckets, seed, data.shards, beam.pvalue.AsDict(places))
            | "Shard" >> beam.GroupByKey()
            | "Write" >> beam.Map(_write, folder, gzip_level(plan))
        )
        gathered = read[_TALLIES] | "Gather" >> beam.combiners.ToList()
        _ = gathered | "Keep" >> beam.Map(_keep, tallies)
    discard_unfinished(folder)
    return _merged(pickle.loads(Path(tallies).read_bytes()), data, plan)


def _merged(found: list[tuple[int, int, Any]], data: DataConfig, plan: ColumnPlan) -> Tally:
    """Merge the tallies of all files in order, or raise the first error."""
    whole = Tally(data, [column.name for column in plan.columns])
    for _, _, tally in sorted(found, key=lambda item: item[0]):
        if isinstance(tally, HeadraceError):
            raise tally
        whole.merge(tally)
    return whole


class _ReadFile(beam.DoFn):
    """Reads a file: yields `(file, row, splits, rows)` a block, and at its end `(file, rows, tally)`."""

    def __init__(self, data: DataConfig, plan: ColumnPlan) -> None:
        self._data = data
        self._plan = plan

    def process(self, file: tuple[int, str]) -> Any:
        """Read one file; what it breaks is the tally's, so that the error arrives whole."""
        number, path = file
        names = [column.name for column in self._plan.columns]
        tally = Tally(self._data, names)
        rows = 0
        try:
            for block in read_blocks([path], self._data, unwindowed(self._data, self._plan.read)):
                tally.check(block, self._plan)
                batch = block.batch.select(names)
                splits = assign_splits(block, self._data, self._plan)
                tally.count([batch.filter(pa.array(splits == index)) for index in range(len(SPLITS))])
                yield number, rows, splits.tobytes(), _packed(batch)
                rows += batch.num_rows
        except HeadraceError as error:
            yield beam.pvalue.TaggedOutput(_TALLIES, (number, rows, error))
            return
        yield beam.pvalue.TaggedOutput(_TALLIES, (number, rows, tally))


def _size(counted: tuple[int, int, Any]) -> tuple[int, int]:
    return counted[0], counted[1]


def _scatter(
    block: tuple[int, int, bytes, bytes], buckets: int, seed: int, sizes: Mapping[int, int]
) -> Iterator[tuple[int, tuple[int, int, bytes]]]:
    """Yield (place, (position of the block, rows, their bytes)) for each place that rows of a block go to."""
    number, first, splits, content = block
    position = first + sum(size for other, size in sizes.items() if other < number)
    batch = _unpacked(content)
    place = choose_places(position, np.frombuffer(splits, np.uint8), buckets, seed)
    for chosen in np.unique(place).tolist():
        rows = batch.filter(pa.array(place == chosen))
        yield chosen, (position, rows.num_rows, _packed(rows))


def _rows_of(part: tuple[int, tuple[int, int, bytes]]) -> tuple[int, int]:
    return part[0], part[1][1]


def _arrange(
    group: tuple[int, Iterable[tuple[int, int, bytes]]],
    buckets: int,
    seed: int,
    shards: int,
    counts: Mapping[int, int],
) -> Iterator[tuple[tuple[str, int, int, int], tuple[int, bytes]]]:
    """Put the rows of a place in order; yield ((split, shard, shards, its rows), (position, rows))."""
    place, parts = group
    ordered = sorted(parts, key=lambda part: part[0])
    table = pa.Table.from_batches([_unpacked(content) for _, _, content in ordered])
    split = SPLITS[0] if place < buckets else SPLITS[place - buckets + 1]
    if split == SPLITS[0]:
        table = table.combine_chunks().take(pa.array(order_in_bucket(place, table.num_rows, seed)))
        start = sum(counts.get(other, 0) for other in range(place))
        total = sum(counts.get(other, 0) for other in range(buckets))
    else:
        start, total = 0, counts[place]
    limits = shard_limits(total, shards)
    begin = 0
    for index, end in enumerate(limits):
        low, high = max(begin, start), min(end, start + table.num_rows)
        if low < high:
            piece = table.slice(low - start, high - low).combine_chunks().to_batches()[0]
            yield (split, index, len(limits), end - begin), (low, _packed(piece))
        begin = end


def _write(
    group: tuple[tuple[str, int, int, int], Iterable[tuple[int, bytes]]], folder: str, level: int
) -> None:
    (split, index, shards, rows), parts = group
    ordered = sorted(parts, key=lambda part: part[0])
    path = os.path.join(folder, f"Split-{split}", shard_name(index, shards))
    write_shard(path, (_unpacked(content) for _, content in ordered), rows, level)


def _keep(found: list[Any], path: str) -> None:
    with whole_file(path) as scratch:
        Path(scratch).write_bytes(pickle.dumps(found))


def _packed(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _unpacked(content: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_next_batch()
