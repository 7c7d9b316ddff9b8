"""What is kept of each row until all have been seen: hashes, class and split, in files of fixed records."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.data.config import HashSplit
from headrace.data.hashing import Hashes
from headrace.data.row_hashes import RowHashes

from .deal import Dealer, Splits

__all__ = ["RowRecords", "codes_of", "part_of"]

_RECORD = np.dtype([("key", "<u8"), ("inputs", "<u8"), ("code", "<u2")])
_CHUNK_ROWS = 1 << 20
_PART_ROWS = 1 << 22
"""Rows that are sorted at a time, about."""

Records = npt.NDArray[np.void]


def part_of(keys: Hashes, parts: int) -> npt.NDArray[np.int64]:
    """Return which of `parts` <= 2^31 even ranges each hash lies in; equal ones lie in one."""
    return ((keys >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(np.int64)


def codes_of(labels: pa.Array, numbers: dict[str, int]) -> npt.NDArray[np.uint16]:
    """Return the number of each label, a string; new ones are added to `numbers`."""
    encoded = labels.fill_null("").dictionary_encode()
    known = [numbers.setdefault(name, len(numbers)) for name in encoded.dictionary.to_pylist()]
    return np.array(known, np.uint16)[encoded.indices.to_numpy(zero_copy_only=False)]


def _is_in_part(keys: Hashes, part: int, parts: int, ranked: Hashes) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (part_of(keys, parts) == part) & ~np.isin(keys, ranked)
    return found


class RowRecords:
    """Hashes, classes and splits of all rows, in the order of arrival, on disk.

    Args:
        folder: For the files.
        has_classes: Whether labels are classes, one a row.
    """

    def __init__(self, folder: str, has_classes: bool) -> None:
        self._paths = [os.path.join(folder, name) for name in ("records.bin", "splits.bin")]
        self._streams: list[IO[bytes]] = [open(path, "wb") for path in self._paths]  # noqa: SIM115
        self._has_classes = has_classes
        self._numbers: dict[str, int] = {}
        self.rows = 0

    def add(self, hashes: RowHashes, labels: pa.Array, splits: Splits | None) -> None:
        """Take in rows.

        Args:
            hashes: Of the rows.
            labels: Of the rows.
            splits: Where they go; None where `deal` will tell.
        """
        records = np.zeros(len(hashes.key), _RECORD)
        records["key"], records["inputs"] = hashes.key, hashes.inputs
        if self._has_classes:
            records["code"] = codes_of(labels, self._numbers)
        records.tofile(self._streams[0])
        if splits is not None:
            splits.tofile(self._streams[1])
        self.rows += len(records)

    def close(self) -> None:
        """End the files, so that they can be read."""
        for stream in self._streams:
            stream.close()

    def splits(self) -> Splits:
        """Return the split of each row, uint8 `[rows]`, mapped from disk."""
        return np.memmap(self._paths[1], np.uint8, "r", shape=(self.rows,))

    def deal(self, split: HashSplit, classes: Mapping[str, int]) -> Dealer:
        """Deal the rows out, once all have been added.

        Args:
            split: The section.
            classes: Rows of each class; empty where labels are none.
        """
        names = sorted(classes)
        counts = [classes[name] for name in names]
        place = np.array([names.index(name) for name in self._numbers], np.uint16)
        dealer = Dealer(split, self.rows, counts)
        splits = np.memmap(self._paths[1], np.uint8, "w+", shape=(self.rows,))

        def deal(wanted: Callable[[Hashes], npt.NDArray[np.bool_]]) -> None:
            positions, records = self.select(lambda chunk: wanted(chunk["key"]))
            codes = place[records["code"]] if counts else records["code"]
            splits[positions] = dealer.deal(records["key"], codes, positions)

        if dealer.by_rank:
            deal(lambda keys: np.ones(len(keys), bool))
            return dealer
        ranked = np.zeros(0, np.uint64)
        if len(dealer.rare):
            for _, chunk in self.chunks():
                ranked = np.union1d(ranked, dealer.ranked_keys(chunk["key"], place[chunk["code"]]))
            deal(lambda keys: np.isin(keys, ranked))
        parts = self.parts
        for part in range(parts):
            deal(partial(_is_in_part, part=part, parts=parts, ranked=ranked))
        return dealer

    @property
    def parts(self) -> int:
        """Into how many ranges of hashes the rows are cut, so that one fits in memory."""
        return 1 + self.rows // _PART_ROWS

    def select(
        self, wanted: Callable[[Records], npt.NDArray[np.bool_]]
    ) -> tuple[npt.NDArray[np.int64], Records]:
        """Return the positions of the rows that `wanted` marks, and their records."""
        positions, records = [], []
        for first, chunk in self.chunks():
            places = np.flatnonzero(wanted(chunk))
            positions.append(first + places)
            records.append(chunk[places])
        return np.concatenate(positions), np.concatenate(records)

    def parts_by(self, hashes: str) -> Iterator[tuple[npt.NDArray[np.int64], Records]]:
        """Yield the rows of each part by `key` or `inputs`: their positions and records."""
        for part in range(self.parts):
            yield self.select(partial(self._in_part, hashes, part))

    def _in_part(self, hashes: str, part: int, chunk: Records) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = part_of(chunk[hashes], self.parts) == part
        return found

    def chunks(self) -> Iterator[tuple[int, Records]]:
        """Yield (position of the first row, records) for stretches of the rows, once all were added."""
        first = 0
        with open(self._paths[0], "rb") as stream:
            while len(chunk := np.fromfile(stream, _RECORD, _CHUNK_ROWS)):
                yield first, chunk
                first += len(chunk)
