"""Run a probe in a process of its own, within bounds of time and memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["run_child"]

_POLL_S = 0.05
_PROBE = "headrace.components.infra.probe"


def run_child(
    request: Mapping[str, Any],
    folder: Path,
    timeout_s: float,
    max_rss_bytes: int | None = None,
    module: str = _PROBE,
) -> dict[str, Any]:
    """Run one probe to its end, or end it.

    Args:
        request: What the probe reads.
        folder: An existing folder for the request, the response and what the probe prints.
        timeout_s: Seconds after which it is killed, start and imports included.
        max_rss_bytes: Resident memory at which it is killed; None for no bound.
        module: Module to run with the paths of request and response.

    Returns:
        The response; `error` in it says what went wrong. `rss_bytes` is always there, the peak seen.
    """
    asked, answered = folder / "request.json", folder / "response.json"
    asked.write_text(json.dumps(request), encoding="utf-8")
    log = folder / "probe.log"
    with open(log, "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(asked), str(answered)],
            env=_environment(),
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            stopped, peak = _watch(child, timeout_s, max_rss_bytes)
        finally:
            _end(child)
    if stopped:
        return {"error": stopped, "rss_bytes": peak}
    if child.returncode != 0 or not answered.is_file():
        return {"error": _died(child.returncode, log), "rss_bytes": peak}
    found: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    found["rss_bytes"] = max(peak, int(found.get("rss_bytes", 0)))
    if max_rss_bytes is not None and found["rss_bytes"] > max_rss_bytes:
        found["error"] = _too_much(found["rss_bytes"], max_rss_bytes)
    return found


def _watch(child: "subprocess.Popen[bytes]", timeout_s: float, max_rss_bytes: int | None) -> tuple[str, int]:
    """Wait for the child; return why it has to be stopped ("" if it ended) and its peak memory, bytes."""
    deadline, peak = time.monotonic() + timeout_s, 0
    while child.poll() is None:
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


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kill the child and what it started, where it still runs."""
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
