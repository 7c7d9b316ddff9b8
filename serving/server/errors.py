"""What a request can be answered instead of a result: canonical codes, and what they mean over HTTP."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from headrace.data.errors import HeadraceError

__all__ = ["HTTP_STATUS", "MAX_MESSAGE_BYTES", "Code", "ServingError", "cut"]

MAX_MESSAGE_BYTES = 1024
"""Longest text of an error over gRPC, as TensorFlow Serving cuts it."""


class Code(IntEnum):
    """The canonical codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: Mapping[Code, int] = MappingProxyType(
    {
        Code.OK: 200,
        Code.CANCELLED: 499,
        Code.UNKNOWN: 500,
        Code.INVALID_ARGUMENT: 400,
        Code.DEADLINE_EXCEEDED: 504,
        Code.NOT_FOUND: 404,
        Code.ALREADY_EXISTS: 409,
        Code.PERMISSION_DENIED: 403,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.FAILED_PRECONDITION: 400,
        Code.ABORTED: 409,
        Code.OUT_OF_RANGE: 400,
        Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
        Code.DATA_LOSS: 500,
        Code.UNAUTHENTICATED: 401,
    }
)
"""Canonical code -> status of the HTTP answer (`ToHTTPStatusCode` in TensorFlow Serving)."""


class ServingError(HeadraceError):
    """A request that is answered with an error.

    Args:
        code: Canonical code.
        message: Text for the client.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def cut(message: str) -> str:
    """Return `message`, cut after `MAX_MESSAGE_BYTES` bytes of UTF-8 and marked so if it is longer."""
    encoded = message.encode("utf-8", errors="replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", errors="ignore") + "...TRUNCATED"
