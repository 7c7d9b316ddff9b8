"""Writing rendered files: all or none, and never over somebody's edits."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.data.errors import ConfigError, EnvironmentProblem

__all__ = ["LEDGER", "Written", "write_files"]

LEDGER = ".rendered"
"""File that remembers what was written, to tell edits from older renderings.

JSON, but not by its name: kubectl applies every .json and .yaml in a folder, hidden or not.
"""


@dataclass(frozen=True)
class Written:
    """What a rendering did.

    Attributes:
        written: Paths of new and changed files.
        unchanged: Paths of files that were right already.
        removed: Paths of files that an earlier rendering wrote, and this one does not.
    """

    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    removed: tuple[Path, ...]


def write_files(folder: Path, texts: Mapping[str, str], *, force: bool = False) -> Written:
    """Write `texts` below `folder`, and remove what an earlier rendering left over: all of it or nothing.

    Args:
        folder: Where to; made if needed.
        texts: Relative path -> text.
        force: Overwrite and remove files that were edited or written by others.

    Raises:
        ConfigError: If a file was edited, or something else is in its place.
        EnvironmentProblem: If writing fails; everything is as before then.
    """
    held = _read_ledger(folder)
    stale = [name for name in held if name not in texts and (folder / name).is_file()]
    old = {name: _content(folder / name) for name in (*texts, *stale)}
    if not force:
        _refuse_edited(folder, texts, old, held)
    changed = {name: text for name, text in texts.items() if old[name] != text.encode()}
    ledger = {name: _digest(text.encode()) for name, text in texts.items()}
    if changed or stale or ledger != held:
        _replace(folder, changed, stale, old, ledger)
    return Written(
        tuple(folder / name for name in changed),
        tuple(folder / name for name in texts if name not in changed),
        tuple(folder / name for name in stale),
    )


def _refuse_edited(
    folder: Path, texts: Mapping[str, str], old: Mapping[str, bytes | None], held: Mapping[str, str]
) -> None:
    edited = [
        str(folder / name)
        for name, content in old.items()
        if content is not None
        and _digest(content) != held.get(name)
        and (name not in texts or content != texts[name].encode())
    ]
    if edited:
        raise ConfigError(
            f"a rendered file must not have been edited. Received: changes in {', '.join(edited)}",
            "move the change into the `deploy` section or into another file, or give --force to lose it",
        )


def _replace(
    folder: Path,
    changed: Mapping[str, str],
    stale: list[str],
    old: Mapping[str, bytes | None],
    ledger: Mapping[str, str],
) -> None:
    """Put everything beside its place first, since that is what can fail; then rename."""
    made: list[Path] = []
    done: list[str] = []
    contents = {name: text.encode() for name, text in changed.items()}
    contents[LEDGER] = (json.dumps(ledger, indent=1, sort_keys=True) + "\n").encode()
    old = {**old, LEDGER: _content(folder / LEDGER)}
    with _as_environment_problem(folder):
        staged: dict[str, Path] = {}
        try:
            for name, content in contents.items():
                made += _make_folders((folder / name).parent)
                staged[name] = _stage(folder / name, content)
            for name, path in staged.items():
                os.replace(path, folder / name)
                done.append(name)
            for name in stale:
                (folder / name).unlink()
                done.append(name)
        except BaseException:
            for path in staged.values():
                path.unlink(missing_ok=True)
            _restore(folder, {name: old.get(name) for name in done}, made)
            raise


def _restore(folder: Path, old: Mapping[str, bytes | None], made: list[Path]) -> None:
    for name, content in old.items():
        with contextlib.suppress(OSError):
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(content)
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that are new, parents first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _stage(target: Path, content: bytes) -> Path:
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".rendering-")
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
        path.chmod(0o644)  # containers read them as another user
    except BaseException:
        path.unlink()
        raise
    return path


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"a rendered file must be a file. Received: {error}") from error
    except OSError as error:
        raise EnvironmentProblem(f"the folder must be readable. Received: {error}") from error


def _read_ledger(folder: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 of what was written; nothing where that is not known."""
    content = _content(folder / LEDGER)
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: str(digest) for name, digest in found.items() if _is_inside(folder, name)}


def _is_inside(folder: Path, name: str) -> bool:
    root = os.path.abspath(folder)
    return os.path.abspath(os.path.join(root, name)).startswith(root + os.sep)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _as_environment_problem(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"the files must be writable; nothing was changed. Received: {error} ({folder})"
        ) from error
