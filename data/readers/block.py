"""A stretch of rows of one file."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

__all__ = ["Block"]


def _no_line(row: int) -> int | None:
    return None


@dataclass(frozen=True)
class Block:
    """Rows that stand together in a file.

    Attributes:
        path: The file.
        first_row: Number of the first row here, counted from 1 after any header.
        batch: The rows: int64, float64 (finite in float32) or string columns; missing is null.
        line_of: Finds the line of a row in a text file, by reading it again; None where there are no lines.
    """

    path: str
    first_row: int
    batch: pa.RecordBatch
    line_of: Callable[[int], int | None] = field(default=_no_line, compare=False, repr=False)

    def place(self, index: int) -> str:
        """Say where row `index` of the batch stands, as "row 5, line 6 of flights.csv"."""
        row = self.first_row + index
        line = self.line_of(row)
        return f"row {row}{f', line {line}' if line else ''} of {self.path}"
