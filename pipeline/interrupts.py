"""Ctrl-C as a state to look at: as an exception it could strike between a start and its clean-up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Interrupts", "counted_interrupts"]


@dataclass
class Interrupts:
    """How often Ctrl-C was pressed.

    Attributes:
        count: Times since counting began.
    """

    count: int = 0

    def __bool__(self) -> bool:
        return self.count > 0


@contextmanager
def counted_interrupts() -> Iterator[Interrupts]:
    """Count Ctrl-C instead of raising KeyboardInterrupt.

    Where SIGINT is ignored (a background job) or this is not the main thread, nothing changes.
    """
    found = Interrupts()

    def count(signum: int, frame: Any) -> None:
        found.count += 1

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield found
        return
    kept = signal.signal(signal.SIGINT, count)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, kept)
