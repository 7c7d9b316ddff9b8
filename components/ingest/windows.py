"""Windows over long series: rows are gathered by series on disk, put in order, and cut.

Memory holds one bucket of series at a time, so a single series must fit in it; without
`data.windows.group` that is all rows.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.columns import ColumnPlan
from headrace.data.config import DataConfig, Windows
from headrace.data.errors import DataRejected
from headrace.data.hashing import hash_rows
from headrace.data.readers.block import Block
from headrace.data.readers.values import FLOATS, first_true
from headrace.data.row_hashes import RowHashes

__all__ = ["CutWindows", "WindowRows"]

_ROW, _FILE, _KEY = "\0row", "\0file", "\0key"
_CHUNK_VALUES = 4_000_000
_ISO_DATE = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowRows:
    """Windows as rows.

    Attributes:
        block: What is written: lists, other columns as they are in a window's last row, and the label and
            weight of the row that is `horizon` rows later, whose key is the window's.
        judged: The rows of the labels, by which the split is told.
    """

    block: Block
    judged: Block


class CutWindows:
    """Gathers rows by series and cuts them into windows.

    Args:
        data: The `data` section; it has `windows`.
        plan: The columns that the config uses.
        folder: An empty folder for scratch files.
        buckets: Files to gather series in, >= 1.
    """

    def __init__(self, data: DataConfig, plan: ColumnPlan, folder: str, buckets: int) -> None:
        assert data.windows is not None
        self._data, self._plan, self._windows = data, plan, data.windows
        self._folder = folder
        self._buckets = buckets if data.windows.group else 1
        self._files: list[str] = []
        self.rows = 0
        self.unlabelled = 0

    def cut(self, blocks: Iterable[Block]) -> Iterator[WindowRows]:
        """Yield the windows of all series.

        A window whose label is missing is counted in `unlabelled` and left out.

        Args:
            blocks: Clean rows with the columns of `headrace.data.derived.unwindowed`.

        Raises:
            DataRejected: If rows of a series share their place in the order or lack it, or no series is
                long enough.
        """
        paths = self._gather(blocks)
        found = False
        for path in paths:
            with pa.ipc.open_stream(pa.OSFile(path)) as reader:
                table = reader.read_all()
            os.remove(path)
            for rows in self._cut_bucket(table):
                found = True
                yield rows
        if not found:
            wanted = self._windows.length + self._windows.horizon
            raise DataRejected(
                f"a series must have at least {wanted} rows with a label at the end, for windows of "
                f"{self._windows.length} and a horizon of {self._windows.horizon}. Received: none among "
                f"{self.rows:,} rows (data.windows)"
            )

    def _gather(self, blocks: Iterable[Block]) -> list[str]:
        """Write rows to files so that each series is in one; return the files."""
        paths: list[str] = []
        writers: list[Any] = []
        with ExitStack() as stack:
            for block in blocks:
                batch = self._placed(block)
                if not writers:
                    paths = [
                        os.path.join(self._folder, f"series-{index:03d}.arrow")
                        for index in range(self._buckets)
                    ]
                    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
                    writers = [
                        stack.enter_context(pa.ipc.new_stream(path, batch.schema, options=options))
                        for path in paths
                    ]
                for writer, part in zip(writers, self._dealt(batch), strict=True):
                    if part.num_rows:
                        writer.write_batch(part)
        return paths

    def _placed(self, block: Block) -> pa.RecordBatch:
        """Add where each row stands."""
        if block.path not in self._files[-1:]:
            self._files.append(block.path)
        count = block.batch.num_rows
        self.rows += count
        rows = block.rows if block.rows is not None else block.first_row + np.arange(count, dtype=np.int64)
        files = np.full(count, len(self._files) - 1, np.int32)
        order = block.batch.column(self._windows.order)
        if (missing := first_true(order.is_null())) is not None:
            raise DataRejected(
                f"every row must have its place in the order. Received: no value of {self._windows.order!r} "
                f"({block.place(missing)})"
            )
        assert block.hashes is not None
        batch = block.batch.append_column(_ROW, pa.array(rows)).append_column(_FILE, pa.array(files))
        return batch.append_column(_KEY, pa.array(block.hashes.key))

    def _dealt(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        if self._buckets == 1:
            yield batch
            return
        hashes = hash_rows({name: batch.column(name) for name in self._windows.group})
        bucket = (hashes % np.uint64(self._buckets)).astype(np.int64)
        for index in range(self._buckets):
            yield batch.take(pa.array(np.flatnonzero(bucket == index)))

    def _cut_bucket(self, table: pa.Table) -> Iterator[WindowRows]:
        """Cut the series of one bucket, as many windows at a time as keep memory bounded."""
        if not table.num_rows:
            return
        table = self._in_order(table)
        labels = table.column(self._data.label).combine_chunks()
        starts = window_starts(self._series_lengths(table), self._windows)
        ends = starts + (self._windows.length - 1)
        told = ends + self._windows.horizon
        if self._data.task != "multilabel":
            known = labels.is_valid().to_numpy(zero_copy_only=False)[told]
            self.unlabelled += int(np.count_nonzero(~known))
            starts, ends, told = starts[known], ends[known], told[known]
        size = max(1, _CHUNK_VALUES // self._windows.length)
        for at in range(0, len(starts), size):
            chunk = slice(at, at + size)
            yield self._rows_of(table, starts[chunk], ends[chunk], told[chunk])

    def _in_order(self, table: pa.Table) -> pa.Table:
        """Sort by series and order, and check that no two rows of a series share a place."""
        order = self._windows.order
        place = table.schema.get_field_index(order)
        comparable = self._comparable(table)
        keys = table.select([*self._windows.group, _FILE, _ROW])
        # Names of columns may be anything, so that keys get names of their own.
        keys = keys.rename_columns([f"k{index}" for index in range(keys.num_columns)])
        keys = keys.append_column("order", comparable)
        groups = [(f"k{index}", "ascending") for index in range(len(self._windows.group))]
        ends = [(f"k{len(groups)}", "ascending"), (f"k{len(groups) + 1}", "ascending")]
        places = pc.sort_indices(keys, sort_keys=[*groups, ("order", "ascending"), *ends])
        table = table.take(places).combine_chunks()
        sorted_order = comparable.take(places)
        twice = ~self._first_of_series(table)
        twice[1:] &= pc.equal(sorted_order[1:], sorted_order[:-1]).to_numpy(zero_copy_only=False)
        if len(found := np.flatnonzero(twice)):
            at = int(found[0])
            value = table.column(place)[at].as_py()
            raise DataRejected(
                f"rows of a series must differ in {order!r}. Received: {value!r} twice "
                f"({self._place(table, at - 1)}, and {self._place(table, at)})",
                "name the columns that tell series apart in `data.windows.group`",
            )
        return table

    def _comparable(self, table: pa.Table) -> pa.Array:
        """Return the order as numbers, or as text where it is of ISO 8601 dates."""
        values = table.column(self._windows.order).combine_chunks()
        if not pa.types.is_string(values.type):
            return values
        try:
            return pc.utf8_trim_whitespace(values).cast(pa.float64())
        except pa.ArrowInvalid:
            odd = first_true(pc.invert(pc.match_substring_regex(values, _ISO_DATE)))
            if odd is None:
                return values
            raise DataRejected(
                f"the order of a series must be numbers, or ISO 8601 dates such as 2026-01-31. Received: "
                f"{values[odd].as_py()!r} in column {self._windows.order!r} ({self._place(table, odd)})"
            ) from None

    def _first_of_series(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Mark the first row of each series of a sorted table."""
        first = np.zeros(table.num_rows, bool)
        first[0] = True
        for name in self._windows.group:
            codes = table.column(name).combine_chunks().dictionary_encode(null_encoding="encode").indices
            first[1:] |= np.diff(codes.to_numpy(zero_copy_only=False)) != 0
        return first

    def _series_lengths(self, table: pa.Table) -> Places:
        starts = np.flatnonzero(self._first_of_series(table))
        return np.diff(np.append(starts, table.num_rows)).astype(np.int64)

    def _place(self, table: pa.Table, row: int) -> str:
        path = self._files[table.column(_FILE)[row].as_py()]
        return f"row {table.column(_ROW)[row].as_py()} of {path}"

    def _rows_of(self, table: pa.Table, starts: Places, ends: Places, told: Places) -> WindowRows:
        sources = self._windows.sources
        from_label = {self._data.label, self._data.weight}
        arrays = []
        for column in self._plan.columns:
            if column.name in sources:
                arrays.append(_lists(table.column(sources[column.name]), starts, self._windows.length))
            else:
                places = told if column.name in from_label else ends
                arrays.append(_taken(table, column.name, places))
        written = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in self._plan.columns])
        rows = _taken(table, _ROW, told).to_numpy()
        paths = [self._files[index] for index in _taken(table, _FILE, told).to_pylist()]
        inputs = hash_rows({name: written.column(name) for name in self._plan.features})
        hashes = RowHashes(_taken(table, _KEY, told).to_numpy(), inputs)
        block = Block(paths[0], int(rows[0]), written, rows=rows, paths=paths, hashes=hashes)
        names = [column.name for column in self._plan.read if column.name not in sources]
        judged = pa.RecordBatch.from_arrays([_taken(table, name, told) for name in names], names=names)
        return WindowRows(block, Block(paths[0], int(rows[0]), judged, rows=rows, paths=paths))


def window_starts(lengths: Sequence[int] | Places, windows: Windows) -> Places:
    """Return the first row of each window over series that stand one after another.

    Args:
        lengths: int64 `[series]`, rows of each.
        windows: The section.

    Returns:
        int64 `[windows]`; window and label lie within one series.
    """
    sizes = np.asarray(lengths, np.int64)
    begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
    position = np.arange(sizes.sum()) - begins
    room = np.repeat(sizes, sizes) - position - windows.length - windows.horizon
    return np.flatnonzero((position % windows.stride == 0) & (room >= 0))


def _lists(column: pa.ChunkedArray, starts: Places, length: int) -> pa.Array:
    """Return large_list of float32: `length` values from each start; a window without any is null."""
    numbers = column.combine_chunks().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = numbers.astype(np.float32)[starts[:, np.newaxis] + np.arange(length)]
    missing = np.isnan(values).all(axis=1)
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(np.where(missing, 0, length), out=offsets[1:])
    flat = pa.array(values[~missing].reshape(-1), FLOATS.value_type, from_pandas=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(missing))


def _taken(table: pa.Table, name: str, places: Places) -> pa.Array:
    return table.column(name).combine_chunks().take(pa.array(places))
