"""manifest.json of a version folder, as those who read a model check it: server, clients and push alike."""

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.data.sums import FileEntry, differences, told

__all__ = ["CHECKS", "MANIFEST", "CheckSums", "check_content", "check_folder", "has_manifest"]

MANIFEST = "manifest.json"

CheckSums = Literal["require", "present", "off"]
"""`present`: where there is a manifest, it must hold; `require`: there must be one; `off`: none is read."""

CHECKS: tuple[CheckSums, ...] = get_args(CheckSums)

_HINT = "copy the version again, or publish it again"


def has_manifest(folder: str | Path) -> bool:
    """Whether a folder holds a manifest, be it readable or not."""
    return os.path.lexists(os.path.join(folder, MANIFEST))


def check_folder(folder: str | Path, mode: CheckSums = "present") -> bool:
    """Compare every file of a version folder with its manifest.

    Args:
        folder: The folder of one version.
        mode: What is asked of it.

    Returns:
        Whether there is a manifest that was compared.

    Raises:
        EnvironmentProblem: If the manifest is wanted and not there or cannot be read, or a file is missing,
            unreadable, altered or not listed.
        ConfigError: If there is no such mode.
    """
    entries = _wanted(folder, mode)
    if entries is None:
        return False
    if wrong := differences(folder, entries, leave_out={MANIFEST}):
        raise EnvironmentProblem(
            f"every file must have the size and sum of the manifest. Received: {told(wrong)} ({folder})",
            _HINT,
        )
    return True


def check_content(folder: str | Path, name: str, content: bytes, mode: CheckSums = "present") -> None:
    """Compare one file of a version folder, already read, with the manifest.

    Args:
        folder: The folder of the version.
        name: POSIX path of the file in it.
        content: What was read.
        mode: What is asked of it.

    Raises:
        EnvironmentProblem: If the manifest is wanted and not there or cannot be read, or the file is altered
            or not listed.
        ConfigError: If there is no such mode.
    """
    entries = _wanted(folder, mode)
    if entries is None:
        return
    listed = {entry.path: entry.sha256 for entry in entries}
    if listed.get(name) != hashlib.sha256(content).hexdigest():
        how = "is altered" if name in listed else "is not listed"
        raise EnvironmentProblem(
            f"every file must have the size and sum of the manifest. Received: {name} {how} ({folder})", _HINT
        )


def _wanted(folder: str | Path, mode: CheckSums) -> list[FileEntry] | None:
    """Return the files that the manifest lists; None where nothing is to be compared."""
    if mode not in CHECKS:
        raise ConfigError(f"`check_sums` must be one of {', '.join(CHECKS)}. Received: {mode}")
    if mode == "off":
        return None
    if not has_manifest(folder):
        if mode == "require":
            raise EnvironmentProblem(f"a version must have a {MANIFEST}. Received: none in {folder}")
        return None
    path = Path(folder, MANIFEST)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))["files"]
        entries = [FileEntry(str(one["path"]), int(one["size"]), str(one["sha256"])) for one in fields]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EnvironmentProblem(
            f"a manifest must list files with size and sha256. Received: {path} ({error})", _HINT
        ) from error
    outside = [entry.path for entry in entries if not _within(entry.path)]
    if outside:
        raise EnvironmentProblem(
            f"a manifest must list files of its folder. Received: {outside[0]} ({path})", _HINT
        )
    return entries


def _within(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
