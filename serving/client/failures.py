"""What a client raises when it got no answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headrace.data.errors import HeadraceError

from ..server.errors import HTTP_STATUS, Code

__all__ = ["Code", "RequestFailed", "code_of_status", "of_rows"]

_OF_STATUS = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.OUT_OF_RANGE,
    **{status: code for code, status in HTTP_STATUS.items() if status not in (200, 400, 404, 500, 409)},
}


class RequestFailed(HeadraceError):
    """A request without an answer: the server refused it, or could not be reached in time.

    Args:
        code: Canonical code of gRPC; over REST the one that the HTTP status stands for.
        text: What the server said, or why it could not be reached.
        place: URL of the model.
        attempts: How often it was tried.

    Attributes:
        code: As given.
        text: As given.
        rows: First row, from 0, and number of rows of the request, where it was one of rows.
    """

    rows: tuple[int, int] | None = None

    def __init__(self, code: Code, text: str, place: str = "", attempts: int = 1) -> None:
        self.code, self.text, self.place, self.attempts = code, text, place, attempts
        tried = f"after {attempts} attempts" if attempts > 1 else ""
        where = ", ".join(filter(None, (place, tried)))
        super().__init__(
            f"the server must answer. Received: {code.name}: {text}" + (f" ({where})" if where else "")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        told = {"rows": self.rows, "hint": self.hint}
        return RequestFailed, (self.code, self.text, self.place, self.attempts), told


@contextmanager
def of_rows(first: int, count: int) -> Iterator[None]:
    """Let a failure tell which rows its request held.

    Args:
        first: The first one, from 0.
        count: How many.
    """
    try:
        yield
    except RequestFailed as error:
        error.rows = (first, count)
        raise


def code_of_status(status: int) -> Code:
    """Return the code that an HTTP status stands for (several codes share 400 and 500)."""
    return _OF_STATUS.get(status, Code.UNKNOWN if status < 500 else Code.INTERNAL)
