"""The identity of data: a hash of what the files hold, not of when they were written."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.data.errors import EnvironmentProblem
from headrace.data.readers.files import relative_names

__all__ = ["FileDigest", "combine_digests", "content_fingerprint", "digest_files"]

_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class FileDigest:
    """A file's name below the data folder, its size in bytes and the SHA-256 of its content."""

    path: str
    size_bytes: int
    sha256: str


def content_fingerprint(paths: Sequence[str], cache_path: str | None = None) -> str:
    """Hash the content of files and their relative names; equal content gives equal text.

    Args:
        paths: The files, in any order.
        cache_path: A JSON file that remembers digests by path, size, modification time (ns) and inode,
            so that unchanged files are not read again. Made where it does not exist.

    Returns:
        SHA-256 in hex: `sha256` of `ingest.json`.
    """
    return combine_digests(digest_files(paths, cache_path))


def digest_files(paths: Sequence[str], cache_path: str | None = None) -> list[FileDigest]:
    """Return the digest of each file, sorted by relative name.

    Raises:
        EnvironmentProblem: If a file cannot be read.
    """
    known = _load(cache_path)
    fresh = dict(known)
    found = []
    for path, name in zip(paths, relative_names(list(paths)), strict=True):
        absolute = os.path.abspath(path)
        try:
            stat = os.stat(absolute)
            state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            entry = known.get(absolute)
            if entry is not None and entry[:3] == state:
                digest = str(entry[3])
            else:
                with open(absolute, "rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                fresh.pop(absolute, None)
                # A file written this moment can change again without its time changing.
                if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
                    fresh[absolute] = [*state, digest]
        except OSError as error:
            raise EnvironmentProblem(
                f"the data must be readable. Received: {error.strerror} ({path})"
            ) from error
        found.append(FileDigest(name, stat.st_size, digest))
    if cache_path is not None and fresh != known:
        _save(cache_path, fresh)
    return sorted(found, key=lambda item: item.path)


def combine_digests(digests: Sequence[FileDigest]) -> str:
    """Return one SHA-256 over (relative path, SHA-256) of all files, sorted by path."""
    total = hashlib.sha256()
    for digest in sorted(digests, key=lambda item: item.path):
        total.update(f"{digest.path}\0{digest.sha256}\n".encode())
    return total.hexdigest()


def _load(cache_path: str | None) -> dict[str, list[int | str]]:
    if cache_path is None:
        return {}
    try:
        with open(cache_path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}  # only a cache: without it the files are read
    return content if isinstance(content, dict) else {}


def _save(cache_path: str, content: dict[str, list[int | str]]) -> None:
    partial = f"{cache_path}.{os.getpid()}.partial"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(cache_path)), exist_ok=True)
        with open(partial, "w", encoding="utf-8") as stream:
            json.dump(content, stream, sort_keys=True)
        os.replace(partial, cache_path)
    except OSError as error:
        raise EnvironmentProblem(
            f"the cache must be writable. Received: {error.strerror} ({cache_path})"
        ) from error
