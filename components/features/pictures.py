"""Pictures inside a TensorFlow graph: decode, resize and scale."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from headrace.data.pictures import JPEG_SIGNATURE, MAX_PIXELS, PNG_SIGNATURE
from headrace.serving.images import GREY, encode_png

from .outputs import Picture

__all__ = ["SCALES", "build_picture"]

SCALES = {"unit": (0.0, 255.0), "signed": (127.5, 127.5), "none": (0.0, 1.0)}
"""Way of scaling -> what is subtracted from 0 to 255, and what the rest is divided by."""

_SMALL_STD = 1e-6  # of 0 to 255: rounding, not a spread
_BLACK = encode_png(np.zeros((1, 1, 3), np.uint8))


def build_picture(output: Picture, column: Any, name: str) -> Any:
    """Return a picture a row, flat: float32 `[rows, height * width * channels]`, 0 where missing.

    Args:
        output: What is planned.
        column: The raw column (`headrace.components.features.graph.Column`).
        name: Of the operation that holds the fitted numbers: float32 `[2, channels]`.
    """
    if output.pixels is None:
        pixels, present = _decode(output, column.values, column.present), column.present
    else:
        pixels, present = _unpack(output, column.steps())
    subtract, divide = _scale(output, tf.boolean_mask(pixels, present), name)
    scaled = (pixels - subtract) / divide
    kept = tf.where(present[:, tf.newaxis, tf.newaxis, tf.newaxis], scaled, tf.zeros_like(scaled))
    return tf.reshape(kept, [-1, output.height * output.width * output.channels])


def _decode(output: Picture, files: Any, present: Any) -> Any:
    """Return float32 `[rows, height, width, channels]`, 0 to 255, of JPEG and PNG files `[rows]`."""
    files = tf.where(present, files, _BLACK)  # what is missing must still decode to something
    shape = tf.TensorSpec([output.height, output.width, output.channels], tf.float32)

    def decode(file: Any) -> Any:
        jpeg = tf.equal(tf.strings.substr(file, 0, len(JPEG_SIGNATURE)), JPEG_SIGNATURE)
        png = tf.equal(tf.strings.substr(file, 0, len(PNG_SIGNATURE)), PNG_SIGNATURE)
        rule = f"a picture must be a JPEG or PNG file (features.{output.source}). Received bytes:"
        check = tf.debugging.Assert(jpeg | png, [rule, tf.strings.length(file)])
        with tf.control_dependencies([check]):
            file = tf.identity(file)
        rule = f"a picture must have at most {MAX_PIXELS} pixels (features.{output.source}). Received:"
        count = _count_pixels(file, jpeg)
        with tf.control_dependencies([tf.debugging.Assert(count <= MAX_PIXELS, [rule, count])]):
            file = tf.identity(file)
        # Despite its name it decodes PNG too; by default it would trade accuracy for speed.
        levels = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")  # uint8 [h, w, 3]
        pixels = tf.cast(levels, tf.float32)
        if output.channels == 1:
            red, green, blue = tf.unstack(pixels, axis=-1)
            pixels = (red * GREY[0] + green * GREY[1] + blue * GREY[2])[..., tf.newaxis]
        return _resize(pixels[tf.newaxis], output)[0]

    return tf.map_fn(decode, files, fn_output_signature=shape)


def _count_pixels(file: Any, is_jpeg: Any) -> Any:
    """Return height times width as the head of a JPEG or PNG file tells it, int64 scalar."""

    def of_jpeg() -> Any:
        return tf.reduce_prod(tf.image.extract_jpeg_shape(file, output_type=tf.int64)[:2])

    def of_png() -> Any:
        # Chunk IHDR comes first: width and height as unsigned numbers, the high byte first.
        sides = tf.io.decode_raw(tf.strings.substr(file, 16, 8), tf.int32, little_endian=False)
        return tf.reduce_prod(tf.bitwise.bitwise_and(tf.cast(sides, tf.int64), 2**32 - 1))

    return tf.cond(is_jpeg, of_jpeg, of_png)


def _unpack(output: Picture, steps: Any) -> tuple[Any, Any]:
    """Return the pictures that rows of pixels hold, as `_decode` does, and which rows have one.

    Args:
        output: What is planned.
        steps: float32 `[rows, numbers]`, NaN where there is none.
    """
    assert output.pixels is not None
    rows, columns = output.pixels
    wanted = rows * columns * output.channels
    known = tf.logical_not(tf.math.is_nan(steps))
    places = tf.range(1, tf.shape(steps)[1] + 1)
    sizes = tf.reduce_max(tf.cast(known, tf.int32) * places, axis=1)
    rule = (
        f"a row of pixels must hold {rows} x {columns} x {output.channels} numbers "
        f"(features.{output.source}). Received:"
    )
    fits = (sizes == 0) | (sizes == wanted)
    check = tf.debugging.Assert(tf.reduce_all(fits), [rule, tf.boolean_mask(sizes, tf.logical_not(fits))])
    with tf.control_dependencies([check]):
        filled = tf.where(known, steps, tf.zeros_like(steps))
    filled = tf.pad(filled, [[0, 0], [0, wanted]])[:, :wanted]
    pixels = tf.reshape(filled, [-1, rows, columns, output.channels])
    if output.max_value != 255:
        pixels *= 255.0 / output.max_value
    if (rows, columns) != (output.height, output.width):
        pixels = _resize(pixels, output)
    return pixels, sizes > 0


def _resize(pixels: Any, output: Picture) -> Any:
    """Resize float32 `[n, h, w, channels]` to `[n, height, width, channels]`.

    One operation does it all: what it takes from beyond the picture is 0.
    """
    target = tf.constant([output.height, output.width])
    source = tf.shape(pixels)[1:3]
    fitted = _fit_size(tf.cast(source, tf.int64), output)
    scale = tf.cast(fitted, tf.float32) / tf.cast(source, tf.float32)
    room = target - fitted
    offset = tf.where(room >= 0, room // 2, -(-room // 2))
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels,
        size=target,
        scale=scale,
        translation=tf.cast(offset, tf.float32),
        kernel_type="triangle",
        antialias=output.antialias,
    )
    return tf.ensure_shape(resized, [None, output.height, output.width, output.channels])


def _fit_size(source: Any, output: Picture) -> Any:
    """Return height and width before padding or cutting, int32 `[2]`; see `serving.images.fit_size`."""
    height, width = output.height, output.width
    if output.fit == "stretch":
        return tf.constant([height, width])
    rows, columns = source[0], source[1]
    sides = height * columns, width * rows
    by_height = sides[0] <= sides[1] if output.fit == "pad" else sides[0] >= sides[1]
    scaled_width = tf.maximum((2 * columns * height + rows) // (2 * rows), 1)
    scaled_height = tf.maximum((2 * rows * width + columns) // (2 * columns), 1)
    fitted = tf.where(by_height, tf.stack([height, scaled_width]), tf.stack([scaled_height, width]))
    return tf.cast(fitted, tf.int32)


def _scale(output: Picture, pixels: Any, name: str) -> tuple[Any, Any]:
    """Return what to subtract and what to divide by, float32 `[channels]` each.

    Args:
        output: What is planned.
        pixels: float32 `[present rows, height, width, channels]`.
        name: Of the operation that holds them.
    """
    if output.scale != "zscore":
        return SCALES[output.scale]
    # Pictures are of one size, so the mean over all pixels is the mean of the pictures' means.
    wide = tf.cast(pixels, tf.float64)
    mean = tft.mean(tf.reduce_mean(wide, axis=[1, 2]), reduce_instance_dims=False)
    square = tft.mean(tf.reduce_mean(wide * wide, axis=[1, 2]), reduce_instance_dims=False)
    std = tf.sqrt(tf.maximum(square - mean * mean, 0.0))
    divide = tf.where(std > _SMALL_STD, std, tf.ones_like(std))
    fitted = tf.identity(tf.cast(tf.stack([mean, divide]), tf.float32), name)
    return fitted[0], fitted[1]
