"""Whether bytes are a whole JPEG or PNG file, before anything decodes them.

Pillow decodes some damaged files that TensorFlow refuses. These checks make up the difference, so that one
rule holds for ingest, for the transform graph and on a device.
"""

import struct
import zlib

__all__ = ["JPEG_SIGNATURE", "MAX_PIXELS", "PNG_SIGNATURE", "why_damaged"]

MAX_PIXELS = 1 << 26
"""The largest picture that is decoded anywhere: by ingest, by a model's graph and beside a served model."""

JPEG_SIGNATURE, PNG_SIGNATURE = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
"""What such files begin with."""

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"  # markers: start of scan, end of image


def why_damaged(content: bytes) -> str:
    """Say why `content` is no whole JPEG or PNG file, as far as its structure tells, or nothing.

    Example:
        >>> why_damaged(b"GIF89a"), why_damaged(PNG_SIGNATURE)
        ('not a JPEG or PNG file', 'the file is cut short')
    """
    if content.startswith(PNG_SIGNATURE):
        return _why_png(content)
    if not content.startswith(JPEG_SIGNATURE):
        return "not a JPEG or PNG file"
    cut = content.find(_JPEG_END, max(content.rfind(_JPEG_SCAN), 0)) < 0
    return "the file is cut short" if cut else ""


def _why_png(content: bytes) -> str:
    """Check the order of chunks and the sums of those that make up the picture."""
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        end = place + 12 + size
        if end > len(content):
            break
        kind = content[place + 4 : place + 8]
        (told,) = struct.unpack_from(">I", content, end - 4)
        if kind[:1].isupper() and zlib.crc32(content[place + 4 : end - 4]) != told:
            return f"a wrong checksum in chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return ""
        place = end
    return "the file is cut short"
