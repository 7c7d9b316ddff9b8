"""Start a job server of Beam's in a session of its own.

    python -m headrace.components.beam_server COMMAND...

Ctrl-C reaches the whole group of a terminal. A job server that it stopped could not cancel its job any more,
and the cluster would go on alone.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["start_server"]

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def start_server(command: Sequence[str]) -> None:
    """Become `command`, away from the terminal; on Linux it ends with the process that started it."""
    os.setsid()
    # The step ignores SIGINT, which is inherited; Beam stops its servers with it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    start_server(sys.argv[1:])
