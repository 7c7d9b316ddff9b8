"""Ctrl-C, and the end of the terminal, as a state to look at: an exception could strike between a start and
its clean-up.
"""

import errno
import os
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Interrupts", "counted_interrupts"]

_STOPPING = (signal.SIGINT, signal.SIGHUP)


@dataclass
class Interrupts:
    """How often somebody wanted to stop.

    Attributes:
        count: Times since counting began.
    """

    count: int = 0

    def __bool__(self) -> bool:
        return self.count > 0


@contextmanager
def counted_interrupts() -> Iterator[Interrupts]:
    """Count SIGINT (Ctrl-C) and SIGHUP (a terminal that is closed) instead of ending.

    One that is ignored (in a background job, under nohup) stays so; outside the main thread nothing changes.
    """
    found = Interrupts()

    def count(signum: int, frame: Any) -> None:
        found.count += 1
        if signum == signal.SIGHUP:
            _leave_terminal()

    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    kept = {number: signal.getsignal(number) for number in _STOPPING}
    heard = {number: handler for number, handler in kept.items() if handler != signal.SIG_IGN}
    for number in heard:
        signal.signal(number, count)
    try:
        yield found
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Write to nowhere what would be shown on a terminal that is gone: it would be an error instead."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
