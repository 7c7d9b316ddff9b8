"""Rows as JSON holds them, as the tensors of the `serving_raw` signature: numpy only."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["picture_bytes", "raw_columns"]


def raw_columns(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of `serving_raw`.

    Args:
        rows: Column -> value, as in golden.json: None where missing; `floats` a list with None for a
            missing step; `image` a file's bytes or `{"b64": text}`.
        types: Column -> `int`, `float`, `string`, `floats` or `image`.

    Returns:
        Column -> `[rows]`: float32 with NaN where missing, or object of bytes with b"" where missing;
        `floats`: float32 `[rows, longest]`, padded with NaN.

    Example:
        >>> raw_columns([{"n": 1, "s": [2.0]}, {"s": [3.0, None, 4.0]}], {"n": "int", "s": "floats"})["s"]
        array([[ 2., nan, nan],
               [ 3., nan,  4.]], dtype=float32)
    """
    return {name: _column([row.get(name) for row in rows], kind) for name, kind in types.items()}


def picture_bytes(value: Any) -> bytes:
    """Return the bytes of a picture from a row of JSON: `{"b64": text}`, bytes, or None (missing: b"")."""
    if value is None:
        return b""
    return base64.b64decode(value["b64"]) if isinstance(value, Mapping) else bytes(value)


def _column(values: Sequence[Any], kind: str) -> npt.NDArray[Any]:
    if kind == "string":
        return np.array([b"" if value is None else str(value).encode() for value in values], object)
    if kind == "image":
        return np.array([picture_bytes(value) for value in values], object)
    if kind == "floats":
        longest = max((len(value) for value in values if value is not None), default=0)
        found = np.full((len(values), max(longest, 1)), np.nan, np.float32)
        for row, value in enumerate(values):
            if value is not None:
                found[row, : len(value)] = np.array(value, np.float32)  # None becomes NaN
        return found
    return np.array([np.nan if value is None else value for value in values], np.float32)
