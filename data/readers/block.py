"""A stretch of rows of one file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..row_hashes import RowHashes

__all__ = ["Block", "Corrupt"]


def _no_line(row: int) -> int | None:
    return None


@dataclass(frozen=True)
class Corrupt:
    """A picture that cannot be decoded: where it lies, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Block:
    """Rows that stand together in a file.

    Attributes:
        path: The file.
        first_row: Number of the first row here, counted from 1 after any header.
        batch: The rows: int64, float64 (finite in float32), string, large_list of float32 or, for images,
            large_binary columns; missing is null, a step of a list without a number NaN.
        line_of: Finds the line of a row in a text file, by reading it again; None where there are no lines.
        rows: Number of each row, int64 `[rows]`, where rows do not follow one another; None: they do.
        paths: File of each row where they come from several; None: all from `path`.
        corrupt: Pictures whose rows were left out here.
        hashes: Of each row; None where none were asked for.
    """

    path: str
    first_row: int
    batch: pa.RecordBatch
    line_of: Callable[[int], int | None] = field(default=_no_line, compare=False, repr=False)
    rows: npt.NDArray[np.int64] | None = None
    paths: Sequence[str] | None = None
    corrupt: tuple[Corrupt, ...] = ()
    hashes: RowHashes | None = field(default=None, compare=False, repr=False)

    def place(self, index: int) -> str:
        """Say where row `index` of the batch stands, as "row 5, line 6 of flights.csv"."""
        row = self.row_of(index)
        line = self.line_of(row)
        path = self.path if self.paths is None else self.paths[index]
        return f"row {row}{f', line {line}' if line else ''} of {path}"

    def row_of(self, index: int) -> int:
        """Return the number of row `index` of the batch in its file, from 1."""
        return self.first_row + index if self.rows is None else int(self.rows[index])
