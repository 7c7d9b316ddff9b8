"""One container's process on this machine, with nothing but what Kubernetes would give it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Identity", "Pod", "find_identity", "run_pod"]

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_STOP_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Identity:
    """Whom a process runs as.

    Attributes:
        user, group: Numeric ids; None keeps this process's.
    """

    user: int | None = None
    group: int | None = None


@dataclass(frozen=True)
class Pod:
    """A container to run.

    Attributes:
        argv: Command and arguments.
        env: Its environment variables, secrets among them.
        mounts: Path in the container -> folder of this machine.
        identity: Whom it runs as.
        deadline_s: Seconds after which it is stopped; None: never.
        log: File for its output.
        started: Told the process id.
        stopped: Set to end it early.
    """

    argv: list[str]
    env: Mapping[str, str]
    mounts: Mapping[str, Path]
    identity: Identity
    deadline_s: float | None
    log: Path
    started: Callable[[int], None] = field(default=lambda pid: None)
    stopped: threading.Event = field(default_factory=threading.Event)


def run_pod(pod: Pod) -> str:
    """Run a pod to its end.

    Returns:
        "" where it exited with 0, else how it ended: "exit code 3", "SIGKILL", "timed out", "stopped".
    """
    with _own_folder(pod.identity) as folder, open(pod.log, "ab") as log:
        try:
            process = subprocess.Popen(
                [_mounted(text, pod.mounts) for text in pod.argv],
                cwd=folder / "work",
                env=_environment(pod, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=pod.identity.user,
                group=pod.identity.group,
                extra_groups=None if pod.identity.user is None else [],
                umask=0o022,
            )
        except OSError as error:
            log.write(f"the container cannot start: {error}\n".encode())
            return f"cannot start ({error.strerror})"
        pod.started(process.pid)
        try:
            return _followed(process, pod)
        finally:
            _end_group(process)


def _followed(process: "subprocess.Popen[bytes]", pod: Pod) -> str:
    """Wait for the process, its deadline, or the end of the simulation."""
    begin = time.monotonic()
    while True:
        try:
            return _how(process.wait(_POLL_S))
        except subprocess.TimeoutExpired:
            if pod.stopped.is_set():
                return "stopped"
            if pod.deadline_s is not None and time.monotonic() - begin > pod.deadline_s:
                return "timed out"


def find_identity(security: Mapping[str, Any], volume: Path) -> tuple[Identity, str]:
    """Return whom the containers run as, and why it is not whom the pipeline says, if it is not.

    Only root can become another user, and that user must reach this installation and the volume.
    """
    user, group = int(security.get("runAsUser", 0)), int(security.get("runAsGroup", 0))
    if os.geteuid() != 0 or not user:
        return Identity(), "" if not user or user == os.geteuid() else "only root can become another user"
    identity = Identity(user, group or user)
    _give(volume, identity)
    probe = (
        f"import os, headrace.pipeline.graph; assert os.access({str(volume)!r}, os.R_OK | os.W_OK | os.X_OK)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        user=user,
        group=identity.group,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        env={"PATH": _SYSTEM_PATH},
    )
    if done.returncode:
        return Identity(), f"user {user} does not reach {sys.prefix} or {volume}"
    return identity, ""


def _give(folder: Path, identity: Identity) -> None:
    """Hand a volume to the user of the containers, as `fsGroup` does."""
    assert identity.user is not None
    assert identity.group is not None
    for parent, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(parent, name), identity.user, identity.group, follow_symlinks=False)


@contextlib.contextmanager
def _own_folder(identity: Identity) -> Iterator[Path]:
    """Give an empty working folder, a home and a place for temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-pod-"))
    try:
        for name in ("work", "home", "tmp"):
            (folder / name).mkdir()
        if identity.user is not None:
            _give(folder, identity)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(pod: Pod, folder: Path) -> dict[str, str]:
    """Return the variables of the image and of the container; none of this process's."""
    image = {
        # Where the image has its Python.
        "PATH": f"{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
    }
    return {**image, **{name: _mounted(value, pod.mounts) for name, value in pod.env.items()}}


def _mounted(text: str, mounts: Mapping[str, Path]) -> str:
    """Replace paths of a mount by the folder that stands for it."""
    for mount, folder in mounts.items():
        parts = re.split(rf"(?<![\w./-]){re.escape(mount)}(?![\w.-])", text)
        text = str(folder).join(parts)
    return text


def _how(code: int) -> str:
    if code == 0:
        return ""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing behind of a container, as the end of its PID namespace does."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
