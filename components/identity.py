"""What makes two runs the same: content of data, config, code, locked packages and seed."""

import ast
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["code_of", "content_id", "imported_names", "packages_hash", "source_modules", "sources_hash"]

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
            waiting.extend(_read(name)[1])
    return tuple(sorted(found))


def sources_hash(modules: Iterable[str]) -> str:
    """Return the hash of the code of `modules` and of all headrace modules that they import."""
    digest = hashlib.sha256()
    for name in sorted({found for module in modules for found in source_modules(module)}):
        digest.update(name.encode() + b"\0" + _read(name)[0] + b"\0")
    return digest.hexdigest()


def code_of(tree: ast.Module) -> bytes:
    """Return what `tree` does, as text: positions, comments and docstrings make no difference.

    The docstrings are gone from `tree` afterwards.

    >>> said = "def f():\\n  'One.'\\n  return 1  # one"
    >>> code_of(ast.parse(said)) == code_of(ast.parse("def f(): return 1"))
    True
    """
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                block[:] = [statement for statement in block if not _is_text(statement)]
    return ast.dump(tree).encode()


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is a text alone: a docstring of a module, class, function or variable."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


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
def _read(module: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the code of a headrace module, and the headrace modules that it imports."""
    file = _file(module)
    if file is None:
        raise ModuleNotFoundError(f"module must be one of headrace's. Received: {module}")
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(file.read_bytes())
    names = tuple(name for name in imported_names(tree, package) if _file(name) is not None)
    return code_of(tree), names


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Return the absolute names that import statements mention; some may be no modules.

    Args:
        tree: A module's syntax tree.
        package: Name of the package that relative imports start from.
    """
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) - statement.level + 1]) if statement.level else ""
            base = ".".join(part for part in (base, statement.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)
