"""A version is tried in a process of its own, within bounds, before the server's own process takes it.

TensorFlow reads a model in native code: what ends the process there, takes more memory than the machine has,
or never returns, cannot be caught. A helper that has imported TensorFlow forks a process for each try, so
that it costs little. The command forks that helper from itself; elsewhere it is started with the first try,
and leaves when it has had nothing to do for a while.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.serving.manifest import CheckSums

from .errors import Code, ServingError
from .rehearsal_helper import answer_questions

__all__ = ["Load", "LoadLimits", "Rehearsals", "fork_helper"]

_HELPER = "headrace.serving.server.rehearsal_helper"
_HELPER_FD = 3
_LOOK_S = 0.1
_LEAST_BYTES = 4 << 30
_TIMES_FOLDER = 10
_SHARE_OF_FREE = 0.8
_CHUNK_BYTES = 1 << 16

Json = dict[str, Any]


@dataclass(frozen=True)
class LoadLimits:
    """What a load and its warm-up may take.

    Attributes:
        seconds: Wall-clock time, > 0.
        memory_bytes: Memory of its own; 0 for 4 GiB and ten times the folder's size, but no more than four
            fifths of what the machine has free.
    """

    seconds: float = 600.0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Load:
    """What is loaded, and how.

    Attributes:
        name: Name of the model.
        version: Its version.
        path: Folder of the version.
        allow_ops: Operators that a model must not hold, and are allowed all the same.
        check_sums: What is asked of the version's manifest.json.
        warmup_iterations: How often each warm-up request is run, >= 1.
    """

    name: str
    version: int
    path: str
    allow_ops: tuple[str, ...] = ()
    check_sums: CheckSums = "present"
    warmup_iterations: int = 1


class _Helper:
    """The process that tries are forked from, and the socket by which it is asked."""

    def __init__(self, process: int, asked: socket.socket) -> None:
        self._process, self._asked = process, asked

    @classmethod
    def forked(cls) -> "_Helper":
        """Fork it from this process, which has imported TensorFlow but not used it yet."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = os.fork()
        if process:
            theirs.close()
            return cls(process, ours)
        try:
            ours.close()
            os.setsid()  # a Ctrl-C is the server's to handle
            for number in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            answer_questions(theirs)
        finally:
            os._exit(0)

    @classmethod
    def started(cls) -> "_Helper":
        """Start it as a program of its own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
            process = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", _HELPER, str(_HELPER_FD)],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), _HELPER_FD), *nothing],
                setsid=True,
            )
        return cls(process, ours)

    def ask(self, question: Json) -> int:
        """Begin a try, and return the file descriptor that the answer comes by.

        Raises:
            OSError: If the helper has left.
        """
        answer, theirs = os.pipe()
        try:
            socket.send_fds(self._asked, [json.dumps(question).encode()], [theirs])
        except OSError:
            os.close(answer)
            raise
        finally:
            os.close(theirs)
        return answer

    def forget(self) -> None:
        """Let go of a helper that has left."""
        self._asked.close()
        with suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(self._process, 0)


class _Helpers:
    """The helper of this process; there is one at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: _Helper | None = None

    def fork(self) -> None:
        """Fork a helper from this process."""
        with self._lock:
            self._helper = self._helper or _Helper.forked()

    def ask(self, question: Json) -> int | None:
        """Begin a try, by another helper if there is none or it has left; None if that one leaves as well."""
        with self._lock:
            for _ in range(2):
                self._helper = self._helper or _Helper.started()
                with suppress(OSError):
                    return self._helper.ask(question)
                self._helper.forget()
                self._helper = None
        return None


_helpers = _Helpers()


def fork_helper() -> None:
    """Fork the helper from this process, which must have imported TensorFlow and run nothing of it."""
    from . import servable, warmup  # noqa: F401

    _helpers.fork()


class Rehearsals:
    """Tries of versions. Any thread may ask.

    Args:
        limits: What each may take.
    """

    def __init__(self, limits: LoadLimits) -> None:
        self._limits = limits
        self._closed = threading.Event()

    def try_out(self, load: Load) -> None:
        """Load a version and let it answer, in a process of its own, and forget it again.

        Raises:
            ServingError: With the error of the load; INTERNAL, DEADLINE_EXCEEDED or RESOURCE_EXHAUSTED if it
                ended its process, or took too long or too much memory.
        """
        limit = self._limits.memory_bytes or _memory_bound(load.path)
        question = asdict(load) | {"seconds": self._limits.seconds, "memory_bytes": limit}
        found = self._answer(question) or self._answer(question)  # a helper may leave just when it is asked
        if "ended" not in found:
            raise ServingError(
                Code.UNAVAILABLE, f"a try of a version must come to an end. Received: none ({load.path})"
            )
        if found["ended"] or "code" not in found:
            raise _misfortune(found["ended"], load.path, self._limits.seconds, limit)
        if found["code"]:
            raise ServingError(Code(found["code"]), found["message"])

    def close(self) -> None:
        """End the tries that go on; whoever waits for one gets an error."""
        self._closed.set()

    def _answer(self, question: Json) -> Json:
        """Return what a try says; nothing if there was none."""
        answer = None if self._closed.is_set() else _helpers.ask(question)
        if answer is None:
            return {}
        try:
            lines = self._read(answer).splitlines()
        finally:
            os.close(answer)  # which ends the try, if it goes on
        found: Json = {}
        for line in lines:
            found |= json.loads(line)
        return found

    def _read(self, answer: int) -> bytes:
        """Return what comes by a pipe, until nobody writes to it any more or this is closed."""
        found = b""
        while not self._closed.is_set():
            if not select.select([answer], [], [], _LOOK_S)[0]:
                continue
            part = os.read(answer, _CHUNK_BYTES)
            if not part:
                return found
            found += part
        return b""


def _misfortune(ended: int | str, path: str, seconds: float, limit: int) -> ServingError:
    """Return the error of a try that did not come to its end."""
    if ended == "time":
        return ServingError(
            Code.DEADLINE_EXCEEDED,
            f"a version must load and answer within {seconds:g} s (--max_load_seconds). "
            f"Received: {path}, which was still at it",
        )
    if ended == "memory":
        return ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"a version must load and answer within {limit >> 20:,} MiB of memory (--max_load_mib). "
            f"Received: {path}, which took more",
        )
    number = int(ended)
    how = f"was killed by {signal.Signals(-number).name}" if number < 0 else f"ended with exit code {number}"
    return ServingError(
        Code.INTERNAL, f"a version must not end the process that loads it. Received: {path}, it {how}"
    )


def _memory_bound(folder: str) -> int:
    size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return min(_LEAST_BYTES + _TIMES_FOLDER * size, int(_SHARE_OF_FREE * _free_bytes()))


def _free_bytes() -> int:
    """Return the memory that the machine can still give."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
