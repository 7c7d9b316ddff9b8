"""How far the distributions of two splits are apart, and how far chance alone would put them.

The measures are those of TFDV's comparators, on common bins; rows without a value are a bin of their own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from headrace.components.gates.state import Bound, Gate

from .distributions import Distribution
from .explain import AnomalyRow

__all__ = ["Distance", "jensen_shannon", "judge_skew", "l_infinity", "measure_skew", "skew_rows"]

_FALSE_ALARMS = 0.01
"""How often splits of equal distributions may be told apart, over all columns and splits of a run, by
formulas that are a little too narrow where bins are nearly empty: simulated it stays under 5 %."""

Splits = Mapping[str, tuple[int, Mapping[str, Distribution]]]


@dataclass(frozen=True)
class Distance:
    """How far one column of a split is from train.

    Attributes:
        split: The split compared with train.
        feature: The column.
        measure: "l_infinity" for texts, "jensen_shannon" for numbers.
        value: The distance, in [0, 1].
        chance: What the distance of equal distributions exceeds in at most 5 % of runs, in [0, 1].
    """

    split: str
    feature: str
    measure: Literal["l_infinity", "jensen_shannon"]
    value: float
    chance: float

    def allowed(self, most: float) -> float:
        """Return the bound: `most`, or what chance gives so few rows where that is more."""
        return max(most, self.chance)

    def to_json(self) -> dict[str, Any]:
        """Return an entry of skew.json."""
        return asdict(self)


def measure_skew(splits: Splits) -> list[Distance]:
    """Compare every column of every split with train.

    Args:
        splits: Split -> number of rows, and column -> distribution on bins that all splits share.

    Returns:
        The distances, split by split, the largest first. Splits without rows are left out.
    """
    rows, train = splits["train"]
    pairs = [
        (split, name, other)
        for split, (others, columns) in splits.items()
        if split != "train" and rows and others
        for name, other in columns.items()
    ]
    level = _FALSE_ALARMS / max(1, len(pairs))
    found = [
        _distance(split, name, (train[name], rows), (other, splits[split][0]), level)
        for split, name, other in pairs
    ]
    order = list(splits)
    return sorted(found, key=lambda entry: (order.index(entry.split), -entry.value, entry.feature))


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jensen-Shannon divergence, base 2, of two arrays of shares; in [0, 1]."""
    middle = (one + other) / 2
    parts = [np.sum(p[p > 0] * np.log2(p[p > 0] / middle[p > 0])) for p in (one, other)]
    return float(min(1.0, max(0.0, sum(parts) / 2)))


def l_infinity(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of a share."""
    return float(np.max(np.abs(one - other)))


def judge_skew(
    distances: Sequence[Distance], splits: Sequence[str], most: float, *, error: bool
) -> list[Gate]:
    """Judge each split but train by the column that is farthest beyond what is allowed, or nearest to it.

    Args:
        distances: Of `measure_skew`.
        splits: All splits.
        most: `validation.max_skew`.
        error: Whether a larger distance is FAIL, else WARN.
    """
    return [
        _judge(split, [entry for entry in distances if entry.split == split], most, error=error)
        for split in splits
        if split != "train"
    ]


def skew_rows(distances: Sequence[Distance], most: float, *, error: bool) -> list[AnomalyRow]:
    """Return a row for every distance beyond its bound."""
    return [
        AnomalyRow(
            entry.split,
            entry.feature,
            f"same distribution as in train ({entry.measure})",
            "error" if error else "warning",
            f"<= {entry.allowed(most):.4g}",
            f"{entry.value:.4g}",
            None,
        )
        for entry in distances
        if entry.value > entry.allowed(most)
    ]


def _judge(split: str, distances: Sequence[Distance], most: float, *, error: bool) -> Gate:
    keys = {"split": split}
    if not distances:
        bound = Bound("<=", most)
        return Gate("data", "skew", "FAIL", "no distance could be measured.", None, keys, bound)
    worst = max(distances, key=lambda entry: entry.value / entry.allowed(most))
    bound = Bound("<=", worst.allowed(most))
    place = f"{worst.feature} differs most between train and {split}, by {worst.value:.4g} ({worst.measure})"
    few = worst.chance > most
    limit = (
        f"chance alone gives up to {worst.chance:.4g} in so few rows"
        if few
        else f"at most {most:g} is allowed"
    )
    if bound.holds(worst.value):
        return Gate("data", "skew", "PASS", f"{place}; {limit}.", None, keys, bound, worst.value)
    if error:
        return Gate("data", "skew", "FAIL", f"{place}; {limit}.", None, keys, bound, worst.value)
    reason = f"{place}; {limit}. It stops nothing, since `validation.skew_is_error` is false."
    return Gate("data", "skew", "WARN", reason, None, keys, bound, worst.value)


def _distance(
    split: str, name: str, train: tuple[Distribution, int], other: tuple[Distribution, int], level: float
) -> Distance:
    """Measure one column; `level` is how often chance may exceed `chance`."""
    (one, rows), (two, more) = train, other
    shares = one.shares(rows), two.shares(more)
    pooled, noise = (shares[0] * rows + shares[1] * more) / (rows + more), 1 / rows + 1 / more
    if one.bins.values is None:
        chance = _divergence_by_chance(int(np.count_nonzero(pooled)), noise, level)
        return Distance(split, name, "jensen_shannon", jensen_shannon(*shares), chance)
    # All others together are no value: how many they are depends on how many are named.
    named, pooled = [np.delete(part, -2) for part in shares], np.delete(pooled, -2)
    chance = _difference_by_chance(pooled, noise, 1 / min(rows, more), level)
    return Distance(split, name, "l_infinity", l_infinity(*named), chance)


def _divergence_by_chance(bins: int, noise: float, level: float) -> float:
    """Return what the divergence of two samples of one distribution exceeds with probability `level`.

    It is about chi squared with `bins` - 1 degrees of freedom, times (1/n + 1/m) / (8 ln 2); the quantile is
    Wilson and Hilferty's (1931).
    """
    if bins < 2:
        return 0.0
    spread = 2 / (9 * (bins - 1))
    quantile = (bins - 1) * (1 - spread + NormalDist().inv_cdf(1 - level) * math.sqrt(spread)) ** 3
    return min(1.0, quantile * noise / (8 * math.log(2)))


def _difference_by_chance(pooled: np.ndarray, noise: float, row: float, level: float) -> float:
    """Return what the largest difference of a share exceeds with at most probability `level`.

    Normal, by the most variable share, for as many shares as there are; and one row of the smaller split
    more, since a share moves by whole rows.
    """
    sigmas = NormalDist().inv_cdf(1 - level / (2 * len(pooled)))
    return min(1.0, sigmas * math.sqrt(float(np.max(pooled * (1 - pooled))) * noise) + row)
