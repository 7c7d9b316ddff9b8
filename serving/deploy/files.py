"""Writing rendered files: all or none, and never over somebody's edits."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.data.errors import ConfigError, EnvironmentProblem

__all__ = ["LEDGER", "Origin", "Written", "write_files"]

LEDGER = ".rendered"
"""File that remembers what was written, to tell edits from older renderings.

JSON, but not by its name: kubectl applies every .json and .yaml in a folder, hidden or not.
"""


@dataclass(frozen=True)
class Origin:
    """What files were rendered from.

    Attributes:
        config: The config file.
        model: Name of its model.
    """

    config: Path
    model: str

    def within(self, folder: Path) -> dict[str, str]:
        """Return it as a ledger in `folder` keeps it: the same wherever it is rendered from."""
        return {"config": Path(os.path.relpath(self.config, folder)).as_posix(), "model": self.model}


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


@dataclass(frozen=True)
class _Change:
    """What a folder needs.

    Attributes:
        folder: The folder.
        texts: All files: relative path -> text.
        stale: Files of an earlier rendering that are to go.
        old: Content of all these files now; None where there is no file.
        held: The ledger now.
        origin: What the files are rendered from, as the ledger will say.
    """

    folder: Path
    texts: Mapping[str, str]
    stale: Sequence[str]
    old: Mapping[str, bytes | None]
    held: "_Ledger"
    origin: Mapping[str, str]

    @property
    def changed(self) -> list[str]:
        """Files that are new or differ."""
        return [name for name, text in self.texts.items() if self.old[name] != text.encode()]

    @property
    def ledger(self) -> "_Ledger":
        """What the ledger will say."""
        return _Ledger({name: _digest(text.encode()) for name, text in self.texts.items()}, self.origin)

    @property
    def edited(self) -> list[str]:
        """Files that somebody changed, and that this would overwrite or remove."""
        touched = [*self.changed, *self.stale]
        return [
            str(self.folder / name)
            for name in touched
            if (content := self.old[name]) is not None and _digest(content) != self.held.files.get(name)
        ]

    @property
    def foreign(self) -> bool:
        """Whether the folder holds files of another config."""
        kept = any((self.folder / name).is_file() for name in self.held.files)
        return kept and bool(self.held.origin) and self.held.origin != self.origin


@dataclass(frozen=True)
class _Ledger:
    """What an earlier rendering wrote.

    Attributes:
        files: Relative path -> SHA-256.
        origin: What it was rendered from, as `Origin.within` says; empty where that is not known.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)


def write_files(
    folders: Mapping[Path, Mapping[str, str]], origin: Origin, *, force: bool = False
) -> dict[Path, Written]:
    """Write files, and remove what earlier renderings left over: all of it, in all folders, or nothing.

    Args:
        folders: Folder, made if needed -> relative path -> text.
        origin: What they are rendered from.
        force: Overwrite and remove files that were edited, written by others, or rendered from another
            config.

    Raises:
        ConfigError: If a file was edited, or something else is in its place, or the folder holds the files of
            another config.
        EnvironmentProblem: If writing fails; everything is as before then.
    """
    changes = [_change(folder, texts, origin) for folder, texts in folders.items()]
    if not force:
        for change in changes:
            _check_origin(change, origin)
    edited = [path for change in changes for path in change.edited]
    if edited and not force:
        raise ConfigError(
            f"a rendered file must not have been edited. Received: changes in {', '.join(edited)}",
            "move the change into the `deploy` section or into another file, or give --force to lose it",
        )
    _replace(changes)
    return {
        change.folder: Written(
            tuple(change.folder / name for name in change.changed),
            tuple(change.folder / name for name in change.texts if name not in change.changed),
            tuple(change.folder / name for name in change.stale),
        )
        for change in changes
    }


def _check_origin(change: _Change, origin: Origin) -> None:
    if not change.foreign:
        return
    theirs = change.held.origin
    config = os.path.relpath(change.folder / theirs.get("config", ""))
    own = origin.model if origin.model != theirs.get("model") else origin.config.stem
    raise ConfigError(
        f"a folder must hold the files of one config. Received: {origin.config} (model {origin.model}) for "
        f"{change.folder}, which holds those of {config} (model {theirs.get('model')})",
        f"-o {change.folder.parent / own} writes into another folder, --force replaces them",
    )


def _change(folder: Path, texts: Mapping[str, str], origin: Origin) -> _Change:
    held = _read_ledger(folder)
    stale = [name for name in held.files if name not in texts and (folder / name).is_file()]
    old = {name: _content(folder / name) for name in (*texts, *stale)}
    return _Change(folder, texts, stale, old, held, origin.within(folder))


def _replace(changes: Sequence[_Change]) -> None:
    """Put everything beside its place first, since that is what can fail; then rename."""
    contents: dict[Path, bytes] = {}
    old: dict[Path, bytes | None] = {}
    gone: list[Path] = []
    for change in changes:
        if not change.changed and not change.stale and change.ledger == change.held:
            continue
        contents |= {change.folder / name: change.texts[name].encode() for name in change.changed}
        ledger = change.folder / LEDGER
        contents[ledger] = (json.dumps(asdict(change.ledger), indent=1, sort_keys=True) + "\n").encode()
        old |= {change.folder / name: content for name, content in change.old.items()}
        old[ledger] = _content(ledger)
        gone += [change.folder / name for name in change.stale]
    made: list[Path] = []
    done: list[Path] = []
    staged: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            _make_folders(path.parent, made)
            staged[path] = _stage(path, content)
        for path, beside in staged.items():
            os.replace(beside, path)
            done.append(path)
        for path in gone:
            path.unlink()
            done.append(path)
    except BaseException as error:
        for beside in staged.values():
            beside.unlink(missing_ok=True)
        _restore({path: old[path] for path in done}, made)
        if isinstance(error, OSError):
            raise EnvironmentProblem(
                f"the files must be writable; nothing was changed. Received: {error}"
            ) from error
        raise


def _restore(old: Mapping[Path, bytes | None], made: Sequence[Path]) -> None:
    for path, content in old.items():
        with contextlib.suppress(OSError):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and its parents; add those that are new to `made`, parents first."""
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            path.mkdir()
            made.append(path)


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


def _read_ledger(folder: Path) -> _Ledger:
    """Return what was written by an earlier rendering, as far as that is known."""
    content = _content(folder / LEDGER)
    if content is None:
        return _Ledger()
    try:
        found = json.loads(content)
    except ValueError:
        return _Ledger()
    if not isinstance(found, dict):
        return _Ledger()
    files, origin = found.get("files", found), found.get("origin", {})  # the first ledgers held files alone
    if not isinstance(files, dict) or not isinstance(origin, dict):
        return _Ledger()
    return _Ledger(
        {name: str(digest) for name, digest in files.items() if _is_inside(folder, name)},
        {name: str(value) for name, value in origin.items()},
    )


def _is_inside(folder: Path, name: str) -> bool:
    root = os.path.abspath(folder)
    return os.path.abspath(os.path.join(root, name)).startswith(root + os.sep)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
