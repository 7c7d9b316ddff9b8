"""A compiled pipeline file: what Kubeflow's API server is given, and nothing beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.data.errors import ConfigError

__all__ = ["PipelineFile", "Wishes", "load_pipeline"]


_WISHES = "# headrace submits it with: "
"""Starts the line of a pipeline file that tells its wishes: the format has no place for them."""


@dataclass(frozen=True)
class Wishes:
    """What a config says of how its pipeline is submitted; options of the command line go before it.

    Attributes:
        service_account: Kubernetes service account of a run's pods; None: Kubeflow's own.
        experiment: Where runs are listed.
        run_name: Name of a run; None: the pipeline's.
    """

    service_account: str | None = None
    experiment: str = "headrace"
    run_name: str | None = None

    def written_into(self, text: str) -> str:
        """Return the text of a pipeline file with these wishes."""
        return f"{_WISHES}{json.dumps(asdict(self))}\n{text}"


@dataclass(frozen=True)
class PipelineFile:
    """The two documents of a pipeline file.

    Attributes:
        spec: The `PipelineSpec` as plain data.
        platform: Executor label -> what the Kubernetes platform knows of it.
        wishes: How it is to be submitted.
    """

    spec: dict[str, Any]
    platform: dict[str, dict[str, Any]]
    wishes: Wishes = Wishes()

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return str(self.spec.get("pipelineInfo", {}).get("name", ""))

    @property
    def schema_version(self) -> str:
        """Version of the format."""
        return str(self.spec.get("schemaVersion", ""))

    @property
    def root(self) -> dict[str, Any]:
        """The outermost component."""
        found: dict[str, Any] = self.spec["root"]
        return found

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Name -> component."""
        return dict(self.spec.get("components", {}))

    @property
    def executors(self) -> dict[str, dict[str, Any]]:
        """Label -> executor."""
        return dict(self.spec.get("deploymentSpec", {}).get("executors", {}))

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Name -> type and default of the run's parameters."""
        return dict(self.root.get("inputDefinitions", {}).get("parameters", {}))


def load_pipeline(path: str | Path) -> PipelineFile:
    """Read a compiled pipeline.

    Raises:
        ConfigError: If the file cannot be read or is no pipeline.
    """
    try:
        # The C parser, where PyYAML has it, is ten times as fast on a file with long arguments.
        text = Path(path).read_text(encoding="utf-8")
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"a pipeline must be a readable file. Received: {path} ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"a pipeline must be YAML. Received: {' '.join(str(error).split())} ({path})"
        ) from error
    if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
        raise ConfigError(
            f"a pipeline must be what `headrace kubeflow compile` writes. Received: {path}",
            "to compile a config: headrace kubeflow compile CONFIG",
        )
    platform: dict[str, Any] = {}
    for document in documents[1:]:
        kubernetes = (document or {}).get("platforms", {}).get("kubernetes", {})
        platform |= kubernetes.get("deploymentSpec", {}).get("executors", {})
    return PipelineFile(documents[0], platform, _read_wishes(text, path))


def _read_wishes(text: str, path: str | Path) -> Wishes:
    line = next((line for line in text.splitlines() if line.startswith(_WISHES)), None)
    if line is None:
        return Wishes()
    try:
        return Wishes(**json.loads(line.removeprefix(_WISHES)))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"what a pipeline is submitted with must be what compile wrote. Received: {line[:200]} ({path})"
        ) from error
