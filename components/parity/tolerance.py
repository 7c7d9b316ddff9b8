"""When two runtimes answer the same: one tolerance, one flip rate, used by every check."""

from typing import Any

import numpy as np

__all__ = [
    "TOLERANCE",
    "flip_rate",
    "golden_bound",
    "max_abs_difference",
    "max_relative_difference",
    "predicted",
]

TOLERANCE = 1e-5
"""Largest |a - b| / max(1, |a|) between float32 runtimes."""

Array = np.ndarray[Any, Any]

_EXACT = ("float32", "tflite_float32")


def max_relative_difference(reference: Array, other: Array) -> float:
    """Return the largest |a - b| / max(1, |a|), a being the reference.

    Args:
        reference: float `[...]`.
        other: float of the same shape.

    Returns:
        A number >= 0; 0 for empty arrays, infinity where either holds NaN or infinity.

    Raises:
        ValueError: If the shapes differ.
    """
    first, second = _pair(reference, other)
    return _worst(np.abs(first - second) / np.maximum(1.0, np.abs(first)))


def max_abs_difference(reference: Array, other: Array) -> float:
    """Return the largest |a - b|; infinity where either holds NaN or infinity.

    Raises:
        ValueError: If the shapes differ.
    """
    first, second = _pair(reference, other)
    return _worst(np.abs(first - second))


def predicted(scores: Array, threshold: float | None = None) -> Array:
    """Return the predicted class index of each row, int64 `[rows]`.

    Args:
        scores: float `[rows, classes]`.
        threshold: For two classes: score of the second from which a row counts as positive. None: the
            highest score wins, the first of equals.
    """
    scores = np.asarray(scores)
    if threshold is not None and scores.shape[1] == 2:
        return (scores[:, 1].astype(np.float64) >= threshold).astype(np.int64)
    return scores.argmax(axis=1).astype(np.int64)


def flip_rate(reference: Array, other: Array, threshold: float | None = None) -> float:
    """Return the share of rows whose predicted class differs, in [0, 1]; 0 for no rows.

    Args:
        reference: float `[rows, classes]`.
        other: float of the same shape.
        threshold: As in `predicted`.

    Raises:
        ValueError: If the shapes differ.
    """
    first, second = _pair(reference, other)
    if not len(first):
        return 0.0
    return float(np.mean(predicted(first, threshold) != predicted(second, threshold)))


def golden_bound(variant: str, tolerance: float, quantized_tolerance: float | None) -> float | None:
    """Return the bound on a variant's golden difference: one for float32, one for all below it.

    None: not bounded. Variants below float32 answer to the variant gates (drop and flip rate over the test
    split), since one row far from the others may differ widely in a model that is good.
    """
    return tolerance if variant in _EXACT else quantized_tolerance


def _pair(reference: Array, other: Array) -> tuple[Array, Array]:
    first, second = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"both results must have the same shape. Received: {first.shape} and {second.shape}")
    return first, second


def _worst(differences: Array) -> float:
    if not differences.size:
        return 0.0
    return float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max())
