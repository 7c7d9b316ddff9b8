"""Sums of files: what a folder holds, and how it differs from what it held when that was recorded.

The one home of this: artifacts (`headrace.components.sums`), pushed versions and who reads them compare here.
"""

import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Difference", "FileEntry", "Stamp", "differences", "file_entries", "file_sha256", "stamps", "told"]

_SETTLED_NS = 50_000_000
_TOLD = 5

Stamp = tuple[int, int, int, int]
"""Size in bytes, modification and change time (ns) and inode: while they stay, so does the content."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a folder.

    Attributes:
        path: POSIX path relative to the folder.
        size: Bytes.
        sha256: Hex digest of the content.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Difference:
    """A file that is not what was recorded.

    Attributes:
        path: POSIX path relative to the folder.
        how: What is wrong with it.
    """

    path: str
    how: Literal["altered", "missing", "unreadable", "added"]

    def __str__(self) -> str:
        return f"{self.path} is {self.how}"


def file_entries(folder: str | Path, leave_out: Collection[str] = ()) -> list[FileEntry]:
    """List every regular file below `folder`, sorted by path; none where there is no folder.

    Args:
        folder: The folder.
        leave_out: Paths that are not listed.

    Raises:
        OSError: If a file cannot be read.
    """
    names = sorted(set(_files(folder)) - set(leave_out))
    return [_entry(os.path.join(folder, name), name) for name in names]


def differences(
    folder: str | Path,
    recorded: Iterable[FileEntry],
    known: Mapping[str, Stamp] | None = None,
    leave_out: Collection[str] = (),
) -> list[Difference]:
    """Return how `folder` differs from what was recorded, by path; nothing where it does not.

    Args:
        folder: The folder.
        recorded: Its files.
        known: Stamps under which files had their sums; such a file is not read.
        leave_out: Paths that are not compared.
    """
    listed = {entry.path: entry for entry in recorded}
    there = set(_files(folder, links=True))
    found = [Difference(name, "added") for name in there - listed.keys() - set(leave_out)]
    for name, entry in listed.items():
        how = _fault(os.path.join(folder, name), entry, (known or {}).get(name))
        if how is not None:
            found.append(Difference(name, how))
    return sorted(found, key=lambda item: item.path)


def stamps(folder: str | Path) -> dict[str, Stamp]:
    """Return the stamps of the files below `folder`.

    A file that was written this moment has none: it can change again without its times changing.
    """
    newest = time.time_ns() - _SETTLED_NS
    found = {name: _stamp(os.stat(os.path.join(folder, name))) for name in _files(folder)}
    return {name: stamp for name, stamp in found.items() if max(stamp[1:3]) < newest}


def told(found: Collection[Difference]) -> str:
    """Say what differs: the first few files by name, and how many more."""
    named = ", ".join(str(item) for item in list(found)[:_TOLD])
    return f"{named} and {len(found) - _TOLD} more" if len(found) > _TOLD else named


def file_sha256(path: str | Path) -> str:
    """Return the hex digest of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(path: str, name: str) -> FileEntry:
    return FileEntry(name, os.stat(path).st_size, file_sha256(path))


def _files(folder: str | Path, links: bool = False) -> Iterator[str]:
    """Yield POSIX paths of regular files, with `links` also of linked folders, which are not entered."""
    for base, folders, files in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(base, name))] if links else []
        for name in [*files, *linked]:
            path = os.path.join(base, name)
            if name in linked or os.path.isfile(path):
                yield Path(os.path.relpath(path, folder)).as_posix()


def _fault(
    path: str, entry: FileEntry, known: Stamp | None
) -> Literal["altered", "missing", "unreadable"] | None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "missing"
        if status.st_size != entry.size:
            return "altered"
        if known == _stamp(status) or file_sha256(path) == entry.sha256:
            return None
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "unreadable"
    return "altered"


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
