"""Series of any length as rows of one length: numpy only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["fit_series"]

Floats = npt.NDArray[np.float32]


def fit_series(
    channels: Sequence[Floats],
    length: int,
    keep: str,
    impute: Floats,
    subtract: Floats,
    divide: Floats,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Cut or pad series, fill missing steps and scale.

    A row is as long as its longest channel, up to that channel's last number.

    Args:
        channels: float32 `[rows, steps]` each, NaN where there is no number; steps may differ.
        length: Steps kept.
        keep: `first` or `last`: which.
        impute: float32 `[channels]`: what a step without a number becomes.
        subtract: float32 `[channels]`.
        divide: float32 `[channels]`.

    Returns:
        float32 `[rows, length, channels]`, 0 after a row's last step, and int64 `[rows]`: steps kept.
    """
    rows, longest = len(channels[0]), max(1, *(channel.shape[1] for channel in channels))
    values = np.full((rows, longest, len(channels)), np.nan, np.float32)
    for index, channel in enumerate(channels):
        values[:, : channel.shape[1], index] = channel
    ends = np.arange(1, longest + 1) * (~np.isnan(values)).any(axis=2)  # [rows, steps]
    sizes = ends.max(axis=1)
    start = np.maximum(sizes - length, 0) if keep == "last" else np.zeros_like(sizes)
    kept = np.minimum(sizes, length)
    steps = np.minimum(start[:, np.newaxis] + np.arange(length), longest - 1)
    taken = np.take_along_axis(values, steps[:, :, np.newaxis], axis=1)
    scaled = (np.where(np.isnan(taken), impute, taken) - subtract) / divide
    inside = np.arange(length) < kept[:, np.newaxis]
    return np.where(inside[:, :, np.newaxis], scaled, np.float32(0)), kept.astype(np.int64)
