"""Series inside a TensorFlow graph; `headrace.serving.series` is its twin without TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from .outputs import Series

__all__ = ["build_series"]

_CONSTANT = 1e-7  # a spread below this share of the mean is rounding, not a spread


def build_series(output: Series, channels: Sequence[Any], name: str) -> tuple[Any, Any]:
    """Return series cut or padded to one length, and how many steps each row has.

    A row is as long as its longest channel, up to that channel's last number.

    Args:
        output: What is planned.
        channels: float32 `[rows, steps]` each, NaN where there is no number.
        name: Of the operation that holds the fitted numbers: float32 `[3, channels]`.

    Returns:
        float32 `[rows, length * channels]`, 0 after a row's last step, and int64 `[rows, 1]`.
    """
    longest = tf.reduce_max(tf.stack([tf.shape(channel)[1] for channel in channels]))
    padded = [_pad(channel, longest) for channel in channels]
    values = tf.stack(padded, axis=2)  # [rows, steps, channels]
    known = tf.logical_not(tf.math.is_nan(values))
    ends = tf.cast(tf.reduce_any(known, axis=2), tf.int32) * tf.range(1, longest + 1)
    sizes = tf.reduce_max(ends, axis=1)  # [rows]
    kept = tf.minimum(sizes, output.length)
    start = sizes - kept if output.keep == "last" else tf.zeros_like(sizes)
    steps = tf.minimum(start[:, tf.newaxis] + tf.range(output.length), longest - 1)
    taken = tf.gather(values, steps, batch_dims=1)  # [rows, length, channels]
    impute, subtract, divide = _fit(output, values, known, name)
    scaled = (tf.where(tf.math.is_nan(taken), impute + tf.zeros_like(taken), taken) - subtract) / divide
    inside = tf.range(output.length) < kept[:, tf.newaxis]
    laid = tf.where(inside[:, :, tf.newaxis], scaled, tf.zeros_like(scaled))
    width = output.length * len(channels)
    return tf.reshape(laid, [-1, width]), tf.cast(kept, tf.int64)[:, tf.newaxis]


def _pad(channel: Any, longest: Any) -> Any:
    return tf.pad(channel, [[0, 0], [0, longest - tf.shape(channel)[1]]], constant_values=float("nan"))


def _fit(output: Series, values: Any, known: Any, name: str) -> tuple[Any, Any, Any]:
    """Return what to impute, subtract and divide by, float32 `[channels]` each.

    Args:
        output: What is planned.
        values: float32 `[rows, steps, channels]`, NaN where there is no number.
        known: bool, of the same shape.
        name: Of the operation that holds them.
    """
    count = len(output.columns)
    # Sparse, so that steps without a number do not count.
    rows = tf.reshape(known, [-1, count])
    numbers = tf.boolean_mask(tf.reshape(values, [-1, count]), rows)
    places, shape = tf.where(rows), [tf.shape(rows, tf.int64)[0], count]
    steps = tf.SparseTensor(places, tf.cast(numbers, tf.float64), shape)
    mean = tf.ensure_shape(tft.mean(steps, reduce_instance_dims=False), [count])
    if output.scale == "zscore":
        std = tf.sqrt(tf.ensure_shape(tft.var(steps, reduce_instance_dims=False), [count]))
        varies = (std > _CONSTANT * tf.abs(mean)) & (std > float(np.finfo(np.float32).tiny))
        subtract, divide = mean, tf.where(varies, std, tf.ones_like(std))
    elif output.scale == "minmax":
        low = tf.ensure_shape(tft.min(steps, reduce_instance_dims=False), [count])
        high = tf.ensure_shape(tft.max(steps, reduce_instance_dims=False), [count])
        subtract, divide = low, tf.where(high > low, high - low, tf.ones_like(high))
    else:
        subtract, divide = tf.zeros_like(mean), tf.ones_like(mean)
    fitted = tf.identity(tf.cast(tf.stack([mean, subtract, divide]), tf.float32), name)
    return fitted[0], fitted[1], fitted[2]
