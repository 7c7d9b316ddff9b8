"""Bodies of requests, read within bounds of size, memory and time, and packed with gzip or not."""

import asyncio
import re
import zlib

from aiohttp import web

from .errors import Code, ServingError

__all__ = ["BodyRefused", "Room", "pack", "read", "takes_gzip", "unpack"]

_GZIP = 31  # zlib's number for its largest window inside of gzip's header and sum
_TAKES_GZIP = re.compile(r"(?i)(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?:,|$)")


class BodyRefused(ServingError):
    """A body that is not read to its end, so that the connection cannot be used further.

    Args:
        status: HTTP status of the answer.
        code: Canonical code for logs.
        message: Text for the client.
    """

    def __init__(self, status: int, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.status = status


class Room:
    """Memory for bodies of all requests in work.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int) -> None:
        self._free = most

    def check(self, size: int) -> None:
        """Make sure that there is room.

        Raises:
            ServingError: UNAVAILABLE, if there is none now.
        """
        if size > self._free:
            raise ServingError(Code.UNAVAILABLE, "Too many bytes of requests are in work, try again later")

    def take(self, size: int) -> None:
        """Take room for so many bytes; raises as `check` does."""
        self.check(size)
        self._free -= size

    def give(self, size: int) -> None:
        """Give room back."""
        self._free += size


async def read(request: web.BaseRequest, room: Room, most: int, limit_s: float) -> bytes:
    """Return the body as it was sent; its bytes are taken from `room`, which the caller gives back.

    Args:
        request: The request.
        room: Memory for bodies.
        most: Largest size in bytes.
        limit_s: Seconds that the whole body may take.

    Raises:
        BodyRefused: If it is larger, slower or no HTTP.
        ServingError: UNAVAILABLE, if there is no room now.
    """
    length = request.content_length or 0
    if length > most:
        raise _too_large(most)
    room.check(length)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    found = bytearray()
    try:
        # Small bodies come with their head: no clock is set for them.
        async with asyncio.timeout(None if request.content.is_eof() else limit_s):
            while piece := await request.content.readany():
                if len(found) + len(piece) > most:
                    raise _too_large(most)
                room.take(len(piece))
                found += piece
        return bytes(found)
    except BaseException as error:
        room.give(len(found))
        if isinstance(error, ServingError) or not isinstance(error, Exception):
            raise
        raise _unfinished(error, limit_s) from error


def _unfinished(error: Exception, limit_s: float) -> BodyRefused:
    if isinstance(error, TimeoutError):
        return BodyRefused(
            408, Code.DEADLINE_EXCEEDED, f"a body must come within {limit_s:g} s. Received: a part of it"
        )
    return BodyRefused(
        400, Code.INVALID_ARGUMENT, f"a body must be sent whole. Received: {type(error).__name__}"
    )


def _too_large(most: int) -> BodyRefused:
    return BodyRefused(413, Code.OUT_OF_RANGE, f"Request body must be at most {most} bytes. Received: more")


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
        BodyRefused: If it is larger.
    """
    packing = packing.strip().lower()
    if packing in ("", "identity") or not body:
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
        raise _too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        what = "more behind it" if unpacker.eof else "a part of it"
        raise ServingError(Code.INVALID_ARGUMENT, f"the body must be whole gzip data. Received: {what}")
    return found
