"""The manifest of a version folder: what is in it, where it came from, and whether it is whole."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from headrace.data.errors import EnvironmentProblem
from headrace.data.section import canonical_json
from headrace.data.sums import FileEntry
from headrace.serving.manifest import MANIFEST, check_folder

from .training_keys import NAME

__all__ = [
    "MANIFEST",
    "Manifest",
    "Side",
    "content_digest",
    "meaning",
    "probe",
    "read_manifest",
    "sums_digest",
]

Side = Literal["serving", "lite"]

_TOLD = ("labels.json", "preprocessing.json")
"""Files beside a model that change what a client makes of a row or an answer."""


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        model: Model name.
        version: Version number, >= 1, the same on both sides.
        side: TF Serving repository or TF Lite bundle.
        variant: Variant published in this folder.
        targets: Side -> variant of the whole push, null where it has no such side.
        run_id: Run that made the model.
        content_id: Identity of data, config, code, locked packages and seed.
        content_sha256: Digest over the paths and sums of `files`.
        gates: The gates that let it through.
        files: Every file but the manifest itself, sorted by path.
        rolled_back_from: For a rollback: the newest version before it, which it replaces.
        restores: For a rollback: the version whose content this is.
        model_sha256: Digest of what the model computes, as variants.json says; null in versions of 0.1.
    """

    model: str
    version: int
    side: Side
    variant: str
    targets: Mapping[str, str | None]
    run_id: str
    content_id: str | None
    content_sha256: str
    gates: Sequence[Mapping[str, Any]]
    files: Sequence[FileEntry]
    rolled_back_from: int | None = None
    restores: int | None = None
    model_sha256: str | None = None
    schema_version: int = field(default=1)

    @property
    def meaning(self) -> tuple[str, ...]:
        """What is the same for versions that answer alike."""
        return meaning(self.variant, self.model_sha256, [(entry.path, entry.sha256) for entry in self.files])

    def to_text(self) -> str:
        """Return the JSON text of the manifest."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def content_digest(entries: Iterable[FileEntry]) -> str:
    """Return one SHA-256 over paths and sums, equal for equal content whatever the order."""
    return sums_digest((entry.path, entry.sha256) for entry in entries)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a version folder, or None where there is none that can be read."""
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(**{**fields, "files": [FileEntry(**entry) for entry in fields["files"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def probe(folder: Path) -> Manifest:
    """Re-read a version folder and compare it with its manifest.

    Returns:
        The manifest.

    Raises:
        EnvironmentProblem: If a file is missing, unlisted or different, or the main file is not what
            its server expects.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise EnvironmentProblem(f"a version folder must hold a readable {MANIFEST}. Received: {folder}")
    check_folder(folder)
    found = {entry.path for entry in manifest.files}
    if manifest.side == "serving" and "saved_model.pb" not in found:
        raise EnvironmentProblem(f"a SavedModel must have saved_model.pb. Received: none ({folder})")
    if manifest.side == "lite" and _identifier(folder / "model.tflite") != b"TFL3":
        raise EnvironmentProblem(
            f"model.tflite must carry the file identifier TFL3. Received: another or no file ({folder})"
        )
    return manifest


def meaning(variant: str, model_sha256: str | None, sums: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what is the same for two contents of a version folder that answer alike.

    Args:
        variant: Name of the variant.
        model_sha256: Digest of what its model computes; None where it is not known, as in versions of 0.1: all
            content counts then.
        sums: (path, SHA-256) of its files.
    """
    if model_sha256 is None:
        return variant, sums_digest((path, sha) for path, sha in sums if PurePosixPath(path).name != NAME)
    return variant, model_sha256, *sorted(sha for path, sha in sums if PurePosixPath(path).name in _TOLD)


def sums_digest(sums: Iterable[tuple[str, str]]) -> str:
    """Return one SHA-256 over (path, SHA-256), whatever their order."""
    return hashlib.sha256(canonical_json(sorted(sums)).encode()).hexdigest()


def _identifier(path: Path) -> bytes:
    """Return the flatbuffer file identifier (bytes 4 to 8), or b"" without a file."""
    try:
        with path.open("rb") as stream:
            return stream.read(8)[4:]
    except FileNotFoundError:
        return b""
