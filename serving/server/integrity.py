"""Whether a version folder stayed the same while it was read."""

import os

__all__ = ["Fingerprint", "fingerprint"]

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and change time (ns) of every file of a folder, and of the folder itself."""


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


def _entry(path: str, name: str) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:  # gone while we looked
        return name, -1, -1, -1
    return name, found.st_ino, found.st_size, found.st_mtime_ns
