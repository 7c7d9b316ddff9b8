"""How many computations the server takes on at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Code, ServingError

__all__ = ["Admission"]


class Admission:
    """The one queue of the server, over all models and doors: what waits for a run, runs, and is answered.

    Doors enter it once a request has come whole, so that slow uploads take nobody's place. Whoever's deadline
    passes leaves it.

    Args:
        most: Computations in it at the same time, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_work = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a computation until it is answered.

        Raises:
            ServingError: UNAVAILABLE, if there are too many already.
        """
        if self._in_work >= self._most:
            raise ServingError(
                Code.UNAVAILABLE,
                f"the server must not take on more than {self._most} requests at once. Received: one more",
            )
        self._in_work += 1
        try:
            yield
        finally:
            self._in_work -= 1
