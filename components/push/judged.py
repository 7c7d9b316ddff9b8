"""What evaluation and infra judged: only files with these sums are published."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from headrace.components.node import NodeContext
from headrace.components.sums import JUDGED, MADE_AGAIN
from headrace.data.errors import EnvironmentProblem
from headrace.data.sums import FileEntry, differences, told

from .repository import Source, unjudged

__all__ = ["Judged"]


class Judged:
    """Files of the artifacts that a push is given, with the sums under which they were judged.

    Args:
        ctx: The push node; its inputs `evaluation` and `infra` tell what they judged, and infra what it made.

    Raises:
        EnvironmentProblem: If one does not tell, or they judged different files.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        by = {name: _read(Path(ctx.input(name), f"{name}.json")) for name in ("evaluation", "infra")}
        self._files = {name: _agreed(name, by) for name in JUDGED}
        self._files["infra"] = _entries(by["infra"].get("requests", ()))

    def folder(self, name: str, part: str) -> dict[str, Source]:
        """Return the files of a folder, by their paths in it.

        Args:
            name: Input.
            part: The folder, relative to the artifact.

        Raises:
            EnvironmentProblem: If the folder holds anything else.
        """
        root = Path(self._ctx.input(name), part)
        listed = {
            path.relative_to(part).as_posix(): entry
            for entry in self._files[name].values()
            if (path := PurePosixPath(entry.path)).is_relative_to(part)
        }
        wrong = differences(root, [FileEntry(path, e.size, e.sha256) for path, e in listed.items()])
        if wrong:
            raise unjudged(told(wrong), root)
        return {path: Source(root / path, entry.sha256) for path, entry in listed.items()}

    def file(self, name: str, path: str) -> Source:
        """Return one file of an input.

        Raises:
            EnvironmentProblem: If it was not judged.
        """
        place, entry = Path(self._ctx.input(name), path), self._files[name].get(path)
        if entry is None:
            raise unjudged(f"no {path}", place.parent)
        return Source(place, entry.sha256)

    def has(self, name: str, path: str) -> bool:
        """Whether a file was judged."""
        return path in self._files[name]

    def json(self, name: str, path: str) -> Any:
        """Return the content of a JSON file of an input, read once and compared with its sum.

        Raises:
            EnvironmentProblem: If it is not what was judged.
        """
        source = self.file(name, path)
        try:
            content = source.path.read_bytes()
        except OSError as error:
            raise unjudged(f"{path} cannot be read: {error.strerror}", source.path.parent) from error
        if hashlib.sha256(content).hexdigest() != source.sha256:
            raise unjudged(f"{path} is altered", source.path.parent)
        return json.loads(content)


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "judged" not in found:
        raise EnvironmentProblem(
            f"a push must know which files were judged. Received: nothing about it in {path}", MADE_AGAIN
        )
    return found


def _entries(found: Any) -> dict[str, FileEntry]:
    return {entry["path"]: FileEntry(**entry) for entry in found}


def _agreed(name: str, by: Mapping[str, Mapping[str, Any]]) -> dict[str, FileEntry]:
    """Return the files of an input that evaluation and infra judged alike."""
    one, two = (_entries(document["judged"].get(name, ())) for document in by.values())
    differ = sorted(path for path in one.keys() | two.keys() if one.get(path) != two.get(path))
    if differ:
        raise EnvironmentProblem(
            f"evaluation and infra must have judged the same files. Received: {', '.join(differ[:5])} differ "
            f"({name})",
            MADE_AGAIN,
        )
    return one
