"""Which rows a fold trains on, and which it is judged on: plain numpy, decided by the seed alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.data.errors import ConfigError

from .config import CrossValidationConfig

__all__ = ["Fold", "deal", "deal_alike", "deal_groups", "make_folds"]

_Deal = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""(row numbers `[n]`, parts, generator) -> part of each of them, int64 `[n]`."""


@dataclass(frozen=True)
class Fold:
    """One cut of the rows; the three parts share no row.

    Attributes:
        repeat: Counted from 1.
        fold: Counted from 1 in each repeat.
        train: Ascending row numbers, int64.
        eval: Rows that choose the epoch, taken from what would be trained on.
        held_out: Rows that the model is judged on.
    """

    repeat: int
    fold: int
    train: np.ndarray
    eval: np.ndarray
    held_out: np.ndarray


def make_folds(config: CrossValidationConfig, keys: np.ndarray, seed: int) -> list[Fold]:
    """Cut rows into folds.

    Args:
        config: Method, number and shares.
        keys: What the method looks at, one a row: label values (`stratified`), groups (`grouped`), times
            (`time`); for `kfold` only their number counts.
        seed: Of the cuts.

    Returns:
        Repeat by repeat, fold by fold.

    Raises:
        ConfigError: If there are too few rows, groups or times for so many folds.
    """
    if config.method == "time":
        return _time_folds(config, keys)
    dealers: dict[str, _Deal] = {
        "kfold": lambda rows, parts, rng: deal(len(rows), parts, rng),
        "stratified": lambda rows, parts, rng: deal_alike(keys[rows], parts, rng),
        "grouped": lambda rows, parts, rng: deal_groups(keys[rows], parts, rng),
    }
    units = len(np.unique(keys)) if config.method == "grouped" else len(keys)
    if units < config.folds:
        raise _too_few(config, f"{units} {'groups' if config.method == 'grouped' else 'rows'}")
    every = np.arange(len(keys))
    found = []
    for repeat in range(config.repeats):
        rng = np.random.default_rng([seed, repeat])
        parts = dealers[config.method](every, config.folds, rng)
        for fold in range(config.folds):
            rest = every[parts != fold]
            chosen = _inner(rest, config, dealers[config.method], rng)
            held_out = every[parts == fold]
            found.append(Fold(repeat + 1, fold + 1, rest[~chosen], rest[chosen], held_out))
    return found


def deal(rows: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Deal rows out at random; sizes differ by one at most.

    Returns:
        Part of each row, int64 `[rows]`.
    """
    found = np.empty(rows, np.int64)
    found[rng.permutation(rows)] = np.arange(rows) % parts
    return found


def deal_alike(keys: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Deal rows out so that every part has the same distribution of `keys`.

    The rows are put in order of their key, at random among equals, and dealt round. So the count of a key
    differs by one at most between parts, and the sizes too.

    Returns:
        Part of each row, int64 `[rows]`.
    """
    shuffled = rng.permutation(len(keys))
    order = shuffled[np.argsort(keys[shuffled], kind="stable")]
    found = np.empty(len(keys), np.int64)
    rounds = -(-len(keys) // parts)
    # Each round in an order of its own: no part gets the smallest number of every round.
    turns = rng.permuted(np.tile(np.arange(parts), (rounds, 1)), axis=1) if _is_number(keys) else None
    found[order] = (np.arange(rounds * parts) % parts if turns is None else turns.ravel())[: len(keys)]
    return found


def deal_groups(groups: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Deal whole groups out, large ones first, each to the part with the fewest rows so far.

    Groups of about the same size (up to a factor of two) come in random order, so that another seed gives
    other parts.

    Returns:
        Part of each row, int64 `[rows]`.
    """
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-np.floor(np.log2(sizes[shuffled])), kind="stable")]
    totals = np.zeros(parts, np.int64)
    part_of = np.empty(len(sizes), np.int64)
    for group in order:
        part_of[group] = int(np.argmin(totals))
        totals[part_of[group]] += sizes[group]
    return part_of[codes.ravel()]


def _is_number(keys: np.ndarray) -> bool:
    return bool(keys.dtype.kind == "f")


def _inner(
    rows: np.ndarray, config: CrossValidationConfig, dealer: _Deal, rng: np.random.Generator
) -> np.ndarray:
    """Return which of `rows` choose the epoch, bool `[rows]`: the part nearest in size to `eval_share`."""
    parts = dealer(rows, max(2, round(1 / config.eval_share)), rng)
    sizes = np.bincount(parts)
    distance = np.where(sizes > 0, np.abs(sizes - config.eval_share * len(rows)), np.inf)
    chosen = parts == int(np.argmin(distance))
    if chosen.all():
        raise _too_few(config, "one group" if config.method == "grouped" else f"{len(rows)} rows to train on")
    return chosen


def _time_folds(config: CrossValidationConfig, times: np.ndarray) -> list[Fold]:
    """Cut into `folds + 1` stretches of time; fold k is judged on stretch k + 1, trained on all before it.

    Rows of one time are never parted: all of them belong to the later stretch.
    """
    rows, size = len(times), len(times) // (config.folds + 1)
    _, codes = np.unique(times, return_inverse=True)
    codes = codes.ravel()
    ordered = np.sort(codes)
    # The remainder goes to the first stretch, as in scikit-learn's TimeSeriesSplit.
    starts = [rows - (config.folds - fold) * size for fold in range(config.folds)]
    if not size or len({int(ordered[start]) for start in starts}) < config.folds:
        raise _too_few(config, f"{rows} rows at {len(np.unique(codes))} times")
    cuts = [int(ordered[start]) for start in starts]
    found = []
    for fold, (cut, end) in enumerate(zip(cuts, [*cuts[1:], rows], strict=True)):
        before = np.sort(codes[codes < cut])
        watch = int(before[int(len(before) * (1 - config.eval_share))]) if len(before) else 0
        parts = (codes < watch, (codes >= watch) & (codes < cut), (codes >= cut) & (codes < end))
        if not all(part.any() for part in parts):
            raise _too_few(config, f"{len(np.unique(before))} times before fold {fold + 1}")
        found.append(Fold(1, fold + 1, *(np.flatnonzero(part) for part in parts)))
    return found


def _too_few(config: CrossValidationConfig, found: str) -> ConfigError:
    return ConfigError(
        f"`cross_validation` must have enough to cut into {config.folds} folds, and of each training part "
        f"some to choose the epoch on. Received: {found} (method {config.method})",
        "lower `cross_validation.folds`",
    )
