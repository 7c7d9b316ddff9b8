"""The baseline: the version that is live in the push folder, as its own manifest tells, not the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.data.errors import EnvironmentProblem
from headrace.data.sums import FileEntry

from .manifest import Manifest, Side, probe, read_manifest
from .repository import Repository

__all__ = ["Candidate", "Live", "damaged", "find_baseline"]


@dataclass(frozen=True)
class Candidate:
    """A variant that would be pushed to one side.

    Attributes:
        variant: Its name.
        model_sha256: Digest of what it computes; None where it is not known.
        files: Its model's files, by their paths in a version folder.
    """

    variant: str
    model_sha256: str | None
    files: Sequence[FileEntry]


@dataclass(frozen=True)
class Live:
    """What is live beside a candidate.

    Attributes:
        version: Version whose content the baseline is; 0 where there is none.
        side: Side that it is taken from.
        variant: What lies there.
        content_sha256: As in its manifest.
        reason: Why there is no baseline; "" where there is one.
    """

    version: int = 0
    side: Side = "serving"
    variant: str = ""
    content_sha256: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object of baseline.json."""
        return dict(vars(self))


def find_baseline(push_dir: Path, model: str, candidate: Mapping[Side, Candidate]) -> Live:
    """Return the newest version that holds another model than the candidate; nothing is written.

    Args:
        push_dir: Root of the push target.
        model: Model name.
        candidate: Side -> what would be pushed to it.
    """
    repository = Repository(push_dir, model)
    for version in repository.visible():
        sides: list[Side] = [s for s in ("serving", "lite") if repository.path(s, version).is_dir()]
        manifests = {side: read_manifest(repository.path(side, version)) for side in sides}
        if manifests.keys() == candidate.keys() and all(
            _holds(manifest, candidate[side]) for side, manifest in manifests.items()
        ):
            continue
        folder = repository.path(sides[0], version)
        try:
            found = probe(folder)
        except EnvironmentProblem as error:
            return damaged(version, error.message, folder)
        return Live(version, sides[0], found.variant, found.content_sha256)
    return Live(reason="nothing else was pushed yet")


def damaged(version: int, why: str, folder: Path) -> Live:
    """Return that the live version is no baseline and why; places are nothing to tell, nor to hold in a key."""
    text = why.removesuffix(f" ({folder})").replace(str(folder), "its folder").removesuffix(".")
    return Live(reason=f"version {version}, which is live, cannot be one: {text}")


def _holds(manifest: Manifest | None, candidate: Candidate) -> bool:
    """Whether a version holds the candidate's model; what lies beside the model makes no difference."""
    if manifest is None or manifest.variant != candidate.variant:
        return False
    if manifest.model_sha256 is not None and candidate.model_sha256 is not None:
        return manifest.model_sha256 == candidate.model_sha256
    listed = {entry.path: entry.sha256 for entry in manifest.files}
    return all(listed.get(entry.path) == entry.sha256 for entry in candidate.files)
