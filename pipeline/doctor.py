"""What `headrace doctor` looks at: everything that a run or a server needs of this machine."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from headrace.components.infra.engine import find_tensorflow_serving
from headrace.data.extras import how_to_install

__all__ = ["Finding", "examine"]

_PACKAGES = (
    "headrace", "tfx", "tensorflow", "keras", "tensorflow-transform", "tensorflow-data-validation",
    "tensorflow-model-analysis", "apache-beam", "keras-tuner", "ml-metadata", "ai-edge-litert", "kfp",
)  # fmt: skip
_DISK_BYTES = 5 * 10**9
_MEMORY_BYTES = 4 * 10**9


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: What it is.
        state: "ok", "warn" (works, with limits) or "fail".
        text: What was found, and what to do where it is not ok.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str


def examine(folder: str = ".") -> list[Finding]:
    """Look at Python, packages, glibc, GPU, memory, disk and ports; `folder` is where runs would go."""
    looks: tuple[Callable[[], list[Finding]], ...] = (
        _python,
        _glibc,
        _packages,
        _gpu,
        _memory,
        lambda: _disk(folder),
        _ports,
        _tensorflow_serving,
    )
    return [finding for look in looks for finding in look()]


def _python() -> list[Finding]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return [
        Finding(
            "Python", "ok" if good else "fail", version if good else f"{version}; headrace needs 3.11 to 3.13"
        )
    ]


def _glibc() -> list[Finding]:
    name, version = platform.libc_ver()
    # A private glibc shows up in the interpreter's own mapping, not in the system's files.
    with contextlib.suppress(ValueError, OSError):
        version = os.confstr("CS_GNU_LIBC_VERSION") or version
    number = tuple(int(part) for part in version.split()[-1].split(".")[:2]) if version else (0, 0)
    if number >= (2, 38):
        return [Finding("glibc", "ok", version)]
    return [
        Finding(
            "glibc",
            "fail",
            f"{version or name or 'unknown'}; ml-metadata needs 2.38: run `make setup`, which brings its own",
        )
    ]


def _packages() -> list[Finding]:
    findings = []
    for name in _PACKAGES:
        try:
            findings.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(
                Finding(name, "warn", f"not installed; `{how_to_install('all')}` or `make setup` brings it")
            )
    return findings


def _gpu() -> list[Finding]:
    devices = sorted(name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit())
    if not devices:
        return [Finding("GPU", "ok", "none: training runs on the CPU in float32")]
    names = ", ".join(devices)
    if shutil.which("nvidia-smi") is None:
        return [Finding("GPU", "warn", f"{names}, but no nvidia-smi on the PATH: is the driver installed?")]
    return [Finding("GPU", "ok", f"{names}: training uses mixed precision")]


def _memory() -> list[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    state: Literal["ok", "warn"] = "ok" if total >= _MEMORY_BYTES else "warn"
    cores = len(os.sched_getaffinity(0))
    return [
        Finding(
            "memory",
            state,
            f"{total / 1e9:.0f} GB, {cores} cores" + ("" if state == "ok" else "; 4 GB are advised"),
        )
    ]


def _disk(folder: str) -> list[Finding]:
    free = shutil.disk_usage(folder).free
    state: Literal["ok", "warn"] = "ok" if free >= _DISK_BYTES else "warn"
    return [
        Finding("disk", state, f"{free / 1e9:.0f} GB free" + ("" if state == "ok" else "; 5 GB are advised"))
    ]


def _ports() -> list[Finding]:
    return [_port(8500, "gRPC"), _port(8501, "REST")]


def _tensorflow_serving() -> list[Finding]:
    found = find_tensorflow_serving()
    if found is not None:
        return [Finding("TensorFlow Serving", "ok", f"{found.kind}: {found.program}")]
    return [Finding("TensorFlow Serving", "ok", "none: `gates.serving.gate: embedded` does without")]


def _port(number: int, use: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return Finding(f"port {number}", "warn", f"in use; TF Serving's {use} door would need another")
    return Finding(f"port {number}", "ok", f"free ({use})")
