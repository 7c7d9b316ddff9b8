"""The golden requests: raw rows in the three forms that a model may be asked in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Row", "raw_columns"]

Row = Mapping[str, Any]


def raw_columns(rows: Sequence[Row], types: Mapping[str, str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of `serving_raw`.

    Args:
        rows: Column -> value, None where missing.
        types: Column -> `int`, `float` or `string`.

    Returns:
        Column -> `[rows]`: float32 with NaN where missing, or object of bytes with b"" where missing.
    """
    return {name: _column([row.get(name) for row in rows], kind) for name, kind in types.items()}


def _column(values: Sequence[Any], kind: str) -> np.ndarray[Any, Any]:
    if kind == "string":
        return np.array([b"" if value is None else str(value).encode() for value in values], object)
    return np.array([np.nan if value is None else value for value in values], np.float32)
