"""Hashes of the rows of a block: what tells them apart, and what the model reads of them."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .columns import RawColumn
from .errors import ConfigError
from .hashing import Hashes, hash_column

__all__ = ["HashedColumns", "RowHashes", "hash_batch"]

_NOTHING = np.zeros(1, np.uint64)


@dataclass(frozen=True)
class HashedColumns:
    """Columns of the files whose values are hashed, row by row.

    Attributes:
        key: Those that tell rows apart: of a hash split its key, else all but label, weight and the column
            that names the split.
        inputs: Those that the model reads.
    """

    key: tuple[str, ...]
    inputs: tuple[str, ...]

    def beyond(self, columns: Collection[RawColumn]) -> tuple[RawColumn, ...]:
        """Return the columns to read for the hashes alone; their types say nothing."""
        known = {column.name for column in columns}
        names = dict.fromkeys((*self.key, *self.inputs))
        return tuple(RawColumn(name, "string") for name in names if name not in known)


@dataclass(frozen=True)
class RowHashes:
    """Hashes of rows, see `headrace.data.hashing.hash_rows`.

    Attributes:
        key: uint64 `[rows]`.
        inputs: uint64 `[rows]`.
    """

    key: Hashes
    inputs: Hashes

    def __getitem__(self, rows: slice | npt.NDArray[np.generic]) -> "RowHashes":
        return RowHashes(self.key[rows], self.inputs[rows])

    def plus(self, other: "RowHashes") -> "RowHashes":
        """Return the hashes of rows that have the columns of both."""
        return RowHashes(self.key + other.key, self.inputs + other.inputs)


def hash_batch(
    batch: pa.RecordBatch, hashed: HashedColumns | None, apart: Collection[RawColumn] = (), path: str = ""
) -> RowHashes | None:
    """Hash rows by those of their columns that are hashed; None where none are asked for.

    Args:
        batch: Rows as the file holds them; a column that it lacks is missing in every row.
        hashed: The columns to hash.
        apart: Columns that are read; pictures among them are hashed when their bytes are there.
        path: The file, for the error.

    Raises:
        ConfigError: If the values of a column cannot be hashed.
    """
    if hashed is None:
        return None
    found = RowHashes(np.zeros(batch.num_rows, np.uint64), np.zeros(batch.num_rows, np.uint64))
    keys, inputs = {*hashed.key}, {*hashed.inputs}
    later = {column.name for column in apart if column.type == "image"}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in later or (name not in keys and name not in inputs):
            continue
        try:
            part = hash_column(name, column)
        except TypeError as error:
            raise ConfigError(
                "columns of `data.split.key` must hold values that can be compared. Received: column "
                f"{name!r}, whose {error} ({path})",
                "name the key's columns without it",
            ) from error
        found = found.plus(
            RowHashes(part if name in keys else _NOTHING, part if name in inputs else _NOTHING)
        )
    return found
