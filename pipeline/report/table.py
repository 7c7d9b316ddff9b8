"""Tables as data: the template prints them, the reader sorts them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

__all__ = ["Cell", "Column", "Row", "Table", "number"]


@dataclass(frozen=True)
class Column:
    """A heading; `numeric` columns are right-aligned, `hint` explains the heading."""

    title: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its text (escaped) or markup, what it sorts by, a tooltip, a second line and a CSS class."""

    text: str | Markup
    sort: float | str | None = None
    hint: str = ""
    note: str | Markup = ""
    css: str = ""


@dataclass(frozen=True)
class Row:
    """Cells, and what filters select the row by (`data-*` attribute -> value)."""

    cells: Sequence[Cell]
    keys: dict[str, str] = field(default_factory=dict)
    css: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Attributes:
        columns: Headings.
        rows: Rows, each with a cell a column.
        label: What a screen reader says.
        sortable: Whether a click on a heading sorts.
        tall: Whether it scrolls inside a box of limited height.
        id: HTML id, for filters.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    label: str
    sortable: bool = False
    tall: bool = False
    id: str = ""


def number(text: str, value: float | None, hint: str = "", note: str | Markup = "", css: str = "") -> Cell:
    """Return a numeric cell that sorts by `value`; None sorts last."""
    return Cell(text, sort=value, hint=hint, note=note, css=css)
