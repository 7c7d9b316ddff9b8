"""Ingest as a Beam job: files are read, rows shuffled and shards written by the workers of an engine.

The result is that of the ingest in one process, row for row: a row's split, bucket and place in it depend on
its values, those of rows with equal keys or rare classes, its position in the data and the seeds alone. A
file is read by one worker.
"""

import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import discard_unfinished, whole_file
from headrace.data.columns import ColumnPlan
from headrace.data.config import SPLITS, DataConfig, HashSplit
from headrace.data.derived import unwindowed
from headrace.data.errors import HeadraceError
from headrace.data.readers.rows import read_blocks
from headrace.data.row_hashes import HashedColumns

from .deal import Dealer
from .row_records import codes_of, part_of
from .run import gzip_level, shuffle_buckets
from .shuffle import choose_places, order_in_bucket
from .split import assign_splits
from .survey import KEYS_FOLDER, Survey
from .survey_beam import Rows, position_of, survey_rows
from .tally import Tally
from .tfrecord import shard_limits, shard_name, write_shard

__all__ = ["read_and_write"]

_TALLIES = "tallies"
_PARTS = 1024
"""Ranges of keys that are dealt out at a time."""


def read_and_write(
    paths: Sequence[str],
    data: DataConfig,
    plan: ColumnPlan,
    hashed: HashedColumns,
    seed: int,
    folder: str,
    temp_dir: str,
    engine: tuple[str, Sequence[str]],
) -> tuple[Tally, Survey]:
    """Write the TFRecord shards and keys of every split with one job, and return what was counted.

    Args:
        paths: The data's files, in order; workers must see them, and the folders, at the same path.
        data: The `data` section.
        plan: The columns that the config uses.
        hashed: The columns whose values are hashed.
        seed: Of the shuffle of the training split.
        folder: Where `Split-*` and the folder of keys are made.
        temp_dir: For the counts.
        engine: Its name, and Beam pipeline options.

    Raises:
        HeadraceError: What the first file that broke a rule raised.
    """
    runner, beam_args = engine
    for name in (*(f"Split-{split}" for split in SPLITS), KEYS_FOLDER):
        os.makedirs(os.path.join(folder, name))
    buckets = shuffle_buckets(paths, data, plan)
    tallies = os.path.join(temp_dir, "tallies.pickle")
    with beam_job(beam_args, runner) as pipeline:
        read = (
            pipeline
            | "Files" >> beam.Create(list(enumerate(paths)))
            | "Read" >> beam.ParDo(_ReadFile(data, plan, hashed)).with_outputs(_TALLIES, main="rows")
        )
        counted = read[_TALLIES] | "Sizes" >> beam.Map(_size)
        sizes = beam.pvalue.AsDict(counted)
        rows = read.rows
        if isinstance(data.split, HashSplit):
            rows = _dealt(rows, read[_TALLIES], data, sizes)
        scattered = rows | "Scatter" >> beam.FlatMap(_scatter, buckets, seed, sizes=sizes)
        places = scattered | "Place" >> beam.Map(_rows_of) | "Count" >> beam.CombinePerKey(sum)
        _ = (
            scattered
            | "Bucket" >> beam.GroupByKey()
            | "Arrange" >> beam.FlatMap(_arrange, buckets, seed, data.shards, beam.pvalue.AsDict(places))
            | "Shard" >> beam.GroupByKey()
            | "Write" >> beam.Map(_write, folder, gzip_level(plan))
        )
        names = [column.name for column in plan.columns]
        by_split = rows | "Tally" >> beam.Map(_tally, data, names)
        surveyed = survey_rows(rows, sizes, os.path.join(folder, KEYS_FOLDER))
        gathered = (read[_TALLIES], by_split, surveyed) | beam.Flatten() | beam.combiners.ToList()
        _ = gathered | "Keep" >> beam.Map(_keep, tallies)
    discard_unfinished(folder)
    return _merged(pickle.loads(Path(tallies).read_bytes()), data, plan)


def _dealt(rows: Any, tallies: Any, data: DataConfig, sizes: Any) -> Any:
    """Return the blocks of `rows` with the splits of a hash split, told key by key."""
    totals = tallies | "Classes" >> beam.Map(_classes_of) | "AllClasses" >> beam.CombineGlobally(_summed)
    classes = beam.pvalue.AsSingleton(totals)
    ranked = rows | "Rare" >> beam.FlatMap(_ranked_keys, data, sizes, classes)
    splits = (
        rows
        | "ByKey" >> beam.FlatMap(_by_key, data, sizes, classes, beam.pvalue.AsList(ranked))
        | "Keys" >> beam.GroupByKey()
        | "Deal" >> beam.FlatMap(_deal, data, sizes, classes)
    )
    blocks = rows | "Blocks" >> beam.Map(_named)
    joined = {"blocks": blocks, "splits": splits} | "Join" >> beam.CoGroupByKey()
    return joined | "Told" >> beam.Map(_told)


def _merged(found: list[Any], data: DataConfig, plan: ColumnPlan) -> tuple[Tally, Survey]:
    """Merge what was counted in the order of the files, or raise the first error."""
    whole, counted = Tally(data, [column.name for column in plan.columns]), Survey()
    for part in found:
        if isinstance(part, Survey):
            counted = counted.plus(part)
    of_files = sorted((part for part in found if isinstance(part, tuple)), key=lambda part: part[0])
    for tally in (*(part[2] for part in of_files), *(part for part in found if isinstance(part, Tally))):
        if isinstance(tally, HeadraceError):
            raise tally
        whole.merge(tally)
    return whole, counted


class _ReadFile(beam.DoFn):
    """Reads a file: yields a `Rows` a block, and at its end `(file, rows, tally)`."""

    def __init__(self, data: DataConfig, plan: ColumnPlan, hashed: HashedColumns) -> None:
        self._data = data
        self._plan = plan
        self._hashed = hashed

    def process(self, file: tuple[int, str]) -> Any:
        """Read one file; what it breaks is the tally's, so that the error arrives whole."""
        number, path = file
        names = [column.name for column in self._plan.columns]
        tally = Tally(self._data, names)
        rows = 0
        columns = unwindowed(self._data, self._plan.read)
        try:
            for block in read_blocks([path], self._data, columns, self._hashed):
                tally.check(block, self._plan)
                tally.note_times(block)
                split = self._data.split
                splits = None if isinstance(split, HashSplit) else assign_splits(block, split)
                assert block.hashes is not None
                yield Rows(number, rows, block.hashes, splits, _packed(block.batch.select(names)))
                rows += block.batch.num_rows
        except HeadraceError as error:
            yield beam.pvalue.TaggedOutput(_TALLIES, (number, rows, error))
            return
        yield beam.pvalue.TaggedOutput(_TALLIES, (number, rows, tally))


def _classes_of(counted: tuple[int, int, Any]) -> dict[str, int]:
    tally = counted[2]
    return dict(tally.labels.totals) if isinstance(tally, Tally) else {}


def _summed(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for classes in found:
        total.update(classes)
    return dict(total)


def _dealer(data: DataConfig, sizes: Mapping[int, int], classes: Mapping[str, int]) -> Dealer:
    assert isinstance(data.split, HashSplit)
    return Dealer(data.split, sum(sizes.values()), [classes[name] for name in sorted(classes)])


def _codes(rows: Rows, data: DataConfig, classes: Mapping[str, int]) -> npt.NDArray[np.uint16]:
    """Return the class of each row, its place among the sorted ones."""
    if not classes:
        return np.zeros(len(rows.hashes.key), np.uint16)
    return codes_of(_unpacked(rows.content).column(data.label), {n: i for i, n in enumerate(sorted(classes))})


def _ranked_keys(
    rows: Rows, data: DataConfig, sizes: Mapping[int, int], classes: Mapping[str, int]
) -> list[int]:
    """Return the keys of a block whose rows are dealt out by rank; where all are, none need be named."""
    dealer = _dealer(data, sizes, classes)
    if dealer.by_rank or not len(dealer.rare):
        return []
    found: list[int] = dealer.ranked_keys(rows.hashes.key, _codes(rows, data, classes)).tolist()
    return found


def _by_key(
    rows: Rows, data: DataConfig, sizes: Mapping[int, int], classes: Mapping[str, int], ranked: Sequence[int]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield (part, (file, row, places in the block, positions, keys, codes)); ranked keys are a part."""
    dealer, keys = _dealer(data, sizes, classes), rows.hashes.key
    codes = _codes(rows, data, classes)
    parts = part_of(keys, _PARTS)
    if dealer.by_rank:
        parts[:] = _PARTS
    elif ranked:
        parts[np.isin(keys, np.array(ranked, np.uint64))] = _PARTS
    start = position_of(rows, sizes)
    for part in np.unique(parts).tolist():
        at = np.flatnonzero(parts == part)
        yield part, (rows.file, rows.first, at, start + at, keys[at], codes[at])


def _deal(
    group: tuple[int, Iterable[tuple[Any, ...]]],
    data: DataConfig,
    sizes: Mapping[int, int],
    classes: Mapping[str, int],
) -> Iterator[tuple[tuple[int, int], tuple[Any, Any]]]:
    """Deal out the rows of some keys; yield ((file, row), (places in the block, splits))."""
    blocks = sorted(group[1], key=lambda block: block[:2])
    positions, keys, codes = (np.concatenate([block[index] for block in blocks]) for index in (3, 4, 5))
    splits = _dealer(data, sizes, classes).deal(keys, codes, positions)
    start = 0
    for file, first, at, *_ in blocks:
        yield (file, first), (at, splits[start : start + len(at)])
        start += len(at)


def _named(rows: Rows) -> tuple[tuple[int, int], Rows]:
    return (rows.file, rows.first), rows


def _told(group: tuple[tuple[int, int], Mapping[str, Iterable[Any]]]) -> Rows:
    """Put the splits of a block's rows together."""
    (rows,) = group[1]["blocks"]
    splits = np.zeros(len(rows.hashes.key), np.uint8)
    for at, part in group[1]["splits"]:
        splits[at] = part
    return replace(rows, splits=splits)


def _tally(rows: Rows, data: DataConfig, names: Sequence[str]) -> Tally:
    """Count the rows of a block by split."""
    tally, batch = Tally(data, names), _unpacked(rows.content)
    tally.count([batch.filter(pa.array(rows.splits == index)) for index in range(len(SPLITS))])
    return tally


def _size(counted: tuple[int, int, Any]) -> tuple[int, int]:
    return counted[0], counted[1]


def _scatter(
    rows: Rows, buckets: int, seed: int, sizes: Mapping[int, int]
) -> Iterator[tuple[int, tuple[int, int, bytes]]]:
    """Yield (place, (position of the block, rows, their bytes)) for each place that rows of a block go to."""
    position, batch = position_of(rows, sizes), _unpacked(rows.content)
    assert rows.splits is not None
    place = choose_places(position, rows.splits, buckets, seed)
    for chosen in np.unique(place).tolist():
        part = batch.filter(pa.array(place == chosen))
        yield chosen, (position, part.num_rows, _packed(part))


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
