"""What makes two runs the same: content of data, config, code, locked packages and seed."""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["content_id", "packages_hash", "sources_hash"]


def content_id(identity: str, data_sha256: str) -> str:
    """Return the content identity of a run.

    Args:
        identity: Hash of config, code, packages and seed, known at submission.
        data_sha256: Hash of the data's content, known after ingest.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(f"{identity}\n{data_sha256}".encode()).hexdigest()


@lru_cache(maxsize=256)
def sources_hash(module: str) -> str:
    """Return the hash of the source text of a module, or of all modules of a package."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return "TEMP"
    if spec is None:
        return "TEMP"
        raise ModuleNotFoundError(f"module must be importable. Received: {module}")
    digest = hashlib.sha256()
    if spec.submodule_search_locations:
        roots = [Path(location) for location in spec.submodule_search_locations]
        files = sorted((f.relative_to(root).as_posix(), f) for root in roots for f in root.rglob("*.py"))
    else:
        files = [(module, Path(str(spec.origin)))]
    for name, file in files:
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def packages_hash(names: Iterable[str]) -> str:
    """Return the hash of the installed versions of distributions; one that is absent counts as absent."""
    lines = []
    for name in sorted(set(names)):
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} absent")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
