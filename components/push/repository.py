"""The two-sided model repository on disk: version numbers, the lock, and durable copies.

    PUSH/serving/<model>/<version>/    read by TF Serving, which takes folders with a number for a name
    PUSH/lite/<model>/<version>/       fetched by devices
    PUSH/.<model>.lock                 held while something is published; remembers the last number

Everything unfinished has a name that starts with a dot, which no server reads.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.components.sums import MADE_AGAIN
from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.data.sums import FileEntry

from .manifest import Side, read_manifest

__all__ = [
    "SIDES",
    "Repository",
    "Source",
    "as_environment_problem",
    "copy_durably",
    "fsync_folder",
    "unjudged",
]

SIDES: tuple[Side, ...] = ("lite", "serving")
"""In the order of publication: what TF Serving picks up by itself comes last."""

_STAGING = ".staging-"
_POLL_S = 0.05
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file to copy.

    Attributes:
        path: Where it lies.
        sha256: Sum that its content must have: the one under which it was judged, or published before.
    """

    path: Path
    sha256: str


@dataclass(frozen=True)
class Repository:
    """One model at one push target.

    Attributes:
        root: The push folder.
        model: Model name, one path component.
    """

    root: Path
    model: str

    def __post_init__(self) -> None:
        if not self.model or self.model.startswith(".") or "/" in self.model or "\\" in self.model:
            raise ConfigError(
                "a model name must be one folder name without a leading dot. "
                f"Received: {self.model!r} (push.model_name)"
            )

    def side(self, side: Side) -> Path:
        """Return the folder that holds the versions of one side."""
        return self.root / side / self.model

    def path(self, side: Side, version: int) -> Path:
        """Return the folder of one version."""
        return self.side(side) / str(version)

    def staging(self, side: Side, version: int) -> Path:
        """Return the hidden sibling in which a version is put together."""
        return self.side(side) / f"{_STAGING}{version}"

    def versions(self, side: Side) -> list[int]:
        """Return the published version numbers of one side, ascending."""
        try:
            entries = list(self.side(side).iterdir())
        except FileNotFoundError:
            return []
        return sorted(int(entry.name) for entry in entries if _is_version(entry))

    def newest(self) -> int:
        """Return the highest version of either side, or 0."""
        return max((v for side in SIDES for v in self.versions(side)), default=0)

    def visible(self) -> list[int]:
        """Return the versions of either side, newest first, without what a killed push left."""
        found = {version for side in SIDES for version in self.versions(side)} - {self._orphan()}
        return sorted(found, reverse=True)

    @contextlib.contextmanager
    def lock(self, timeout_s: float) -> Iterator["Ledger"]:
        """Hold the model's lock.

        Args:
            timeout_s: Longest wait for another publisher, seconds, >= 0.

        Raises:
            EnvironmentProblem: If another process still holds it by then, or the folder is not writable.
        """
        path = self.root / f".{self.model}.lock"
        with as_environment_problem(f"push folder {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + timeout_s
            while not _try_lock(descriptor, path):
                if time.monotonic() >= deadline:
                    raise EnvironmentProblem(
                        f"one push at a time may publish a model. Received: {path} was still held by "
                        f"another process after {timeout_s:g} s",
                        "Wait for the other push to end, then run again.",
                    )
                time.sleep(_POLL_S)
            yield Ledger(descriptor)
        finally:
            os.close(descriptor)

    def clean(self) -> list[str]:
        """Remove what a killed push left: hidden folders, and a lite version without its serving twin.

        Only under the lock, where nobody else is writing.

        Returns:
            The names removed.
        """
        removed = []
        for side in SIDES:
            with contextlib.suppress(FileNotFoundError):
                for entry in self.side(side).iterdir():
                    if entry.name.startswith(_STAGING):
                        shutil.rmtree(entry)
                        removed.append(f"{side}/{entry.name}")
        orphan = self._orphan()
        if orphan is not None:
            self.withdraw("lite", orphan)
            removed.append(f"lite/{orphan}")
        return removed

    def withdraw(self, side: Side, version: int) -> None:
        """Take a published version away: hidden at once, then removed."""
        hidden = self.staging(side, version)
        os.rename(self.path(side, version), hidden)
        shutil.rmtree(hidden)

    def _orphan(self) -> int | None:
        """Return the newest lite version if it waits for a serving version that never came.

        Older lite versions whose serving twin is gone are somebody's retention, not a crash.
        """
        lite = self.versions("lite")
        if not lite or lite[-1] <= max(self.versions("serving"), default=0):
            return None
        manifest = read_manifest(self.path("lite", lite[-1]))
        if manifest is not None and manifest.targets.get("serving") is None:
            return None
        return lite[-1]


@dataclass(frozen=True)
class Ledger:
    """The content of the held lock file: the highest version number ever given out.

    It keeps numbers from being used twice where the newest version was removed by hand.
    """

    descriptor: int

    def last_version(self) -> int:
        """Return the highest number given out, or 0."""
        text = os.pread(self.descriptor, 4096, 0)
        try:
            return int(json.loads(text)["last_version"])
        except (ValueError, KeyError, TypeError):
            return 0

    def record(self, version: int) -> None:
        """Remember `version` before anything carries it."""
        text = json.dumps({"last_version": version}).encode()
        os.pwrite(self.descriptor, text, 0)
        os.ftruncate(self.descriptor, len(text))
        os.fsync(self.descriptor)


def copy_durably(files: Mapping[str, Source | bytes], folder: Path) -> list[FileEntry]:
    """Write files into a new folder and have file and folder data on disk before returning.

    What is copied is what is summed: a source cannot change between the two.

    Args:
        files: Relative POSIX path -> a file to copy, or the content.
        folder: Created; must not exist.

    Returns:
        What was written, sorted by path.

    Raises:
        EnvironmentProblem: If a source cannot be read, or does not hold what it must.
    """
    folder.mkdir(parents=True)
    written = []
    for name in sorted(files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            digest = _written(files[name], stream)
            stream.flush()
            os.fsync(stream.fileno())
            written.append(FileEntry(name, stream.tell(), digest))
    for path in [entry for entry in folder.rglob("*") if entry.is_dir()]:
        fsync_folder(path)
    fsync_folder(folder)
    return written


def _written(source: Source | bytes, stream: BinaryIO) -> str:
    """Write a source and return the SHA-256 of what was written."""
    if isinstance(source, bytes):
        stream.write(source)
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    for chunk in _chunks(source.path):
        digest.update(chunk)
        stream.write(chunk)
    if digest.hexdigest() != source.sha256:
        raise unjudged(f"{source.path.name} is altered", source.path)
    return source.sha256


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise unjudged(f"{path.name} cannot be read: {error.strerror}", path) from error


def unjudged(what: str, place: Path) -> EnvironmentProblem:
    """Return the error that `what` at `place` is not what was judged."""
    return EnvironmentProblem(
        f"what is published must be what evaluation and infra judged. Received: {what} ({place})", MADE_AGAIN
    )


def fsync_folder(path: Path) -> None:
    """Have the entries of a folder on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def as_environment_problem(place: str) -> Iterator[None]:
    """Turn an OSError into the EnvironmentProblem that says what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            rule, hint = "publishing needs free disk space", "Free some space, then run again."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            rule, hint = "the push folder must be writable", "Change its permissions or `output.push`."
        else:
            rule, hint = "the push folder must take files", ""
        where = error.filename or place
        raise EnvironmentProblem(f"{rule}. Received: {error.strerror or error} ({where})", hint) from error


def _is_version(entry: Path) -> bool:
    return entry.name.isascii() and entry.name.isdigit() and entry.is_dir()


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise EnvironmentProblem(
            f"the push folder must support file locks. Received: {error.strerror} ({path})"
        ) from error
    return True
