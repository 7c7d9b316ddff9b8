"""Whole numbers that have travelled as float32, as they do in the `serving_raw` signature."""

from typing import Any

import tensorflow as tf

from headrace.serving.preprocessing import LARGEST_INT

__all__ = ["whole_numbers"]


def whole_numbers(numbers: Any) -> Any:
    """Return whole numbers as int64; what is beyond its range becomes the end of it.

    Args:
        numbers: float32, no NaN.
    """
    # Out of range a cast gives what the processor happens to give.
    return tf.cast(tf.clip_by_value(numbers, -LARGEST_INT, LARGEST_INT), tf.int64)
