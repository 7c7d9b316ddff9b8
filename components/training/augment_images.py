"""Random changes of pictures, a batch at once."""

import math
from typing import Any

import tensorflow as tf

from .config import AugmentImages

__all__ = ["change_images", "warp"]

_FILL = {"nearest": "NEAREST", "reflect": "REFLECT", "zero": "CONSTANT"}


def change_images(images: Any, section: AugmentImages, seed: Any) -> Any:
    """Return pictures changed at random.

    Args:
        images: float32 `[rows, height, width, channels]`.
        section: How much.
        seed: int64 `[2]`; the same seed gives the same pictures.

    Returns:
        float32 of the same shape, in the range of values of the batch.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    moved = any((section.rotate, section.shift, section.shear, section.zoom, section.crop))
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    changed = images
    if moved or section.flip != "none":
        changed = warp(changed, _transforms(section, tf.shape(images), seeds[0]), section.fill)
    rows = tf.shape(images)[0]
    if section.contrast > 0:
        factor = 1 + section.contrast * _either_way([rows, 1, 1, 1], seeds[1])
        mean = tf.reduce_mean(changed, axis=[1, 2, 3], keepdims=True)
        changed = mean + factor * (changed - mean)
    if section.brightness > 0:
        changed += section.brightness * (high - low) * _either_way([rows, 1, 1, 1], seeds[2])
    if section.noise > 0:
        changed += section.noise * (high - low) * tf.random.stateless_normal(tf.shape(changed), seeds[3])
    return tf.ensure_shape(tf.clip_by_value(changed, low, high), images.shape)


def warp(images: Any, transforms: Any, fill: str = "nearest") -> Any:
    """Move pixels: bilinear between them.

    Args:
        images: float32 `[rows, height, width, channels]`.
        transforms: float32 `[rows, 3, 3]`: (x, y, 1) of a pixel of the result, counted from the middle of
            the picture, -> (x, y, 1) of its source.
        fill: What is outside: `nearest`, `reflect` or `zero`.
    """
    size = tf.shape(images)[1:3]
    middle = (tf.cast(size, tf.float32) - 1) / 2
    one, zero = tf.ones([]), tf.zeros([])
    to_middle = tf.stack([[one, zero, -middle[1]], [zero, one, -middle[0]], [zero, zero, one]])
    back = tf.stack([[one, zero, middle[1]], [zero, one, middle[0]], [zero, zero, one]])
    flat = tf.reshape(back @ transforms @ to_middle, [-1, 9])[:, :8]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=flat,
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode=_FILL[fill],
        fill_value=0.0,
    )


def _transforms(section: AugmentImages, shape: Any, seed: Any) -> Any:
    """Draw a matrix a picture: `[rows, 3, 3]`."""
    rows, height, width = shape[0], tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    matrix = tf.eye(3, batch_shape=[rows])
    if section.crop > 0:
        drawn = tf.random.stateless_uniform([rows, 3], seeds[0])
        side = 1 - section.crop * drawn[:, 0]
        place = (1 - side)[:, tf.newaxis] * (drawn[:, 1:] - 0.5)  # its middle stays inside
        matrix @= _affine(side, 0.0, place[:, 0] * width, 0.0, side, place[:, 1] * height)
    if section.shift > 0:
        by = section.shift * _either_way([rows, 2], seeds[1])
        matrix @= _affine(1.0, 0.0, by[:, 0] * width, 0.0, 1.0, by[:, 1] * height)
    if section.zoom > 0:
        factor = 1 / (1 + section.zoom * _either_way([rows], seeds[2]))
        matrix @= _affine(factor, 0.0, 0.0, 0.0, factor, 0.0)
    if section.shear > 0:
        by = tf.tan(math.radians(section.shear) * _either_way([rows], seeds[3]))
        matrix @= _affine(1.0, by, 0.0, 0.0, 1.0, 0.0)
    if section.rotate > 0:
        angle = math.radians(section.rotate) * _either_way([rows], seeds[4])
        sine, cosine = tf.sin(angle), tf.cos(angle)
        matrix @= _affine(cosine, -sine, 0.0, sine, cosine, 0.0)
    if section.flip != "none":
        sides = tf.where(tf.random.stateless_uniform([rows, 2], seeds[5]) < 0.5, -1.0, 1.0)
        across = sides[:, 0] if section.flip in ("horizontal", "both") else 1.0
        along = sides[:, 1] if section.flip in ("vertical", "both") else 1.0
        matrix @= _affine(across, 0.0, 0.0, 0.0, along, 0.0)
    return matrix


def _affine(*entries: Any) -> Any:
    """Return `[rows, 3, 3]` with the first two rows given, each entry `[rows]` or a number."""
    rows = next(tf.shape(entry)[0] for entry in entries if not isinstance(entry, float))
    full = [tf.broadcast_to(entry, [rows]) for entry in (*entries, 0.0, 0.0, 1.0)]
    return tf.reshape(tf.stack(full, axis=1), [-1, 3, 3])


def _either_way(shape: Any, seed: Any) -> Any:
    """Draw uniform numbers in [-1, 1)."""
    return tf.random.stateless_uniform(shape, seed, -1.0, 1.0)
