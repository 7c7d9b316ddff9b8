"""What hashes tell of the splits: which keys were trained on, and which test rows the model has seen."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headrace.data.config import SPLITS
from headrace.data.hashing import Hashes, among, distinct

from .deal import Splits
from .row_records import RowRecords

__all__ = ["KEYS_FOLDER", "Survey", "inputs_part", "key_part", "survey", "write_hashes"]

KEYS_FOLDER = "keys"
"""Of the examples artifact: `train.npy`, the distinct keys, sorted; `test.npy`, the key of each test row."""

_TRAIN, _TEST = SPLITS.index("train"), SPLITS.index("test")
_COPIED = 1 << 20


@dataclass(frozen=True)
class Survey:
    """What was counted of hashes; counts of several parts add up.

    Attributes:
        keys: Distinct keys.
        inputs: Distinct rows, by what the model reads of them.
        test_inputs: Those in the test split.
        shared: Test rows of which the model has seen a like in training.
    """

    keys: int = 0
    inputs: int = 0
    test_inputs: int = 0
    shared: int = 0

    def plus(self, other: "Survey") -> "Survey":
        """Return the counts of both."""
        return Survey(
            self.keys + other.keys,
            self.inputs + other.inputs,
            self.test_inputs + other.test_inputs,
            self.shared + other.shared,
        )


def survey(records: RowRecords, splits: Splits, folder: str) -> Survey:
    """Count what hashes tell, and write the keys of train and test.

    Args:
        records: Of all rows.
        splits: uint8 `[rows]`.
        folder: Where the keys are written; made.
    """
    os.makedirs(folder)
    found = Survey()
    train, test = (os.path.join(folder, f"{name}.npy") for name in ("train", "test"))
    with open(f"{train}.partial", "wb") as stream:
        for at, rows in records.parts_by("key"):
            keys, counted = key_part(rows["key"], splits[at])
            keys.tofile(stream)
            found = found.plus(counted)
    write_hashes(train, [f"{train}.partial"])
    for at, rows in records.parts_by("inputs"):
        found = found.plus(inputs_part(rows["inputs"], splits[at]))
    with open(f"{test}.partial", "wb") as stream:
        for first, chunk in records.chunks():
            chunk["key"][splits[first : first + len(chunk)] == _TEST].tofile(stream)
    write_hashes(test, [f"{test}.partial"])
    return found


def key_part(keys: Hashes, splits: Splits) -> tuple[Hashes, Survey]:
    """Return the distinct keys of the training split, sorted, and how many keys there are.

    Args:
        keys: uint64 `[rows]`, all those of some keys.
        splits: uint8 `[rows]`.
    """
    return distinct(keys[splits == _TRAIN]), Survey(keys=len(distinct(keys)))


def inputs_part(inputs: Hashes, splits: Splits) -> Survey:
    """Count rows that are alike in what the model reads.

    Args:
        inputs: uint64 `[rows]`, all those of some hashes.
        splits: uint8 `[rows]`.
    """
    test = inputs[splits == _TEST]
    return Survey(
        inputs=len(distinct(inputs)),
        test_inputs=len(distinct(test)),
        shared=int(among(np.sort(test), distinct(inputs[splits == _TRAIN])).sum()),
    )


def write_hashes(path: str, parts: Iterable[str]) -> None:
    """Write one .npy file, uint64 `[n]`, of files of bare numbers, and delete these."""
    paths = list(parts)
    rows = sum(os.path.getsize(part) for part in paths) // 8
    with open(path, "wb") as target:
        header = {"descr": "<u8", "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(target, header)
        for part in paths:
            with open(part, "rb") as source:
                while content := source.read(_COPIED):
                    target.write(content)
            os.remove(part)
