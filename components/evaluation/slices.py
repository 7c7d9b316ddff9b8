"""Which test rows belong to which slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Slice", "make_slices"]


@dataclass(frozen=True)
class Slice:
    """Rows that share the values of some columns.

    Attributes:
        keys: Column -> value as text; empty for all rows.
        rows: Ascending row numbers, int64 `[n]`.
    """

    keys: Mapping[str, str]
    rows: np.ndarray


def make_slices(texts: Mapping[str, np.ndarray], specs: Sequence[Sequence[str]]) -> list[Slice]:
    """Group rows by each spec's columns.

    Args:
        texts: Column -> object array `[rows]` of text.
        specs: Columns of each kind of slice, at least one each.

    Returns:
        Slices with at least one row, spec by spec, sorted by their values.
    """
    coded = {name: np.unique(values.astype(str), return_inverse=True) for name, values in texts.items()}
    found: list[Slice] = []
    for spec in specs:
        codes = np.stack([coded[name][1] for name in spec], axis=1)  # [rows, columns of the spec]
        groups, inverse = np.unique(codes, axis=0, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(inverse.ravel()))[:-1])
        for group, rows in zip(groups, parts, strict=True):
            keys = {name: str(coded[name][0][code]) for name, code in zip(spec, group, strict=True)}
            found.append(Slice(keys, rows))
    return found
