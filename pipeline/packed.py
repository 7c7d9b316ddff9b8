"""A config as one argument of a process: packed, so that no platform reads into it; unpacked below a root.

A cluster's steps share no folder with the machine that compiled them. What a config file has beside it
travels with it: the schema that its data is held to, and modules of the user's own.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError, EnvironmentProblem

from .config import RunConfig, load_config, override_config, parse_config, place_config
from .store import prepare_folder
from .summary import write_atomically

__all__ = ["PREFIX", "PackedConfig", "load_any_config", "pack", "unpack"]

PREFIX = "gz:"
"""What a packed config starts with: gzip, then base64 of a URL's alphabet, without blanks and braces."""

_FILES = "config-files"


@dataclass(frozen=True)
class PackedConfig:
    """A config and what lay beside it.

    Attributes:
        stem: Name of the config file without its ending.
        raw: What the file says, overrides applied, paths as steps see them.
        files: Name -> content of files that `validation.schema_path` names.
        code: Path below the `code` folder -> content of modules that import paths lead to.
    """

    stem: str
    raw: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)


def pack(packed: PackedConfig) -> str:
    """Return a packed config; the same config gives the same text.

    >>> unpack(pack(PackedConfig("demo", {"seed": 1}))).raw
    {'seed': 1}
    """
    plain = {"stem": packed.stem, "config": packed.raw, "files": packed.files}
    if packed.code:
        plain["code"] = packed.code
    # Keys keep their order: that of the features is the order of the model's inputs.
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return PREFIX + base64.urlsafe_b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpack(text: str) -> PackedConfig:
    """Return what `pack` was given.

    Raises:
        ConfigError: If `text` is nothing of that kind.
    """
    try:
        body = base64.urlsafe_b64decode(text.strip().removeprefix(PREFIX).encode())
        plain = json.loads(gzip.decompress(body))
        return PackedConfig(plain["stem"], plain["config"], plain["files"], plain.get("code", {}))
    except (binascii.Error, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"a packed config must be what `headrace kubeflow compile` wrote. "
            f"Received: {text[:40]}… ({error})"
        ) from error


def load_any_config(
    source: str,
    overrides: Sequence[str] = (),
    *,
    texts: Sequence[str] = (),
    root: str | None = None,
    sha256: str | None = None,
) -> RunConfig:
    """Return the config that a file, a packed text or a URI holds.

    Args:
        source: Path of a YAML file, a packed config, or the URI of one; with `sha256` also the path of one
            below `root`.
        overrides: "dotted.path=value" texts, the value in YAML.
        texts: Likewise, the value taken as it is.
        root: Absolute folder where relative paths start; of a file only those of the output.
        sha256: Hash that the content of a URI or file must have.

    Raises:
        ConfigError: If it cannot be read or a value breaks a rule.
        EnvironmentProblem: If the URI or the root cannot be reached.
    """
    if "://" in source and not source.startswith(PREFIX):
        source = _fetch(source, sha256)
    elif sha256 is not None and not source.startswith(PREFIX):
        source = _read(Path(root or "", source), sha256)
    if not source.startswith(PREFIX):
        if texts:
            raise ConfigError(f"`--set-text` goes with a packed config. Received: {source}")
        return load_config(source, overrides, root)
    if root is None:
        raise ConfigError("a packed config needs `--root`, where its relative paths start. Received: none")
    packed = unpack(source)
    config = parse_config(override_config(packed.raw, overrides, texts), place=f"{packed.stem}.yaml")
    folder = Path(root).absolute()
    prepare_folder(str(folder), "--root")
    config = place_config(config, folder, packed.stem, folder)
    for name, content in packed.files.items():
        config = _with_schema(config, _placed(folder, name, content))
    if packed.code:
        config = config.model_copy(update={"code": str(_placed_code(folder, packed.code))})
    return config


def _placed(folder: Path, name: str, content: str) -> Path:
    """Write a file that travelled with the config, under a path that depends on its content alone."""
    # Steps of several runs may write it at once.
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    target = folder / _FILES / digest / Path(name).name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    return target


def _placed_code(folder: Path, code: Mapping[str, str]) -> Path:
    """Write modules that travelled with the config; return their folder, which holds nothing else."""
    text = json.dumps(code, sort_keys=True)
    root = folder / _FILES / hashlib.sha256(text.encode()).hexdigest()[:16]
    for name, content in code.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            write_atomically(target, content)
    return root


def _with_schema(config: RunConfig, path: Path) -> RunConfig:
    validation = config.validation.model_copy(update={"schema_path": str(path)})
    return config.model_copy(update={"validation": validation})


def _fetch(uri: str, sha256: str | None) -> str:
    import fsspec

    try:
        with fsspec.open(uri, "rb") as stream:
            body: bytes = stream.read()
    except (OSError, ImportError, ValueError) as error:
        raise EnvironmentProblem(f"the config must be readable. Received: {uri} ({error})") from error
    return _checked(body, sha256, uri)


def _read(path: Path, sha256: str) -> str:
    """Read a packed config from the volume."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "a config that is too large for arguments must be on the volume. "
            f"Received: {error.strerror} ({path})",
            "put the file there that `headrace kubeflow compile` wrote beside the pipeline",
        ) from error
    return _checked(body, sha256, str(path))


def _checked(body: bytes, sha256: str | None, place: str) -> str:
    found = hashlib.sha256(body).hexdigest()
    if sha256 is not None and found != sha256:
        raise ConfigError(f"the config at {place} must have SHA-256 {sha256}. Received: {found}")
    return body.decode("utf-8")
