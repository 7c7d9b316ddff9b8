"""Cells that do not fit the kind of their column, and where they stand."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn
from .config import CsvOptions, DataConfig
from .readers.rows import read_blocks

__all__ = ["OddCell", "find_odd_cells", "odd_comment", "odd_notes", "shown_cell"]

_SHOWN = 3
_SHOWN_TEXT = 40


@dataclass(frozen=True)
class OddCell:
    """A value that ingest will refuse.

    Attributes:
        column: Its column.
        text: The value.
        rows: How many rows hold it.
        place: Where it stands first, as "row 5, line 6 of flights.csv", without the folder.
    """

    column: str
    text: str
    rows: int
    place: str


def find_odd_cells(
    paths: Sequence[str], data: DataConfig, odd: Mapping[str, Mapping[str, int]]
) -> list[OddCell]:
    """Find where values stand first.

    Args:
        paths: The files.
        data: The `data` section.
        odd: Column -> value -> rows.

    Returns:
        One entry a value, by column and then in the order of the rows.
    """
    wanted: dict[str, Collection[str]] = {name: set(texts) for name, texts in odd.items() if texts}
    found: dict[str, list[OddCell]] = {name: [] for name in wanted}
    if not wanted:
        return []
    for block in read_blocks(paths, data, [RawColumn(name, "string") for name in wanted]):
        for name, values in zip(wanted, block.batch.columns, strict=True):
            left = set(wanted[name]) - {cell.text for cell in found[name]}
            if not left:
                continue
            held = pc.is_in(values, value_set=pa.array(sorted(left), pa.string()))
            for index in pc.indices_nonzero(held).to_pylist():
                text = values[index].as_py()
                if text in left:
                    left.remove(text)
                    place = block.place(index).replace(block.path, os.path.basename(block.path))
                    found[name].append(OddCell(name, text, odd[name][text], place))
        if all(len(found[name]) == len(texts) for name, texts in wanted.items()):
            break
    return [cell for cells in found.values() for cell in cells]


def odd_comment(column: str, cells: Sequence[OddCell]) -> str:
    """Return what a config says of the odd cells of a column; nothing if it has none."""
    own = [cell for cell in cells if cell.column == column]
    if not own:
        return ""
    return (
        f"Ingest will refuse {_rows(own)}: {_listed(own)}. Correct the data, or, if it means missing, list "
        "the text in `data.csv.null_values` beside the default ones, which a list replaces."
    )


def odd_notes(cells: Sequence[OddCell], options: CsvOptions) -> list[str]:
    """Return what to tell of the odd cells, a line a column.

    Args:
        cells: The cells.
        options: How the config reads delimited text.
    """
    notes = []
    for column in dict.fromkeys(cell.column for cell in cells):
        own = [cell for cell in cells if cell.column == column]
        nulls = options.nulls_with(cell.text for cell in own[:_SHOWN])
        notes.append(
            f"column {column!r}: ingest will refuse {_rows(own)}: {_listed(own)}; correct the data, or, if "
            f"it means missing, set {nulls}"
        )
    return notes


def shown_cell(cell: OddCell) -> str:
    """Return a value, how often it is there, and where first."""
    times = f"{cell.rows:,} times, first " if cell.rows > 1 else ""
    return f"{cell.text[:_SHOWN_TEXT]!r} ({times}{cell.place})"


def _rows(cells: Sequence[OddCell]) -> str:
    count = sum(cell.rows for cell in cells)
    return f"{count:,} value{'s' if count > 1 else ''}"


def _listed(cells: Sequence[OddCell]) -> str:
    shown = ", ".join(map(shown_cell, cells[:_SHOWN]))
    return shown + (f", and {len(cells) - _SHOWN} other texts" if len(cells) > _SHOWN else "")
