"""Whether a version folder is whole, and whether it stayed the same while it was read."""

import hashlib
import json
import os
from pathlib import Path

from .errors import Code, ServingError

__all__ = ["Fingerprint", "check_manifest", "fingerprint"]

MANIFEST = "manifest.json"

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and change time (ns) of every file of a folder, and of the folder itself."""

_CHUNK_BYTES = 1 << 20


def fingerprint(folder: str) -> Fingerprint:
    """Return what tells one state of `folder` from another, without reading the files.

    A folder that is replaced while it is loaded gives a model mixed from both: compare before and after.
    """
    found = [_entry(folder, ".")]
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            found.append(_entry(path, os.path.relpath(path, folder)))
    return tuple(found)


def check_manifest(folder: str) -> bool:
    """Compare the files of `folder` with its manifest.

    Returns:
        Whether there is a manifest.

    Raises:
        ServingError: DATA_LOSS, if the manifest cannot be read or a file is not what it says.
    """
    path = Path(folder, MANIFEST)
    if not path.is_file():
        return False
    try:
        entries = [
            (str(entry["path"]), int(entry["size"]), str(entry["sha256"]))
            for entry in json.loads(path.read_text(encoding="utf-8"))["files"]
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ServingError(
            Code.DATA_LOSS, f"a manifest must list files with size and sha256. Received: {path} ({error})"
        ) from error
    wrong = [name for name, size, digest in entries if not _matches(Path(folder, name), size, digest)]
    if wrong:
        raise ServingError(
            Code.DATA_LOSS,
            "every file must have the size and sum of the manifest. "
            f"Received: {', '.join(wrong[:5])} ({folder})",
        )
    return True


def _entry(path: str, name: str) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:  # gone while we looked
        return name, -1, -1, -1
    return name, found.st_ino, found.st_size, found.st_mtime_ns


def _matches(path: Path, size: int, digest: str) -> bool:
    try:
        if path.stat().st_size != size:
            return False
        found = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                found.update(chunk)
    except OSError:
        return False
    return found.hexdigest() == digest
