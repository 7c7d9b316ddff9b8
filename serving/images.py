"""Pictures without TensorFlow: Pillow decodes, numpy resizes and scales.

Decoding and resizing agree with TensorFlow's: JPEG by libjpeg's accurate integer DCT, PNG at eight bits a
channel, and the separable triangle kernel of its `ScaleAndTranslate` operation in float32.
"""

import io
import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.data.pictures import MAX_PIXELS, PNG_SIGNATURE, why_damaged

__all__ = [
    "GREY",
    "InvalidImage",
    "decode_image",
    "encode_png",
    "fit_size",
    "resize",
    "to_grey",
]

GREY = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in grey (ITU-R BT.601)."""

Floats = npt.NDArray[np.float32]


class InvalidImage(ValueError):
    """Bytes that are not a whole JPEG or PNG file."""


def decode_image(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode a JPEG or PNG file.

    Grey becomes three equal channels, transparency is left out, of 16 bits a channel the upper eight are
    kept, and an orientation noted in the file (EXIF) is not applied.

    Args:
        content: The file.

    Returns:
        uint8 `[height, width, 3]`: red, green, blue.

    Raises:
        InvalidImage: If it is no such file, damaged or cut short, or has more than 2^26 pixels.
    """
    from PIL import Image  # where no feature is a picture, Pillow need not be installed

    if reason := why_damaged(content):
        raise InvalidImage(reason)
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise InvalidImage(f"it has {size}, more than the {MAX_PIXELS:,} that are decoded")
            image.load()
            return _to_rgb(image)
    except InvalidImage:
        raise
    except Image.DecompressionBombWarning as error:  # where warnings are errors
        raise InvalidImage(f"it has more than the {MAX_PIXELS:,} pixels that are decoded") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InvalidImage(f"it cannot be decoded ({error})") from error


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 `[height, width, 3]`, as a PNG file."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    chunks = {
        b"IHDR": struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(lines),
        b"IEND": b"",
    }
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def _to_rgb(image: Any) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    image.info.pop("transparency", None)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _cmyk_to_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """Mix inks as TensorFlow does; files with Adobe's marker hold them inverted."""
    inks = 255 - np.asarray(image).astype(np.int32)  # Pillow has inverted them
    if "adobe" not in image.info:
        inks = 255 - inks
    return (inks[:, :, :3] * inks[:, :, 3:] // 255).astype(np.uint8)


def to_grey(pixels: Floats) -> Floats:
    """Return float32 `[..., 1]` of red, green and blue `[..., 3]`."""
    red, green, blue = (np.float32(weight) for weight in GREY)
    grey = pixels[..., 0] * red + pixels[..., 1] * green + pixels[..., 2] * blue
    return grey[..., np.newaxis]


def fit_size(source: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the height and width that a picture gets before it is padded or cut around its middle.

    Args:
        source: Its height and width.
        target: Those wanted.
        fit: `stretch`, `pad` or `crop`.

    Example:
        >>> fit_size((480, 640), (96, 96), "pad"), fit_size((480, 640), (96, 96), "crop")
        ((72, 96), (96, 128))
    """
    (rows, columns), (height, width) = source, target
    if fit == "stretch":
        return target
    by_height = height * columns <= width * rows if fit == "pad" else height * columns >= width * rows
    if by_height:
        return height, max(1, (2 * columns * height + rows) // (2 * rows))
    return max(1, (2 * rows * width + columns) // (2 * columns)), width


def resize(pixels: npt.NDArray[Any], target: tuple[int, int], fit: str, antialias: bool) -> Floats:
    """Resize a picture.

    Args:
        pixels: `[rows, columns, channels]`, numbers.
        target: Height and width wanted.
        fit: `stretch`; `pad` (keep proportions, 0 around); `crop` (keep them, cut around the middle).
        antialias: Whether to average over what a smaller pixel covers.

    Returns:
        float32 `[height, width, channels]`.
    """
    source = (pixels.shape[0], pixels.shape[1])
    if source == target:
        return pixels.astype(np.float32)
    fitted = fit_size(source, target, fit)
    for axis in (0, 1):
        weights = _weights(source[axis], target[axis], fitted[axis], antialias)
        pixels = _apply(weights, np.moveaxis(pixels, axis, 0))
        pixels = np.moveaxis(pixels, 0, axis)
    return np.ascontiguousarray(pixels, np.float32)


@lru_cache(maxsize=8)
def _weights(source: int, target: int, fitted: int, antialias: bool) -> Floats:
    """Return what each pixel of a line weighs in each of the resized line, float32 `[target, source]`.

    Each step is rounded to float32 as in tensorflow/core/kernels/image/scale_and_translate_op.cc.
    """
    one, half = np.float32(1), np.float32(0.5)
    inverse = one / (np.float32(fitted) / np.float32(source))
    shift = -inverse * np.float32((target - fitted) // 2 if fitted <= target else -((fitted - target) // 2))
    spread = max(inverse, one) if antialias else one
    centres = (np.arange(target, dtype=np.float32) + half) * inverse + shift  # [target]
    distances = np.arange(source, dtype=np.float32) + half - centres[:, np.newaxis]  # [target, source]
    weights = np.maximum(one - np.abs(distances * (one / spread)), np.float32(0))
    sums = weights.sum(axis=1, keepdims=True)
    weights *= one / np.where(sums > 0, sums, one)
    weights[(centres < 0) | (centres > source)] = 0  # beyond the picture
    weights.setflags(write=False)
    return weights


def _apply(weights: Floats, lines: npt.NDArray[Any]) -> Floats:
    """Mix lines `[source, n, channels]` into `[target, n, channels]`, each of the few that weigh anything."""
    flat = lines.reshape(len(lines), -1)
    found = np.zeros((len(weights), flat.shape[1]), np.float32)
    for row, line in enumerate(weights):
        (places,) = np.nonzero(line)
        if len(places):
            span = slice(places[0], places[-1] + 1)
            found[row] = line[span] @ flat[span].astype(np.float32)
    return found.reshape(len(weights), *lines.shape[1:])
