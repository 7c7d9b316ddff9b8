"""Refusing requests of a busy server before they are read: HTTP's head is looked at, and the body let pass.

A request that is refused by way of aiohttp costs nearly twice as much, and several turns of the loop. At ten
times the load that a server can carry that matters. What is unusual in any way goes the usual way.
"""

import re
from dataclasses import dataclass

__all__ = ["Head", "read_head"]

_END = b"\r\n\r\n"
_MOST_HEAD = 8192
_POST = re.compile(rb"POST (/[!-~]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n")
_ID = re.compile(rb"\r\nx-request-id:[ \t]*([!-~]{1,128})[ \t]*\r\n", re.IGNORECASE)
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding:|expect:|upgrade:|connection:(?![ \t]*keep-alive[ \t]*\r)|[ \t])"
    rb"|(?<!\r)\n|\r(?!\n)"
)


@dataclass(frozen=True, slots=True)
class Head:
    """What is read of a request that may be refused.

    Attributes:
        path: As it was sent, with its query.
        request_id: The client's, or empty.
        size: Bytes of the head, with the empty line.
        body: Bytes of the body.
    """

    path: str
    request_id: str
    size: int
    body: int


def read_head(data: bytes) -> Head | None:
    """Return the head of a plain POST request that `data` starts with; None for anything else."""
    end = data.find(_END, 0, _MOST_HEAD)
    start = _POST.match(data) if end > 0 else None
    if start is None:
        return None
    head = data[: end + 2]
    lower = head.lower()
    if lower.count(b"\r\ncontent-length:") != 1 or _UNUSUAL.search(lower):
        return None
    length = _LENGTH.search(lower)
    if length is None:
        return None
    name = _ID.search(head)
    return Head(
        start[1].decode("ascii"), name[1].decode("ascii") if name else "", end + len(_END), int(length[1])
    )
