"""Symmetric int8 with one scale per output column: the one rounding rule of all headrace's own int8."""

from typing import Any

import numpy as np

__all__ = ["dequantize", "quantize_columns"]

_LARGEST = 127
"""-128 is not used, so that the range is symmetric."""


def quantize_columns(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Round `values` to int8 steps of each column's largest magnitude / 127.

    Args:
        values: float32 `[..., columns]`, finite; the last axis is the output column (of kernels `[in, out]`
            and of embedding tables `[rows, width]` alike).

    Returns:
        int8 of the same shape in [-127, 127], and scales float32 `[columns]`, > 0.
    """
    values = np.asarray(values, np.float32)
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)), initial=0.0)
    scales = np.where(largest > 0, largest / np.float32(_LARGEST), np.float32(1)).astype(np.float32)
    # A denormal maximum divided by 127 is zero, and a column that small is zero for all that it does.
    scales[scales == 0] = 1
    return np.clip(np.rint(values / scales), -_LARGEST, _LARGEST).astype(np.int8), scales


def dequantize(quantized: np.ndarray[Any, Any], scales: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float32 `quantized * scales`, exactly as the serving graph computes it at load."""
    return quantized.astype(np.float32) * scales
