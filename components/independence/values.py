"""What is known of a tensor while a graph is followed: which axis holds the rows, how large the others are.

Sizes are products of a number and symbols. `N` is the number of rows. `S1` and the like are not known, but
the same for a request alone and among others, for only requests of equal row shapes share a run. `D1` and the
like depend on what the rows hold, such as the length of the longest list of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

__all__ = [
    "BATCH",
    "Const",
    "Entries",
    "Flat",
    "Index",
    "RowOf",
    "Rows",
    "Size",
    "Sizes",
    "Unknown",
    "Unproven",
    "Value",
    "fresh",
    "product",
]

_NUMBERS = count(1)


class Unproven(Exception):
    """The rows of a graph may see each other, as far as is known."""


@dataclass(frozen=True)
class Size:
    """One size: `factor` times all `symbols`, which are sorted."""

    factor: int
    symbols: tuple[str, ...] = ()

    @property
    def known(self) -> int | None:
        """The number, if it is one."""
        return None if self.symbols else self.factor

    @property
    def steady(self) -> bool:
        """Whether it is the same whichever rows are beside."""
        return all(symbol[0] == "S" for symbol in self.symbols)

    def times(self, other: "Size") -> "Size":
        """Return the product."""
        return Size(self.factor * other.factor, tuple(sorted(self.symbols + other.symbols)))


BATCH = Size(1, ("N",))
"""The number of rows."""


def fresh(kind: str) -> Size:
    """Return a size like no other: kind "S" is steady, "D" depends on the rows."""
    return Size(1, (f"{kind}{next(_NUMBERS)}",))


def product(sizes: Sequence[Size]) -> Size:
    """Return the product of all."""
    found = Size(1)
    for size in sizes:
        found = found.times(size)
    return found


@dataclass(frozen=True, eq=False)
class Const:
    """The same whatever is asked. `shape` and `value` are None where they are not known."""

    shape: tuple[int, ...] | None
    value: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, eq=False)
class Sizes:
    """Whole numbers that are sizes of other tensors: a vector, or a scalar of one entry."""

    entries: tuple[Size, ...]
    scalar: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """Axis 0 holds the rows, each made from its own row of the request alone; `dims` are the other axes."""

    dims: tuple[Size, ...]


@dataclass(frozen=True, eq=False)
class Flat:
    """All elements of `base` in one axis; `lying`: with an axis of one before it."""

    base: Rows
    lying: bool = False


@dataclass(frozen=True, eq=False)
class Entries:
    """Axis 0 holds the entries of a list `of` that the rows share in order, each made from its own row."""

    of: Rows
    dims: tuple[Size, ...]


@dataclass(frozen=True, eq=False)
class Index:
    """Where the entries of the list `of` are, [entries, columns], the row first; `flat`: in flattened rows.

    A list is known by the rows that it was made from.
    """

    of: Rows
    columns: int
    flat: bool = False


@dataclass(frozen=True, eq=False)
class RowOf:
    """The first column of an `Index`, [entries]."""

    of: Rows
    flat: bool = False


@dataclass(frozen=True, eq=False)
class Unknown:
    """Nothing is known, for this reason."""

    reason: str


Value = Const | Sizes | Rows | Flat | Entries | Index | RowOf | Unknown
