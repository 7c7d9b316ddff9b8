"""The process that tries are forked from: `python -m headrace.serving.server.rehearsal_helper FD`.

It imports TensorFlow but runs nothing of it, so that it can be forked. For each question it forks a watcher,
and that one the try itself. The watcher ends the try when it takes too long or too much memory, or when
nobody waits for the answer any more, and says how it ended.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from .errors import Code, ServingError

__all__ = ["answer_questions"]

_IDLE_S = 60.0
_POLL_S = 0.01
_MOST_BYTES = 1 << 16

Json = dict[str, Any]


def answer_questions(asked: socket.socket, idle_s: float | None = None) -> None:
    """Try what is asked for, until whoever asks is gone.

    Args:
        asked: Each message is a question, with a pipe for the answer.
        idle_s: Seconds without a question after which it ends as well; None for never.
    """
    asked.settimeout(idle_s)
    while True:
        try:
            message, answers, _, _ = socket.recv_fds(asked, _MOST_BYTES, 1)
        except TimeoutError:
            if _busy():
                continue
            return
        if not message:
            return
        if not os.fork():
            asked.close()
            _watch(json.loads(message), answers[0])
        os.close(answers[0])
        _busy()


def _busy() -> bool:
    """Forget the watchers that have ended, and tell whether there are others."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not ended:
            return True


def _watch(question: Json, answer: int) -> NoReturn:
    """Fork the try, and say by `answer` how it ended: an exit code, "time" or "memory"."""
    tried = os.fork()
    if not tried:
        _try_out(question, answer)
    ended = _ended(tried, question["seconds"], question["memory_bytes"], answer)
    with suppress(BrokenPipeError):
        os.write(answer, json.dumps({"ended": ended}).encode() + b"\n")
    os._exit(0)


def _ended(tried: int, seconds: float, memory_bytes: int, answer: int) -> int | str:
    deadline = time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(answer, 0)
    while True:
        done, status = os.waitpid(tried, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        why = "time" if time.monotonic() > deadline else "memory" if _own_bytes(tried) > memory_bytes else ""
        if why or waiting.poll(0):
            os.kill(tried, signal.SIGKILL)
            os.waitpid(tried, 0)
            return why
        time.sleep(_POLL_S)


def _own_bytes(process: int) -> int:
    """Return the memory that a process holds for itself, without what it maps from files."""
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as pages:
            resident, shared = map(int, pages.read().split()[1:3])
    except (OSError, ValueError):  # it has just ended
        return 0
    return (resident - shared) * resource.getpagesize()


def _try_out(question: Json, answer: int) -> NoReturn:
    """Load a version, let it answer, and say by `answer` what went wrong."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")  # if the machine itself runs out of memory, this process is the one to go
    os.write(answer, json.dumps(_outcome(question)).encode() + b"\n")
    os._exit(0)


def _outcome(question: Json) -> Json:
    from .servable import load
    from .warmup import warm_up

    try:
        servable = load(
            question["name"],
            question["version"],
            question["path"],
            allow_ops=question["allow_ops"],
            check_sums=question["check_sums"],
        )
        warm_up(servable, iterations=question["warmup_iterations"])
    except ServingError as error:
        return {"code": int(error.code), "message": error.message}
    except Exception as error:
        return {"code": int(Code.INTERNAL), "message": f"{type(error).__name__}: {error}"}
    return {"code": int(Code.OK)}


def _main() -> None:
    asked = socket.socket(fileno=int(sys.argv[1]))
    from . import servable, warmup  # noqa: F401

    answer_questions(asked, _IDLE_S)


if __name__ == "__main__":
    _main()
