"""How many computations the server takes on at once: many while it keeps up, few while it is flooded."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import Code, ServingError

__all__ = ["Admission", "AdmissionSettings"]

_SMOOTHING = 0.05
_WINDOW_S = 0.25
_FLOOD = 0.5
_LEAST_SEEN = 20


@dataclass(frozen=True)
class AdmissionSettings:
    """When computations are refused before they are read.

    Attributes:
        most: Most that are read, wait or run at the same time, over all models and doors, >= 1.
        busy: So many are always taken on, as far as `most` allows, >= 1.
        busy_s: More are, while the last of them is foreseen to wait no longer than so many seconds, > 0: a
            queue that grows any longer would only make everyone wait.
        flooded_s: The same while most requests are refused, > 0. Clients that each wait for an answer do not
            come here, however many they are; those that send on whatever happens do, and no queue helps them.
    """

    most: int = 1024
    busy: int = 32
    busy_s: float = 0.1
    flooded_s: float = 0.005


class Admission:
    """Counts computations in work, and says when there are too many.

    Args:
        settings: The limits.
        clock: Seconds that only grow.
    """

    def __init__(self, settings: AdmissionSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._in_work = 0
        self._share_s = 0.0
        self._window_from = clock()
        self._asked = self._refused = 0
        self._flooded = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a computation while its request is read and answered; doors enter before they parse.

        Raises:
            ServingError: UNAVAILABLE, if there are too many already: what is refused unread costs next to
                nothing, so that the accepted ones keep their time.
        """
        if self.full():
            raise self.refused()
        self._asked += 1
        self._in_work += 1
        start, beside = self._clock(), self._in_work
        try:
            yield
        finally:
            self._in_work -= 1
            # Little's law: what a request takes, by those that are there with it, is what each adds.
            self._share_s += _SMOOTHING * ((self._clock() - start) / beside - self._share_s)

    def full(self) -> bool:
        """Whether a further computation would be refused now."""
        settings = self._settings
        least = min(settings.busy, settings.most)
        return self._in_work >= least and self._in_work >= self._limit()

    def refused(self) -> ServingError:
        """Count a refusal, and return what is answered."""
        limit = self._limit()
        self._asked += 1
        self._refused += 1
        return ServingError(
            Code.UNAVAILABLE,
            f"the server must not take on more than {limit} requests at once. Received: one more",
        )

    def _limit(self) -> int:
        settings = self._settings
        self._look()
        wait_s = settings.flooded_s if self._flooded else settings.busy_s
        quick = int(wait_s / self._share_s) if self._share_s > 0 else settings.most
        return min(settings.most, max(settings.busy, quick))

    def _look(self) -> None:
        """Find out, once in a while, whether most requests were refused."""
        now = self._clock()
        if now - self._window_from < _WINDOW_S:
            return
        self._flooded = self._asked >= _LEAST_SEEN and self._refused > _FLOOD * self._asked
        self._window_from = now
        self._asked = self._refused = 0
