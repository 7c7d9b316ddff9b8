"""The config as steps get it: paths below the root, its schema packed in, nothing of this machine."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.components.own_code import import_paths, own_code
from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.config import RunConfig, override_config, parse_config, read_config
from headrace.pipeline.packed import PackedConfig, pack

__all__ = ["LARGEST_CONFIG_BYTES", "Bundle", "Carried", "config_arguments", "make_bundle"]

LARGEST_CONFIG_BYTES = 12_000
"""Argo keeps a step's arguments about five times in the status of a run, which Kubernetes bounds to 1 MiB:
what is over some 30 kB no longer compresses away there, and a run dies midway. A step has more arguments."""

_ROOM_BYTES = 850_000
"""Of the largest file, what is left for the config, which stands in it once a step."""

_WILD = "*?[{"


@dataclass(frozen=True)
class Bundle:
    """A config for the cluster.

    Attributes:
        config: The config, as the file says, overrides applied; its paths are the file's.
        packed: What steps are given.
        links: Path below the root -> what must be there, of this machine: the folder of the data, weights.
    """

    config: RunConfig
    packed: PackedConfig
    links: dict[str, Path]

    @property
    def needed(self) -> dict[str, Path]:
        """Path below the root -> what of this machine must be there; data by file, not folder."""
        found = dict(self.links)
        if (folder := found.pop("data", None)) is not None:
            place = str(self.packed.raw["data"]["path"])
            found = {place: folder / place.partition("/")[2], **found}
        return found


def make_bundle(path: str | Path, overrides: tuple[str, ...] = ()) -> Bundle:
    """Read a config file and make it one of the cluster.

    Raises:
        ConfigError: If the config is wrong.
    """
    file = Path(path)
    config = parse_config(override_config(read_config(path), overrides), place=file.name)
    folder = file.resolve().parent
    raw = config.model_dump(mode="json", exclude_unset=True)
    raw.pop("kubeflow", None)
    links: dict[str, Path] = {}
    raw["data"]["path"] = _data_path(config, folder, links)
    files = _schema_files(config, file.stem, folder, raw)
    _place_weights(raw, folder, links)
    _place_beam(raw, folder, links)
    for key, default in (("runs", "runs"), ("push", "push")):
        given = str(raw.get("output", {}).get(key, default))
        raw.setdefault("output", {})[key] = _inside(given)
    raw.pop("code", None)
    return Bundle(config, PackedConfig(file.stem, raw, files, _own_modules(config, folder)), links)


def _own_modules(config: RunConfig, folder: Path) -> dict[str, str]:
    """Return path -> text of the modules of the user's own that the config leads to.

    Raises:
        ConfigError: If one lies outside the `code` folder: what is installed in the image stays there.
    """
    root = Path(os.path.normpath(folder / config.code))
    found = own_code(import_paths(config.model_dump(mode="json")), str(root))
    outside = sorted(str(file) for file in found.files.values() if not file.is_relative_to(root))
    if outside:
        raise ConfigError(
            "own modules of a run on a cluster must lie in the `code` folder or be installed packages. "
            f"Received: {', '.join(outside)}, outside {root}"
        )
    return {
        file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in found.files.values()
    }


@dataclass(frozen=True)
class Carried:
    """How the config gets to the steps.

    Attributes:
        arguments: What a step is given.
        place: "" where that is all; else where `text` must be before a run: a URI, or a path below the root.
        text: The packed config.
    """

    arguments: list[str]
    place: str
    text: str


def config_arguments(bundle: Bundle, steps: int) -> Carried:
    """Return how steps are given the config: as an argument, or where that is too large as a file.

    Args:
        bundle: The config.
        steps: How many steps are given it.

    Raises:
        ConfigError: If the config is too large for an argument, or for one of each step together, and there
            is neither a volume nor a `kubeflow.config_uri`.
    """
    text, section = pack(bundle.packed), bundle.config.kubeflow
    limit = min(LARGEST_CONFIG_BYTES, _ROOM_BYTES // steps)
    if len(text) <= limit:
        return Carried([f"--config={text}"], "", text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    place = section.config_uri or ("" if section.volume is None else f"config/{digest[:16]}.gz")
    if not place:
        raise ConfigError(
            f"a config for {steps} steps must be at most {limit:,} bytes when packed. "
            f"Received: {len(text):,}",
            "set kubeflow.config_uri to where it may be stored and read by the steps, or kubeflow.volume",
        )
    return Carried([f"--config={place}", f"--config-sha256={digest}"], place, text)


def store_config(uri: str, text: str) -> None:
    """Write a packed config to a URI.

    Raises:
        EnvironmentProblem: If it cannot be written.
    """
    import fsspec

    try:
        with fsspec.open(uri, "wb") as stream:
            stream.write(text.encode())
    except (OSError, ImportError, ValueError) as error:
        raise EnvironmentProblem(
            f"`kubeflow.config_uri` must be writable. Received: {uri} ({error})"
        ) from error


def _data_path(config: RunConfig, folder: Path, links: dict[str, Path]) -> str:
    """Return where steps find the data; its folder here is noted in `links`."""
    path = config.data.path
    if config.kubeflow.data is not None:
        return config.kubeflow.data
    parts = (folder / path).parts
    wild = next((i for i, part in enumerate(parts) if any(c in part for c in _WILD)), len(parts) - 1)
    links["data"] = Path(*parts[:wild]).resolve()
    return "/".join(["data", *parts[wild:]])


def _schema_files(config: RunConfig, stem: str, folder: Path, raw: dict[str, Any]) -> dict[str, str]:
    """Return the schema that the data is held to, if there is one yet, by its name."""
    given = config.validation.schema_path
    if given is not None:
        raw["validation"]["schema_path"] = Path(given).name
    file = folder / (given or f"{stem}.schema.pbtxt")
    try:
        return {file.name: file.read_text(encoding="utf-8")}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`validation.schema_path` must be readable. Received: {file} ({error})") from error


def _place_weights(raw: dict[str, Any], folder: Path, links: dict[str, Path]) -> None:
    """Let a file of pretrained weights be looked for below the root."""
    model = raw.get("model", {})
    for section in (model, model.get("member") or {}):
        weights = section.get("weights")
        if isinstance(weights, str) and weights not in ("imagenet", "none") and "://" not in weights:
            section["weights"] = f"weights/{Path(weights).name}"
            links[section["weights"]] = (folder / weights).resolve()


def _place_beam(raw: dict[str, Any], folder: Path, links: dict[str, Path]) -> None:
    """Let job servers and binaries of Beam's engines be looked for below the root."""
    beam = raw.get("beam", {})
    for section in (beam, *beam.get("nodes", {}).values()):
        for field in ("job_server_jar", "location"):
            path = section.get(field)
            if path is not None and "://" not in path:
                section[field] = f"beam/{Path(path).name}"
                links[section[field]] = (folder / path).resolve()


def _inside(path: str) -> str:
    """Return an output folder as one below the root."""
    plain = Path(path)
    return plain.name if plain.is_absolute() or ".." in plain.parts else plain.as_posix()
