"""A global shuffle of more rows than fit in memory.

Rows go at random into buckets on disk; later each bucket, which does fit, is permuted. Reading
the buckets one after another then gives a uniform random order of all rows.
"""

import itertools
import os
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.data.config import SPLITS
from headrace.data.hashing import mix

__all__ = ["Spill", "bucket_count", "choose_places", "order_in_bucket"]

_BUCKET_BYTES = 32 << 20
_MAX_BUCKETS = 256  # each holds a file open, and the usual limit is 1024
_UNPACKED = {".gz": 8, ".parquet": 8}


def bucket_count(paths_and_sizes: list[tuple[str, int]], elsewhere: bool = False) -> int:
    """Return how many buckets keep each at about 32 MiB of text, between 1 and 256.

    Args:
        paths_and_sizes: Source files and their size in bytes; compressed ones count eightfold.
        elsewhere: Whether the files name further ones, of unknown size: as many buckets as there can be.
    """
    if elsewhere:
        return _MAX_BUCKETS
    total = sum(size * _UNPACKED.get(os.path.splitext(path)[1], 1) for path, size in paths_and_sizes)
    return min(max(1, -(-total // _BUCKET_BYTES)), _MAX_BUCKETS)


def choose_places(
    first: int, splits: npt.NDArray[np.uint8], buckets: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return where rows go: a bucket for the training split, then one place for each other split.

    Args:
        first: Position of the first row among all rows of the data.
        splits: uint8 `[rows]`, index in `SPLITS`.
        buckets: Of the training split, >= 1.
        seed: Of the shuffle.

    Returns:
        int64 `[rows]`, in `[0, buckets + 2)`.
    """
    position = np.arange(first, first + len(splits), dtype=np.uint64)
    bucket = (mix(position ^ _scrambled(seed)) % np.uint64(buckets)).astype(np.int64)
    return np.where(splits == 0, bucket, splits.astype(np.int64) + (buckets - 1))


def order_in_bucket(index: int, rows: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the permutation of the rows of a bucket, independent of the choice of the bucket."""
    key = np.arange(rows, dtype=np.uint64) + (np.uint64(index) << np.uint64(40))
    return np.argsort(mix(mix(key) ^ _scrambled(seed)), kind="stable")


def _scrambled(seed: int) -> np.uint64:
    scrambled: np.uint64 = mix(np.array([seed % 2**64], np.uint64))[0]
    return scrambled


class Spill:
    """Rows on disk, by split: the training split shuffled, the others in the order of arrival.

    Everything depends only on the rows, their order and the seed: the position of a row is scrambled
    into its bucket and into its place therein.

    Args:
        folder: An empty folder for the files.
        schema: Of the batches.
        buckets: Files for the training split, >= 1.
        seed: Of the shuffle.
    """

    def __init__(self, folder: str, schema: pa.Schema, buckets: int, seed: int) -> None:
        self._schema = schema
        self._buckets = buckets
        self._seed = seed
        self._rows_seen = 0
        self.rows = dict.fromkeys(SPLITS, 0)
        names = [f"train-{index:03d}" for index in range(buckets)] + list(SPLITS[1:])
        self._paths = [os.path.join(folder, f"{name}.arrow") for name in names]
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writers = [pa.ipc.new_stream(path, schema, options=options) for path in self._paths]

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        for writer in self._writers:
            # A full disk makes the end marker fail too; the first error is the one to hear about.
            try:
                writer.close()
            except (OSError, pa.ArrowException):
                continue

    def add(self, batch: pa.RecordBatch, splits: npt.NDArray[np.uint8]) -> list[pa.RecordBatch]:
        """Take in rows.

        Args:
            batch: The rows.
            splits: uint8 `[rows]`, index in `SPLITS`.

        Returns:
            The rows of each split, in the order of `SPLITS`.
        """
        place = choose_places(self._rows_seen, splits, self._buckets, self._seed)
        self._rows_seen += batch.num_rows
        rows = batch.take(pa.array(np.argsort(place, kind="stable")))
        ends = np.cumsum(np.bincount(place, minlength=len(self._writers))).tolist()
        for writer, start, end in zip(self._writers, [0, *ends], ends, strict=False):
            if end > start:
                writer.write_batch(rows.slice(start, end - start))
        limits = [0, ends[self._buckets - 1], ends[self._buckets], ends[self._buckets + 1]]
        parts = [rows.slice(a, b - a) for a, b in itertools.pairwise(limits)]
        for name, part in zip(SPLITS, parts, strict=True):
            self.rows[name] += part.num_rows
        return parts

    def close(self) -> None:
        """End the files, so that they can be read."""
        for writer in self._writers:
            writer.close()

    def read(self, split: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one split, and delete each file when it has been read."""
        if split != SPLITS[0]:
            path = self._paths[self._buckets + SPLITS.index(split) - 1]
            with pa.ipc.open_stream(pa.OSFile(path)) as reader:
                yield from reader
            os.remove(path)
            return
        for index in range(self._buckets):
            path = self._paths[index]
            with pa.ipc.open_stream(pa.OSFile(path)) as reader:
                table = reader.read_all()
            os.remove(path)
            if table.num_rows:
                order = order_in_bucket(index, table.num_rows, self._seed)
                yield from table.combine_chunks().take(pa.array(order)).to_batches()
