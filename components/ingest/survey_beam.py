"""The survey of hashes as steps of a Beam job, by ranges of hashes."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from headrace.components.whole_file import whole_file
from headrace.data.config import SPLITS
from headrace.data.row_hashes import RowHashes

from .deal import Splits
from .row_records import part_of
from .survey import Survey, inputs_part, key_part

__all__ = ["Rows", "position_of", "survey_rows"]

_PARTS = 256
_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class Rows:
    """A block of rows on its way.

    Attributes:
        file: Number of its file.
        first: Place of its first row in the file, from 0.
        hashes: Of the rows.
        splits: uint8 `[rows]`; None before they are told.
        content: The rows as an Arrow stream.
    """

    file: int
    first: int
    hashes: RowHashes
    splits: Splits | None
    content: bytes


def position_of(rows: Rows, sizes: Mapping[int, int]) -> int:
    """Return the place of the first row of a block among all rows, from the rows of each file."""
    return rows.first + sum(size for other, size in sizes.items() if other < rows.file)


def survey_rows(rows: Any, sizes: Any, folder: str) -> Any:
    """Write the keys of train and test to `folder`, and return what hashes tell, a `Survey` a part.

    Args:
        rows: `Rows` with splits.
        sizes: File -> rows, as a side input.
        folder: An existing folder.
    """
    keys = (
        rows
        | "KeyParts" >> beam.FlatMap(_parts, "key")
        | "OfKey" >> beam.GroupByKey()
        | "Trained" >> beam.Map(_key_part)
    )
    inputs = (
        rows
        | "InputParts" >> beam.FlatMap(_parts, "inputs")
        | "OfInputs" >> beam.GroupByKey()
        | "Alike" >> beam.Map(_inputs_part)
    )
    test = rows | "Tested" >> beam.FlatMap(_test_keys, sizes) | "TestKeys" >> beam.combiners.ToList()
    _ = test | "WriteTest" >> beam.Map(_write, os.path.join(folder, "test.npy"))
    train = keys | "TrainKeys" >> beam.Map(_trained) | "AllTrain" >> beam.combiners.ToList()
    _ = train | "WriteTrain" >> beam.Map(_write, os.path.join(folder, "train.npy"))
    return (keys | "Counted" >> beam.Map(_counted), inputs) | "Surveys" >> beam.Flatten()


def _parts(rows: Rows, name: str) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Yield (part, (hashes, splits)) of the rows of a block."""
    hashes = getattr(rows.hashes, name)
    parts = part_of(hashes, _PARTS)
    assert rows.splits is not None
    for part in np.unique(parts).tolist():
        chosen = parts == part
        yield part, (hashes[chosen], rows.splits[chosen])


def _key_part(group: tuple[int, Iterable[tuple[Any, Any]]]) -> tuple[int, Any, Survey]:
    hashes, splits = (np.concatenate(side) for side in zip(*group[1], strict=True))
    return group[0], *key_part(hashes, splits)


def _inputs_part(group: tuple[int, Iterable[tuple[Any, Any]]]) -> Survey:
    hashes, splits = (np.concatenate(side) for side in zip(*group[1], strict=True))
    return inputs_part(hashes, splits)


def _trained(part: tuple[int, Any, Survey]) -> tuple[int, Any]:
    return part[0], part[1]


def _counted(part: tuple[int, Any, Survey]) -> Survey:
    return part[2]


def _test_keys(rows: Rows, sizes: Mapping[int, int]) -> Iterator[tuple[int, Any]]:
    yield position_of(rows, sizes), rows.hashes.key[rows.splits == _TEST]


def _write(found: list[tuple[int, Any]], path: str) -> None:
    """Write hashes in the order of the numbers that they come with."""
    ordered = [hashes for _, hashes in sorted(found, key=lambda item: item[0])]
    with whole_file(path) as scratch, open(scratch, "wb") as stream:
        np.save(stream, np.concatenate([np.zeros(0, np.uint64), *ordered]))
