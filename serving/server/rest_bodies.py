"""Packed bodies: what a client sent with gzip, and what it takes packed."""

import re
import zlib

from aiohttp.web_exceptions import HTTPRequestEntityTooLarge

from .errors import Code, ServingError

__all__ = ["pack", "takes_gzip", "unpack"]

_GZIP = 31  # zlib's number for its largest window inside of gzip's header and sum
_TAKES_GZIP = re.compile(r"(?i)(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?:,|$)")


def pack(body: bytes) -> bytes:
    """Return `body` as gzip data, at the level that costs least time."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


def takes_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding header names gzip, and not with a weight of zero."""
    found = _TAKES_GZIP.search(accepted)
    return found is not None and (found[1] is None or found[1].strip("0.") != "")


def unpack(body: bytes, packing: str, most: int) -> bytes:
    """Return the body that a Content-Encoding header describes.

    Args:
        body: As sent.
        packing: Value of the header.
        most: Largest size in bytes that is unpacked.

    Raises:
        ServingError: INVALID_ARGUMENT, if the encoding is another one or the data is broken.
        HTTPRequestEntityTooLarge: If it is larger.
    """
    packing = packing.strip().lower()
    if packing in ("", "identity"):
        return body
    if packing not in ("gzip", "x-gzip"):
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Content-Encoding must be gzip or identity. Received: {packing[:40]}"
        )
    unpacker = zlib.decompressobj(_GZIP)
    try:
        found = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"the body must be gzip data. Received: {error}") from error
    if len(found) > most:
        raise HTTPRequestEntityTooLarge(most, len(found))
    if not unpacker.eof or unpacker.unused_data:
        what = "more behind it" if unpacker.eof else "a part of it"
        raise ServingError(Code.INVALID_ARGUMENT, f"the body must be whole gzip data. Received: {what}")
    return found
