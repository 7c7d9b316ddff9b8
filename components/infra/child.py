"""Run a probe or a server in a process of its own, within bounds of time and memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["READY", "run_child", "run_server", "write_whole"]

READY = "ready.json"
"""File in which a probe with a visitor says that it can be visited, and where."""

_POLL_S = 0.05
_PROBE = "headrace.components.infra.probe"
_GO_ON = b"d"
_JOIN_S = 30.0

Json = dict[str, Any]
Visit = Callable[[Json], None]


def run_child(
    request: Mapping[str, Any],
    folder: Path,
    timeout_s: float,
    max_rss_bytes: int | None = None,
    module: str = _PROBE,
    visit: Visit | None = None,
) -> Json:
    """Run one probe to its end, or end it.

    Args:
        request: What the probe reads.
        folder: An existing folder for the request, the response and what the probe prints.
        timeout_s: Seconds after which it is killed, start and imports included.
        max_rss_bytes: Resident memory at which it is killed; None for no bound.
        module: Module to run with the paths of request and response.
        visit: Called once, in a thread, with the content of `READY` when the probe has written it; the
            probe is told to go on when it returns. It must not raise, and must end when the probe does.

    Returns:
        The response; `error` in it says what went wrong. `rss_bytes` is always there, the peak seen.
    """
    asked, answered = folder / "request.json", folder / "response.json"
    asked.write_text(json.dumps(request), encoding="utf-8")
    log = folder / "probe.log"
    with open(log, "wb") as output:
        child = _start([sys.executable, "-m", module, str(asked), str(answered)], output)
        guest = _Guest(child, folder / READY, visit) if visit else None
        try:
            stopped, peak = _watch(child, timeout_s, max_rss_bytes, guest.step if guest else lambda: False)
        finally:
            _end(child)
            if guest:
                guest.join()
    if stopped:
        return {"error": stopped, "rss_bytes": peak}
    if child.returncode != 0 or not answered.is_file():
        return {"error": _died(child.returncode, log), "rss_bytes": peak}
    found: Json = json.loads(answered.read_text(encoding="utf-8"))
    found["rss_bytes"] = max(peak, int(found.get("rss_bytes", 0)))
    if max_rss_bytes is not None and found["rss_bytes"] > max_rss_bytes:
        found["error"] = _too_much(found["rss_bytes"], max_rss_bytes)
    return found


def run_server(
    command: Sequence[str],
    log: Path,
    timeout_s: float,
    max_rss_bytes: int | None,
    visit: Callable[[threading.Event], None],
) -> tuple[str, int]:
    """Run a server while it is visited, and end it with SIGTERM.

    Args:
        command: Program and arguments.
        log: File for what it prints.
        timeout_s: Seconds after which it is killed, start included.
        max_rss_bytes: Resident memory at which it is killed; None for no bound.
        visit: Called once, in a thread, with an event that is set when the server is gone. It must not
            raise, and must end then.

    Returns:
        What went wrong, "" for nothing, and the peak of resident memory in bytes.
    """
    with open(log, "wb") as output:
        child = _start(command, output)
        gone = threading.Event()
        visitor = threading.Thread(target=visit, args=(gone,), daemon=True)
        visitor.start()
        try:
            stopped, peak = _watch(child, timeout_s, max_rss_bytes, lambda: not visitor.is_alive())
        finally:
            ended = child.poll()
            _end(child, grace_s=5.0)
            gone.set()
            visitor.join(_JOIN_S)
    if not stopped and ended is not None:
        stopped = _died(ended, log)
    return stopped, peak


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees all of it or no file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.rename(path)


class _Guest:
    """Visits a child once it is ready, then tells it to go on."""

    def __init__(self, child: "subprocess.Popen[bytes]", ready: Path, visit: Visit) -> None:
        self._child, self._ready, self._visit = child, ready, visit
        self._thread: threading.Thread | None = None
        self._told = False

    def step(self) -> bool:
        """Begin or end the visit if it is time to; never asks for the child's end."""
        if self._thread is None and self._ready.is_file():
            where = json.loads(self._ready.read_text(encoding="utf-8"))
            self._thread = threading.Thread(target=self._visit, args=(where,), daemon=True)
            self._thread.start()
        elif self._thread is not None and not self._told and not self._thread.is_alive():
            self._told = True
            assert self._child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, which its exit code tells
                self._child.stdin.write(_GO_ON)
                self._child.stdin.flush()
        return False

    def join(self) -> None:
        """Wait for the visit to end: its child is gone."""
        if self._thread is not None:
            self._thread.join(_JOIN_S)


def _start(command: Sequence[str], output: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.PIPE,  # its end tells the child that this process is gone
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _watch(
    child: "subprocess.Popen[bytes]", timeout_s: float, max_rss_bytes: int | None, done: Callable[[], bool]
) -> tuple[str, int]:
    """Wait for the child or `done`; return why it has to be stopped ("" for nothing) and its peak memory."""
    deadline, peak = time.monotonic() + timeout_s, 0
    while child.poll() is None and not done():
        peak = max(peak, _resident_bytes(child.pid))
        if max_rss_bytes is not None and peak > max_rss_bytes:
            return _too_much(peak, max_rss_bytes), peak
        if time.monotonic() > deadline:
            return f"it did not finish within {timeout_s:g} s and was killed", peak
        time.sleep(_POLL_S)
    return "", peak


def _too_much(peak: int, bound: int) -> str:
    return f"it used {peak:,} bytes of resident memory; at most {bound:,} are allowed"


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE")


def _end(child: "subprocess.Popen[bytes]", grace_s: float = 0.0) -> None:
    """End the child and what it started, where it still runs."""
    if child.poll() is None and grace_s:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed below
            child.wait(grace_s)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdin is not None
    child.stdin.close()


def _died(code: int, log: Path) -> str:
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"its process {how}" + (f": {lines[-1][:500]}" if lines else "")


def _environment() -> dict[str, str]:
    """Hide accelerators and keep native libraries to one thread, so that figures compare."""
    return os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"}
