"""What Kubeflow's driver and launcher do before a container starts: inputs, placeholders, output paths."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError

__all__ = ["Invocation", "JobInfo", "checked_parameters", "invocation", "task_inputs"]

_PLACEHOLDER = re.compile(r"\{\{\$.*?\}\}")
_REFERENCE = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(\w+))?\}\}")
_TYPES: dict[str, type] = {
    "STRING": str,
    "BOOLEAN": bool,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "LIST": list,
    "STRUCT": dict,
}


@dataclass(frozen=True)
class JobInfo:
    """A run, as placeholders name it.

    Attributes:
        id: Id of the run.
        name: Name of the pipeline.
    """

    id: str
    name: str


@dataclass(frozen=True)
class Invocation:
    """A container's process, ready to start.

    Attributes:
        argv: Command and arguments, nothing left to resolve.
        executor_input: What `{{$}}` stands for.
        output_file: Where the container may put its executor output.
    """

    argv: list[str]
    executor_input: dict[str, Any]
    output_file: Path


def checked_parameters(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run's parameters, defaults filled in.

    Raises:
        ConfigError: If one is unknown, missing or of another type.
    """
    if unknown := sorted(set(given) - set(declared)):
        raise ConfigError(
            f"a parameter must be one of {', '.join(declared) or 'none'}. Received: {unknown[0]}"
        )
    found = {}
    for name, entry in declared.items():
        if name not in given and "defaultValue" not in entry:
            if not entry.get("isOptional"):
                raise ConfigError(f"a parameter without a default must be given. Received: no {name}")
            continue
        found[name] = _typed(name, given.get(name, entry.get("defaultValue")), entry["parameterType"])
    return found


def _typed(name: str, value: Any, kind: str) -> Any:
    wanted = _TYPES[kind]
    # The file writes whole numbers as 3.0, since JSON's numbers are all of one type there.
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(f"parameter {name} must be {kind}. Received: {value!r}")
    return value


def task_inputs(
    task: Mapping[str, Any], component: Mapping[str, Any], parent: Mapping[str, Any], job: JobInfo
) -> dict[str, Any]:
    """Return a task's parameters.

    Args:
        task: The task.
        component: Its component.
        parent: Parameters of the component that the task stands in.
        job: The run.

    Raises:
        ConfigError: If a parameter comes from where headrace's pipelines take none.
    """
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    given: dict[str, Any] = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in source:
            given[name] = parent[source["componentInputParameter"]]
        elif "runtimeValue" in source:
            value = source["runtimeValue"]["constant"]
            given[name] = _job_text(value, job) if isinstance(value, str) else value
        else:
            raise ConfigError(
                f"a parameter must be a constant or one of the run to be simulated. Received: {name}"
            )
    return checked_parameters(declared, given)


def invocation(
    container: Mapping[str, Any], component: Mapping[str, Any], inputs: Mapping[str, Any],
    job: JobInfo, folder: Path,
) -> Invocation:  # fmt: skip
    """Resolve a container's command.

    Args:
        container: Its `container` spec.
        component: The component.
        inputs: Its parameters.
        job: The run.
        folder: Where outputs of this step lie.
    """
    outputs = component.get("outputDefinitions", {})
    artifacts = {
        name: {
            "artifacts": [
                {"name": name, "type": entry["artifactType"], "uri": str(folder / name), "metadata": {}}
            ]
        }
        for name, entry in outputs.get("artifacts", {}).items()
    }
    parameters = {
        name: {"outputFile": str(folder / "parameters" / name)} for name in outputs.get("parameters", {})
    }
    output_file = folder / "executor_output.json"
    executor_input = {
        "inputs": {"parameterValues": dict(inputs), "artifacts": {}},
        "outputs": {"parameters": parameters, "artifacts": artifacts, "outputFile": str(output_file)},
    }
    texts = [*container.get("command", []), *container.get("args", [])]
    argv = [_resolved(str(text), executor_input, job) for text in texts]
    return Invocation(argv, executor_input, output_file)


def _resolved(text: str, executor_input: Mapping[str, Any], job: JobInfo) -> str:
    def replace(match: re.Match[str]) -> str:
        whole = match[0]
        if whole == "{{$}}":
            return json.dumps(executor_input)
        if whole == "{{$.outputs.output_file}}":
            return str(executor_input["outputs"]["outputFile"])
        if reference := _REFERENCE.fullmatch(whole):
            return _referenced(executor_input, *reference.groups())
        return _job_text(whole, job)

    return _PLACEHOLDER.sub(replace, text)


def _referenced(executor_input: Mapping[str, Any], side: str, kind: str, name: str, part: str | None) -> str:
    try:
        if kind == "artifacts":
            return str(executor_input[side][kind][name]["artifacts"][0]["uri"])
        if side == "outputs":
            return str(executor_input[side][kind][name]["outputFile"])
        return _text(executor_input["inputs"]["parameterValues"][name])
    except (KeyError, IndexError):
        raise ConfigError(
            f"a placeholder must name something of its component's. Received: {side} {kind} {name}"
        ) from None


def _text(value: Any) -> str:
    """Return a parameter as the launcher writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        # As Go formats it: the shortest digits, never an exponent, which YAML would take for text.
        return format(Decimal(repr(value)).normalize(), "f")
    return json.dumps(value)


def _job_text(text: str, job: JobInfo) -> str:
    known = {
        "{{$.pipeline_job_uuid}}": job.id,
        "{{$.pipeline_job_name}}": job.name,
        "{{$.pipeline_job_resource_name}}": job.name,
    }
    for placeholder, value in known.items():
        text = text.replace(placeholder, value)
    return text
