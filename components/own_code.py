"""The user's own code: what a config names by import path, what that imports, and how it enters cache keys.

A module belongs to the user if its file lies in the config's `code` folder, or anywhere on the search path
that no installed distribution and no standard library owns. Its syntax tree counts, and those of all modules
of the user's that it imports. Of an installed package counts the version.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError

from .identity import code_of, imported_names, packages_hash, source_modules, sources_hash

__all__ = ["OwnCode", "import_paths", "own_code", "search_first"]

_PATH_VARIABLE = "PYTHONPATH"
_searched: list[str] = []
"""The folder that `search_first` put first in this process; empty before."""

_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
_SITE = {"site-packages", "dist-packages"}

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass
class OwnCode:
    """What import paths lead to.

    Attributes:
        files: Module -> its file, of all modules of the user's; packages by their `__init__`.
        packages: Installed distributions that are named or imported.
        ours: Modules of headrace that the user's code imports.
        absent: Named modules that are not there.
    """

    files: dict[str, Path] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    ours: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def digest(self) -> str:
        """Return the hash of all of it.

        Raises:
            ConfigError: If a module of the user's is not Python.
        """
        digest = hashlib.sha256()
        for name, file in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + code_of(_parsed(file)) + b"\0")
        digest.update(f"{sorted(self.absent)}\n{packages_hash(self.packages)}\n".encode())
        digest.update(sources_hash(self.ours).encode())
        return digest.hexdigest()


def import_paths(value: Any) -> Iterator[str]:
    """Yield every text of the form "module:name" in a plain config value.

    >>> list(import_paths({"loss": {"use": "losses:steep"}, "epochs": 3}))
    ['losses:steep']
    """
    if isinstance(value, str):
        if _IMPORT_PATH.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from import_paths(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from import_paths(item)


def own_code(paths: Iterable[str], folder: str) -> OwnCode:
    """Follow import paths through all modules of the user's.

    Args:
        paths: Texts "module:name".
        folder: Where modules are looked for first.

    Raises:
        ConfigError: If a module of the user's is not Python.
    """
    found = OwnCode()
    named = {path.partition(":")[0] for path in paths}
    waiting, seen = sorted(named), set[str]()
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        file = None if _is_ours(name) else _own_file(name, folder)
        if file is None:
            _note_other(name, found, named=name in named)
            continue
        found.files[name] = file
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        # Importing a.b.c runs a and a.b before.
        waiting += [*imported_names(_parsed(file), package), *_parents(name)]
    return found


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "headrace"


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _note_other(name: str, found: OwnCode, *, named: bool) -> None:
    """Note a name that is no module of the user's: headrace's, of a distribution, or nothing at all."""
    top = name.partition(".")[0]
    if _is_ours(name):
        try:
            source_modules(name)
        except ModuleNotFoundError:
            return  # a name inside a module, not a module
        found.ours.add(name)
    elif top in _distributions():
        found.packages.update(_distributions()[top])
    elif named and top not in sys.stdlib_module_names:
        found.absent.add(name)


def _own_file(name: str, folder: str) -> Path | None:
    """Return the source of module `name` if it is the user's."""
    top, *rest = name.split(".")
    for root in [Path(folder), *_places(top)]:
        path = root.joinpath(top, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return None if _is_installed(file) else file
    return None


def _places(top: str) -> list[Path]:
    """Return the folders in which the interpreter would find the top-level module `top`."""
    for finder in sys.meta_path:
        spec = finder.find_spec(top, None) if hasattr(finder, "find_spec") else None
        if spec is not None:
            here = [Path(spec.origin).parent] if spec.origin and not spec.submodule_search_locations else []
            return [*here, *(Path(place).parent for place in spec.submodule_search_locations or ())]
    return []


def _is_installed(file: Path) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    resolved = file.resolve()
    return not _SITE.isdisjoint(resolved.parts) or resolved.is_relative_to(_STDLIB)


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f"{file}, line {line}" if line else str(file)
        raise ConfigError(f"a module must be Python. Received: {error.args[0]} ({place})") from error


def search_first(folder: str, paths: Iterable[str]) -> None:
    """Let the user's modules be found in `folder` before anywhere else, by this process and those it starts.

    What was imported of them before is forgotten: it may have come from another folder, or have been edited.
    Where nothing is named, nothing is changed.

    Args:
        folder: The config's `code` folder.
        paths: Texts "module:name".
    """
    code = own_code(paths, folder)
    if not code.files:
        return
    for name in code.files:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    before = [part for part in os.environ.get(_PATH_VARIABLE, "").split(os.pathsep) if part]
    for path in (sys.path, before):
        path[:] = [folder, *(part for part in path if part not in (*_searched, folder))]
    os.environ[_PATH_VARIABLE] = os.pathsep.join(before)
    _searched[:] = [folder]
