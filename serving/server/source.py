"""Which versions of a model shall be served: base paths, version policies, and what the folders hold."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import Code, ServingError

__all__ = ["ModelEntry", "VersionPolicy", "aspired_versions", "entries_of"]

PLATFORM = "tensorflow"

_VERSION = re.compile(r"\d{1,19}", re.ASCII)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions below a base path are served.

    Attributes:
        kind: The newest `count`, all, or those of `versions`; "folder" takes the base path itself as the one
            version that `versions` names.
        count: Number of versions, >= 1.
        versions: Version numbers.
    """

    kind: Literal["latest", "all", "specific", "folder"] = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelEntry:
    """One model of a configuration.

    Attributes:
        name: Name that it is served by.
        base_path: Folder whose numbered folders are its versions.
        policy: Which of them are served.
        labels: Label -> version.
        logging: LoggingConfig of the model, or None.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: tuple[tuple[str, int], ...] = ()
    logging: Any = None


def aspired_versions(entry: ModelEntry) -> dict[int, str]:
    """Return version -> folder of what shall be served now.

    Raises:
        ServingError: INVALID_ARGUMENT, if the base path is not there: an unreachable folder is no wish to
            stop serving.
    """
    if not os.path.isdir(entry.base_path):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Could not find base path {entry.base_path} for servable {entry.name} with error "
            f"NOT_FOUND: {entry.base_path} not found",
        )
    if entry.policy.kind == "folder":
        return {entry.policy.versions[0]: entry.base_path}
    found = _numbered(entry.base_path)
    if entry.policy.kind == "all":
        return found
    if entry.policy.kind == "specific":
        return {version: found[version] for version in entry.policy.versions if version in found}
    newest = sorted(found, reverse=True)[: entry.policy.count]
    return {version: found[version] for version in newest}


def entries_of(config: Any) -> list[ModelEntry]:
    """Return the models of a ModelServerConfig.

    Raises:
        ServingError: If a model is listed twice, or has no name, base path or supported platform.
    """
    found: dict[str, ModelEntry] = {}
    for model in config.model_config_list.config:
        if model.name in found:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Illegal to list model {model.name} multiple times in config list"
            )
        _check_platform(model)
        if not os.path.isabs(model.base_path) and "://" not in model.base_path:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}",
            )
        found[model.name] = ModelEntry(
            model.name,
            model.base_path,
            _policy(model.model_version_policy),
            tuple(sorted(model.version_labels.items())),
            model.logging_config if model.HasField("logging_config") else None,
        )
    return list(found.values())


def _numbered(base_path: str) -> dict[int, str]:
    """Return the folders whose names are numbers; of two equal numbers the last name wins, as upstream."""
    found: dict[int, str] = {}
    for name in sorted(os.listdir(base_path)):
        path = os.path.join(base_path, name)
        if _VERSION.fullmatch(name) and int(name) <= _MAX_VERSION and os.path.isdir(path):
            found[int(name)] = path
    return found


def _policy(proto: Any) -> VersionPolicy:
    kind = proto.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy("all")
    if kind == "specific":
        versions: Sequence[int] = proto.specific.versions
        return VersionPolicy("specific", versions=tuple(sorted(set(versions))))
    return VersionPolicy("latest", count=max(1, proto.latest.num_versions))


def _check_platform(model: Any) -> None:
    if model.model_type:
        if model.model_platform:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform.",
            )
        if model.model_type != 1:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"ModelServerConfig::model_type choice {model.model_type} not supported.",
            )
    elif not model.model_platform:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        )
    elif model.model_platform != PLATFORM:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Model {model.name} requests unsupported platform {model.model_platform}",
        )
