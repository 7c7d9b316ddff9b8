"""Children of a process that has imported TensorFlow once, started without the script that called for them.

`multiprocessing` runs the main script of its caller again in each child, for functions that it may define.
Ours are never defined there, and a script that calls `run` would start a run in each child of a run.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, current_thread, main_thread
from types import ModuleType
from typing import Any

__all__ = ["forkserver", "start"]

# Two runs in two threads would else put back what the other had set for a moment.
_changing = Lock()


def forkserver(log: Path) -> Any:
    """Start the process that imports TFX and TensorFlow once; every node is forked from it.

    Args:
        log: File for what the imports say.

    Returns:
        The context of `multiprocessing` that makes its children.
    """
    multiprocessing.set_forkserver_preload(["headrace.pipeline.preload"])
    with _changing, _output_to(log), _hangups_ignored():
        multiprocessing.forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def start(process: Any) -> None:
    """Start a child whose target and arguments need nothing of the main module."""
    with _changing, _main_hidden():
        process.start()


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Point the descriptors that a new process inherits at `log`: imports of TensorFlow talk."""
    kept = [os.dup(1), os.dup(2)]
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        for descriptor, number in zip(kept, (1, 2), strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(target)


@contextmanager
def _hangups_ignored() -> Iterator[None]:
    """Let a new process, and all that it starts, outlive the terminal: whoever started it decides."""
    if current_thread() is not main_thread():
        yield
        return
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, kept)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Let a module without a file stand for the main one; what starts a child looks for that file."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
