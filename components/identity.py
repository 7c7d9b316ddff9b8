"""What makes two runs the same: content of data, config, code, locked packages and seed."""

import ast
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["content_id", "packages_hash", "source_modules", "sources_hash"]

_DISTRIBUTION = "headrace"


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
def source_modules(module: str) -> tuple[str, ...]:
    """Return `module` and every headrace module that it imports, directly or not, sorted.

    Imports are read from the source text, those inside functions too, so that the answer depends on
    code alone and nothing heavy is loaded. A list kept by hand would go stale without a sign.

    Raises:
        ModuleNotFoundError: If there is no such module.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name))
    return tuple(sorted(found))


def sources_hash(modules: Iterable[str]) -> str:
    """Return the hash of the source text of `modules` and of all headrace modules that they import."""
    digest = hashlib.sha256()
    for name in sorted({found for module in modules for found in source_modules(module)}):
        digest.update(name.encode() + b"\0" + _text(name) + b"\0")
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


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    """Return the source file of a headrace module, or None if there is no such module."""
    parts = module.split(".")
    if parts[0] != _DISTRIBUTION or len(parts) < 2:
        return None
    room = importlib.util.find_spec(".".join(parts[:2]))
    if room is None or room.origin is None:
        return None
    path = Path(room.origin).parent.joinpath(*parts[2:])
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)


@lru_cache(maxsize=1024)
def _text(module: str) -> bytes:
    file = _file(module)
    if file is None:
        raise ModuleNotFoundError(f"module must be one of headrace's. Received: {module}")
    return file.read_bytes()


@lru_cache(maxsize=1024)
def _imports(module: str) -> tuple[str, ...]:
    file = _file(module)
    package = module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(name for name in _names(ast.parse(_text(module)), package) if _file(name) is not None)


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    """Return the absolute names that import statements mention; some may be no modules."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) - statement.level + 1]) if statement.level else ""
            base = ".".join(part for part in (base, statement.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)
