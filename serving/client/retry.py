"""Trying again, where that can help: after UNAVAILABLE (over REST 503, or no connection), and only then."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from headrace.data.errors import ConfigError

from .failures import Code, RequestFailed

__all__ = ["Retry", "retried", "retried_async"]

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often a request is tried, and how long a client waits in between.

    The wait before try n + 1 is drawn from the upper half of `first_s * factor ** (n - 1)`, at most `most_s`,
    so that clients that failed together do not come back together.

    Attributes:
        attempts: Tries in all, >= 1; 1 never repeats.
        first_s: Seconds before the second try, > 0.
        factor: Growth of the wait, >= 1.
        most_s: Longest wait in seconds.
    """

    attempts: int = 5
    first_s: float = 0.1
    factor: float = 2.0
    most_s: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s <= 0 or self.factor < 1 or self.most_s <= 0:
            raise ConfigError(
                "`attempts` and `factor` must be >= 1, `first_s` and `most_s` > 0. "
                f"Received: attempts={self.attempts}, first_s={self.first_s}, factor={self.factor}, "
                f"most_s={self.most_s} (Retry)"
            )

    def waits(self, draw: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield the seconds before each further try.

        Args:
            draw: Returns numbers in [0, 1).

        Example:
            >>> [round(wait, 3) for wait in Retry(attempts=4).waits(lambda: 0.5)]
            [0.075, 0.15, 0.3]
        """
        for number in range(self.attempts - 1):
            yield min(self.most_s, self.first_s * self.factor**number) * (0.5 + 0.5 * draw())


class _Tries:
    """The tries of one request within its time."""

    def __init__(self, retry: Retry, timeout_s: float) -> None:
        self._waits = retry.waits()
        self._deadline = time.monotonic() + timeout_s
        self._count = 1

    def left_s(self) -> float:
        """Seconds until the deadline, more than 0."""
        return max(1e-3, self._deadline - time.monotonic())

    def wait_after(self, error: RequestFailed) -> float:
        """Return the seconds until the next try, or raise `error` where there is none."""
        wait = next(self._waits, None) if error.code is Code.UNAVAILABLE else None
        if wait is None or time.monotonic() + wait >= self._deadline:
            raise RequestFailed(error.code, error.text, error.place, self._count) from error.__cause__
        self._count += 1
        return wait


def retried(call: Callable[[float], T], retry: Retry, timeout_s: float) -> T:
    """Return what `call` returns, tried again after UNAVAILABLE.

    Args:
        call: Takes the seconds that are left.
        retry: How often.
        timeout_s: Seconds for all tries together.

    Raises:
        RequestFailed: The last try's failure.
    """
    tries = _Tries(retry, timeout_s)
    while True:
        try:
            return call(tries.left_s())
        except RequestFailed as error:
            wait = tries.wait_after(error)
        time.sleep(wait)


async def retried_async(call: Callable[[float], Awaitable[T]], retry: Retry, timeout_s: float) -> T:
    """Do as `retried`, in an event loop."""
    tries = _Tries(retry, timeout_s)
    while True:
        try:
            return await call(tries.left_s())
        except RequestFailed as error:
            wait = tries.wait_after(error)
        await asyncio.sleep(wait)
