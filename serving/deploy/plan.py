"""What is deployed: a model, its repository and the settings, resolved once for every target."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.data.errors import ConfigError

from .config import BucketModels, DeployConfig

__all__ = ["GRPC_PORT", "REST_PORT", "Plan", "make_plan", "peak_bytes", "pushed_versions"]

GRPC_PORT, REST_PORT = 8500, 8501
"""Ports inside the container, which are TensorFlow Serving's own."""

_MODEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_OUTSIDE = re.compile(r"[^a-z0-9]+")
_LONGEST = 50  # suffixes such as -config must fit into the 63 characters of a label


@dataclass(frozen=True)
class Plan:
    """A deployment.

    Attributes:
        model: Name of the model, as requests say it.
        name: Name of the Kubernetes objects.
        config: The `deploy` section.
        repository: Local folder that holds `<model>/<version>`.
        versions: Versions that it holds now, ascending.
        batching: Whether requests are put together.
        source: The config file, named in what is rendered; empty for none.
    """

    model: str
    name: str
    config: DeployConfig
    repository: Path
    versions: tuple[int, ...] = ()
    batching: bool = True
    source: str = ""

    @property
    def image(self) -> str:
        """The image, with its tag."""
        return f"{self.config.image}:{self.config.tag}"

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of every object."""
        return {**self.selector, "app.kubernetes.io/managed-by": "headrace", **self.config.labels}

    @property
    def selector(self) -> Mapping[str, str]:
        """Labels that select the pods, and that may never change."""
        return {
            "app.kubernetes.io/name": "tensorflow-serving",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "model-server",
        }

    @property
    def bucket(self) -> BucketModels | None:
        """The bucket of the repository, if it is in one."""
        return self.config.models if isinstance(self.config.models, BucketModels) else None


def make_plan(
    config: DeployConfig, model: str, repository: Path, *, ragged: bool = False, source: str = ""
) -> Plan:
    """Resolve what a deployment needs.

    Args:
        config: The `deploy` section.
        model: Name of the model.
        repository: Local folder that holds `<model>/<version>`.
        ragged: Whether rows hold lists of any length.
        source: The config file's name.

    Raises:
        ConfigError: If the model's name cannot be deployed, no name can be made of it, or batching is asked
            of rows that it cannot stack.
    """
    if not _MODEL.fullmatch(model):
        raise ConfigError(
            "a model that is deployed must have a name of letters, digits, `.`, `-` and `_`. "
            f"Received: {model} (push.model_name)"
        )
    enabled = config.batching.enabled
    if enabled is True and ragged:
        raise ConfigError(
            "`deploy.batching.enabled` must be `auto` or false for rows that hold lists of any length, since "
            "TensorFlow Serving stacks equal shapes alone. Received: true"
        )
    name = config.name or _name_of(model)
    batching = enabled is True or (enabled == "auto" and not ragged)
    return Plan(model, name, config, repository, pushed_versions(repository / model), batching, source)


def pushed_versions(folder: Path) -> tuple[int, ...]:
    """Return the numbers of the versions below `folder`, ascending; none if there is no such folder."""
    if not folder.is_dir():
        return ()
    found = (child.name for child in folder.iterdir() if child.is_dir() and child.name.isdecimal())
    return tuple(sorted(int(name) for name in found))


def peak_bytes(folder: Path) -> int | None:
    """Return the memory that a version took when the pipeline checked it, by its manifest.

    Args:
        folder: Folder of the version.

    Returns:
        Bytes, or None where that is not known.
    """
    try:
        gates = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["gates"]
        found = [int(gate["value"]) for gate in gates if gate["metric"] == "rss_bytes" and gate["value"]]
    except (OSError, ValueError, KeyError, TypeError):  # another tool's version; it can be deployed as well
        return None
    return max(found, default=None)


def _name_of(model: str) -> str:
    """Return a name that Kubernetes takes: small letters, digits and dashes, a letter first."""
    name = _OUTSIDE.sub("-", model.lower()).strip("-")
    if name and not name[0].isalpha():
        name = f"model-{name}"
    name = name[:_LONGEST].strip("-")
    if not name:
        raise ConfigError(
            f"`deploy.name` must be given where the model's name has no letters. Received: {model}"
        )
    return name
