"""Folders of a push target."""

from pathlib import Path

from headrace.data.errors import ConfigError

from ..manifest import has_manifest

__all__ = ["version_folder"]


def version_folder(path: str | Path, file: str) -> Path:
    """Return the version at `path`: the folder itself, or its highest version.

    A version whose file was lost is one still, by its manifest: an older one must not answer in its place.

    Args:
        path: A version, or the folder of a model's versions.
        file: What makes a folder a version, such as "model.tflite".

    Raises:
        ConfigError: If there is none.
    """
    folder = Path(path)
    if _is_version(folder, file):
        return folder
    versions = [child for child in folder.glob("*") if child.name.isdecimal() and _is_version(child, file)]
    if not versions:
        raise ConfigError(f"a bundle must be a folder with {file}, or hold versions of one. Received: {path}")
    return max(versions, key=lambda child: int(child.name))


def _is_version(folder: Path, file: str) -> bool:
    return (folder / file).is_file() or has_manifest(folder)
