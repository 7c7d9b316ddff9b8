"""Which split each row of a hash split belongs to, from what is left of a row: hash, class and position."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.data.config import SPLITS, HashSplit
from headrace.data.hashing import Hashes, mix, unit_interval

__all__ = ["FEW_ROWS", "RARE_ROWS", "Dealer", "Splits", "portions"]

FEW_ROWS = 1000
"""Of fewer rows, all are dealt out by rank, so that shares come out as asked."""

RARE_ROWS = 30
"""Of a class with fewer rows, these are dealt out by rank, so that it reaches every split."""

Splits = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dealer:
    """Deals rows out to the splits.

    Attributes:
        split: The section.
        rows: Of the whole data.
        classes: Rows of each class of the whole data, by code; empty where there are no classes.
    """

    split: HashSplit
    rows: int
    classes: Sequence[int] = ()
    rare: Counts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rare = [code for code, rows in enumerate(self.classes) if rows < RARE_ROWS]
        ordered = sorted(rare, key=lambda code: (self.classes[code], code))
        object.__setattr__(self, "rare", np.array(ordered, np.int64))

    @property
    def by_rank(self) -> bool:
        """Whether all rows are dealt out by rank."""
        return self.rows < FEW_ROWS

    def ranked_keys(self, keys: Hashes, codes: npt.NDArray[np.integer]) -> Hashes:
        """Return the distinct keys of rows that are dealt out by rank, sorted."""
        return np.unique(keys if self.by_rank else keys[np.isin(codes, self.rare)])

    def deal(self, keys: Hashes, codes: npt.NDArray[np.integer], positions: Counts) -> Splits:
        """Return the split of each row, as its index in `SPLITS`.

        All rows of a key must come in one call, and those of all `ranked_keys` together in one.

        Args:
            keys: uint64 `[rows]`, hash of each row's key columns.
            codes: Class of each row; of no meaning where there are no classes.
            positions: int64 `[rows]`, place of each row in the data, by which equal keys are numbered.

        Returns:
            uint8 `[rows]`.
        """
        order = np.lexsort((positions, keys))
        unit, unit_keys, number = self._units(keys[order])
        seed = mix(np.array([self.split.seed], np.uint64))
        places = mix(mix(unit_keys ^ seed) + number)
        limits = np.cumsum(self.split.shares)[:-1]
        splits = np.searchsorted(limits, unit_interval(places), side="right").astype(np.uint8)
        if self.by_rank or len(self.rare):
            self._deal_by_rank(splits, np.argsort(places, kind="stable"), unit, codes[order])
        result = np.empty(len(keys), np.uint8)
        result[order] = splits[unit]
        return result

    def _units(self, keys: Hashes) -> tuple[Counts, Hashes, Hashes]:
        """Return the unit that each row of sorted keys is dealt out with, and of each unit key and number."""
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        group = np.cumsum(first) - 1
        starts = np.flatnonzero(first)
        if self.split.equal_keys == "together":
            return group, keys[starts], np.zeros(len(starts), np.uint64)
        rows = np.arange(len(keys))
        return rows, keys, (rows - starts[group]).astype(np.uint64)

    def _deal_by_rank(
        self, splits: Splits, ranks: Counts, unit: Counts, codes: npt.NDArray[np.integer]
    ) -> None:
        """Set the splits of the units that are dealt out by rank: rare classes first, then, of few rows, all.

        Args:
            splits: Of each unit.
            ranks: All units in the order of their places.
            unit: Of each row.
            codes: Class of each row.
        """
        rank = np.empty_like(ranks)
        rank[ranks] = np.arange(len(ranks))
        taken = np.zeros(len(ranks), bool)
        seen, dealt = 0, np.zeros(len(SPLITS), np.int64)
        by_code = np.argsort(codes, kind="stable")
        sorted_codes = codes[by_code]
        for code in self.rare.tolist():
            ends = np.searchsorted(sorted_codes, [code, code + 1])
            units, sizes = np.unique(unit[by_code[slice(*ends)]], return_counts=True)
            seen += int(sizes.sum())
            was = _rows_by_split(splits[units], sizes * taken[units])
            # Counted over all rare classes, so that what one rounds up another rounds down.
            wanted = portions(seen, self.split.shares) - dealt
            free = np.flatnonzero(~taken[units])
            free = free[np.argsort(rank[units[free]])]
            splits[units[free]] = _cut(sizes[free], wanted - was, was == 0)
            taken[units] = True
            dealt += _rows_by_split(splits[units], sizes)
        if self.by_rank:
            sizes = np.bincount(unit, minlength=len(ranks))
            was = _rows_by_split(splits, sizes * taken)
            free = ranks[~taken[ranks]]
            splits[free] = _cut(sizes[free], portions(self.rows, self.split.shares) - was, was == 0)


def portions(rows: int, shares: Sequence[float]) -> Counts:
    """Return how many of `rows` each share is, by the method of the largest remainder; earlier ones first.

    Example:
        >>> portions(178, (0.6, 0.2, 0.2)).tolist()
        [107, 36, 35]
    """
    exact = np.round(rows * np.asarray(shares, np.float64), 9)
    whole = np.floor(exact)
    most = np.argsort(whole - exact, kind="stable")[: rows - int(whole.sum())]
    whole[most] += 1
    return whole.astype(np.int64)


def _cut(sizes: Counts, wanted: Counts, empty: npt.NDArray[np.bool_]) -> Splits:
    """Cut units that stand in a row into three stretches, as near to `wanted` rows each as may be.

    Args:
        sizes: int64 `[units]`, rows of each.
        wanted: int64 `[3]`, rows for each split.
        empty: bool `[3]`, splits that must have a unit; of two units train and test have one, of one train.

    Returns:
        uint8 `[units]`, index in `SPLITS`.
    """
    count = len(sizes)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    least = empty.astype(int).tolist()
    for spare in (1, 2, 0):
        if sum(least) > count:
            least[spare] = 0
    rows = np.cumsum(np.maximum(wanted, 0))
    first = int(np.clip(np.argmin(abs(ends - rows[0])), least[0], count - least[1] - least[2]))
    second = int(np.clip(np.argmin(abs(ends - rows[1])), first + least[1], count - least[2]))
    place = np.arange(count)
    return (place >= first).astype(np.uint8) + (place >= second).astype(np.uint8)


def _rows_by_split(splits: Splits, sizes: Counts) -> Counts:
    return np.bincount(splits, weights=sizes, minlength=len(SPLITS)).astype(np.int64)
