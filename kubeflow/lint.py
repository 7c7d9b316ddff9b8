"""Static rules of Kubeflow Pipelines' backend, and of good sense, over a compiled pipeline."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.data.errors import ConfigError
from headrace.data.section import marked_values
from headrace.pipeline.config import RunConfig, parse_config

from .bundle import LARGEST_CONFIG_BYTES
from .spec import PipelineFile, load_pipeline

__all__ = [
    "LARGEST_ARGUMENT_BYTES",
    "LARGEST_FILE_BYTES",
    "LARGEST_STEP_BYTES",
    "Problem",
    "find_problems",
    "find_secrets",
    "lint",
]

LARGEST_ARGUMENT_BYTES = LARGEST_CONFIG_BYTES + len("--config=")
"""A packed config and its option."""
LARGEST_STEP_BYTES = 28_000
"""Arguments of a step together, of which Argo keeps several copies in the status of a run: these still
compress away, 31 kB do not."""
LARGEST_FILE_BYTES = 1_000_000
"""The compiled workflow is one object of Kubernetes, of which etcd takes 1.5 MiB."""
LARGEST_PARAMETERS_BYTES = 10_000
"""What the API server takes of all run parameters together."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,126}[a-z0-9])?")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_INPUT = re.compile(r"\{\{\$\.inputs\.(parameters|artifacts)\['([^']+)'\]")
_OUTPUT = re.compile(r"\{\{\$\.outputs\.(parameters|artifacts)\['([^']+)'\]")
_KNOWN = re.compile(
    r"\{\{\$\}\}|\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['[^']+'\](\.(path|uri|output_file))?\}\}"
    r"|\{\{\$\.outputs\.output_file\}\}"
    r"|\{\{\$\.pipeline_(job|task)_(name|uuid|resource_name)\}\}"
)
_SECRET_NAME = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|credentials?|(api|access|private|secret)_?key)$"
)
"""What the name of a variable or option ends with that holds a secret: not `token_count` or `secret_name`."""
_PASSWORD_NAME = re.compile(r"(?i)(password|passwd|passphrase)$")
"""Of those names the ones whose text is a secret however short it is."""
_LONG_ENOUGH = 8
_STAND_IN = re.compile(r"[\[<].*[\]>]")
"""No secret: the `[PADDING]` of an option `pad_token`."""
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]+:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_\w{30,}|\bxox[abp]-\w{10,}"
)
_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_PLACES = ("/tmp", "/dev/null")


@dataclass(frozen=True)
class Problem:
    """A rule that a pipeline breaks.

    Attributes:
        rule: Short name of the rule.
        message: Rule, what was received, place.
    """

    rule: str
    message: str


def lint(path: str | Path) -> None:
    """Check a compiled pipeline.

    Raises:
        ConfigError: With one problem a line.
    """
    problems = find_problems(path)
    if problems:
        lines = "\n".join(f"[{problem.rule}] {problem.message}" for problem in problems)
        raise ConfigError(
            f"{path} breaks {len(problems)} rule{'s'[: len(problems) > 1]} of the backend.\n{lines}"
        )


def find_problems(path: str | Path) -> list[Problem]:
    """Return what is wrong with a compiled pipeline, nothing if all is well.

    Raises:
        ConfigError: If the file cannot be read as a pipeline.
    """
    file = load_pipeline(path)
    found = [Problem(rule, message) for rule, message in _all(file, Path(path))]
    # kfp's own loader knows the rest; it stops at its first objection.
    if not found and (message := _loader(path)):
        found.append(Problem("kfp", message))
    return found


def _all(file: PipelineFile, path: Path) -> Iterator[tuple[str, str]]:
    yield from _header(file, path)
    yield from _dag(file, "root", file.root, file.root)
    for name, component in file.components.items():
        if "dag" in component:
            yield from _dag(file, name, component, component)
        elif component.get("executorLabel") not in file.executors:
            yield (
                "executor",
                f"a component must have an executor. Received: {component.get('executorLabel')} ({name})",
            )
    for label, executor in file.executors.items():
        yield from _executor(file, label, executor)


def _header(file: PipelineFile, path: Path) -> Iterator[tuple[str, str]]:
    if file.schema_version != "2.1.0":
        yield "schema", f"schemaVersion must be 2.1.0. Received: {file.schema_version}"
    if not _NAME.fullmatch(file.name):
        yield (
            "name",
            (
                "a pipeline's name must be of a-z, 0-9 and -, at most 128, a letter or digit at both ends. "
                f"Received: {file.name}"
            ),
        )
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        yield "size", f"a pipeline must be at most {LARGEST_FILE_BYTES:,} bytes. Received: {size:,} ({path})"
    for name, value in file.parameters.items():
        default, kind = value.get("defaultValue"), str(value.get("parameterType"))
        if default is not None and not isinstance(default, _TYPES.get(kind, (object,))):
            yield "type", f"the default of parameter {name} must be {kind}. Received: {default!r}"
    total = sum(len(str(value.get("defaultValue", ""))) for value in file.parameters.values())
    if total > LARGEST_PARAMETERS_BYTES:
        yield (
            "size",
            (f"all parameters together may have {LARGEST_PARAMETERS_BYTES:,} bytes. Received: {total:,}"),
        )


def _dag(
    file: PipelineFile, place: str, dag: dict[str, Any], owner: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Check the tasks of one level: names, components, producers, parameters."""
    tasks = dag["dag"]["tasks"]
    for name, task in tasks.items():
        if not _NAME.fullmatch(name):
            yield "name", f"a task's name must be of a-z, 0-9 and -. Received: {name} ({place})"
        component = file.components.get(task["componentRef"]["name"])
        if component is None:
            yield (
                "component",
                f"a task must name a component. Received: {task['componentRef']['name']} ({name})",
            )
            continue
        for upstream in task.get("dependentTasks", []):
            if upstream not in tasks:
                yield "producer", f"a task must depend on tasks beside it. Received: {upstream} ({name})"
        yield from _inputs(name, task, component, owner, tasks)
        if task.get("cachingOptions", {}).get("enableCache"):
            yield (
                "cache",
                (
                    "a task must not be cached by Kubeflow: ML Metadata decides what is taken. "
                    f"Received: enableCache ({name})"
                ),
            )
    if _cycle(tasks):
        yield "cycle", f"tasks must not wait for each other. Received: {', '.join(_cycle(tasks))} ({place})"


def _inputs(
    name: str, task: dict[str, Any], component: dict[str, Any], owner: dict[str, Any], tasks: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    offered = owner.get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    for key, kind in declared.items():
        if key not in given and not kind.get("isOptional"):
            yield (
                "input",
                f"a task must be given each parameter of its component. Received: no {key} ({name})",
            )
    for key, source in given.items():
        if key not in declared:
            yield "input", f"a task must be given only parameters of its component. Received: {key} ({name})"
            continue
        kind = declared[key]["parameterType"]
        parent = source.get("componentInputParameter")
        if parent is not None and parent not in offered:
            yield "producer", f"a parameter must come from somewhere. Received: {parent} ({name}.{key})"
        elif parent is not None and offered[parent]["parameterType"] != kind:
            yield (
                "type",
                f"{name}.{key} must be {kind}. Received: {offered[parent]['parameterType']} of {parent}",
            )
        producer = source.get("taskOutputParameter", {}).get("producerTask")
        if producer is not None and producer not in tasks:
            yield (
                "producer",
                f"a parameter must come from a task beside it. Received: {producer} ({name}.{key})",
            )
        constant = source.get("runtimeValue", {}).get("constant")
        if constant is not None and not isinstance(constant, _TYPES.get(kind, (object,))):
            yield "type", f"{name}.{key} must be {kind}. Received: {constant!r}"


def _cycle(tasks: dict[str, Any]) -> list[str]:
    """Return tasks that can never start, if any."""
    waiting = {name: set(task.get("dependentTasks", [])) & set(tasks) for name, task in tasks.items()}
    while ready := [name for name, needed in waiting.items() if not needed]:
        for name in ready:
            del waiting[name]
        for needed in waiting.values():
            needed -= set(ready)
    return sorted(waiting)


def _executor(file: PipelineFile, label: str, executor: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Check one container: nothing but containers, known placeholders, sizes, secrets, paths."""
    container = executor.get("container")
    if container is None:
        yield "container", f"an executor must be a container. Received: {', '.join(executor)} ({label})"
        return
    if not container.get("image"):
        yield "container", f"a container must have an image. Received: none ({label})"
    arguments = [str(text) for text in [*container.get("command", []), *container.get("args", [])]]
    for text in arguments:
        if len(text.encode()) > LARGEST_ARGUMENT_BYTES:
            yield (
                "size",
                (
                    f"an argument must be at most {LARGEST_ARGUMENT_BYTES:,} bytes. "
                    f"Received: {len(text.encode()):,} ({label})"
                ),
            )
        if _PLACEHOLDER.search(_KNOWN.sub("", text)):
            yield "placeholder", f"a placeholder must be one of Kubeflow's. Received: {text[:80]} ({label})"
        if "{{$}}" in text and text != "{{$}}":
            yield "placeholder", f"{{{{$}}}} must be an argument of its own. Received: {text[:80]} ({label})"
    together = sum(len(text.encode()) for text in arguments)
    if together > LARGEST_STEP_BYTES:
        yield (
            "size",
            f"a step's arguments must be at most {LARGEST_STEP_BYTES:,} bytes. "
            f"Received: {together:,} ({label})",
        )
    yield from _references(file, label, arguments)
    yield from _secrets(label, container, arguments)
    yield from _paths(file, label, container, arguments)


def _references(file: PipelineFile, label: str, arguments: list[str]) -> Iterator[tuple[str, str]]:
    components = [c for c in file.components.values() if c.get("executorLabel") == label]
    for component in components:
        for pattern, side in ((_INPUT, "inputDefinitions"), (_OUTPUT, "outputDefinitions")):
            for text in arguments:
                for kind, name in pattern.findall(text):
                    if name not in component.get(side, {}).get(kind, {}):
                        yield (
                            "placeholder",
                            f"a placeholder must name one of its component's. Received: {name} ({label})",
                        )


def _secrets(label: str, container: dict[str, Any], arguments: list[str]) -> Iterator[tuple[str, str]]:
    for entry in container.get("env", []):
        name, value = str(entry.get("name")), str(entry.get("value", ""))
        if _is_secret(name, value):
            yield (
                "secret",
                f"a secret must come from a Secret, not stand in the clear. Received: {name} ({label})",
            )
    for text in arguments:
        packed = _packed(text)
        if packed is None and _SECRET_VALUE.search(text):
            yield "secret", f"a secret must not stand in the clear. Received: an argument with one ({label})"
        if packed is not None:
            try:
                config = parse_config(packed)
            except ConfigError as error:
                yield "config", f"{error.message} ({label})"
                continue
            for path in find_secrets(config):
                yield "secret", f"a secret must not stand in the config. Received: {path} ({label})"


def find_secrets(config: RunConfig) -> list[str]:
    """Return the keys of a config that hold a secret in the clear, of those that may hold one."""
    return [path for path, value in marked_values(config) if _is_secret(_name_in(path), value)]


def _name_in(path: str) -> str:
    """Return the last part of a dotted path that is no number of a list."""
    return next(part for part in reversed(path.split(".")) if not part.isdigit())


def _is_secret(name: str, value: str) -> bool:
    """Judge a text by what it looks like and by its name, which may stand before it as that of a flag."""
    option, equals, given = value.partition("=")
    if equals and option.startswith("--"):
        name, value = option, given
    if _SECRET_VALUE.search(value):
        return True
    if _PASSWORD_NAME.search(name):
        return bool(value)
    return bool(_SECRET_NAME.search(name) and len(value) >= _LONG_ENOUGH and not _STAND_IN.fullmatch(value))


def _paths(
    file: PipelineFile, label: str, container: dict[str, Any], arguments: list[str]
) -> Iterator[tuple[str, str]]:
    """Check that absolute paths lie where a container has them."""
    platform = file.platform.get(label, {})
    mounts = [
        str(mount["mountPath"]) for key in ("pvcMount", "secretAsVolume") for mount in platform.get(key, [])
    ]
    roots = [text.removeprefix("--root=") for text in arguments if text.startswith("--root=")]
    if "hostPath" in yaml.safe_dump(platform):
        yield "path", f"a step must not mount folders of its machine. Received: hostPath ({label})"
    values = [text.rpartition("=")[2] if text.startswith("--") else text for text in arguments]
    values += [str(entry.get("value", "")) for entry in container.get("env", [])]
    for text in arguments:
        if (packed := _packed(text)) is not None:
            values += [value for path, value in _strings(packed) if path != "metadata.password_file"]
    for value in values:
        if re.match(r"/[\w.]", value) and not _below(value, [*mounts, *roots, *_PLACES]):
            yield (
                "path",
                (f"a path must lie in a mounted volume or below the root. Received: {value} ({label})"),
            )


def _below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _packed(argument: str) -> dict[str, Any] | None:
    from headrace.pipeline.packed import PREFIX, unpack

    if not argument.startswith(f"--config={PREFIX}"):
        return None
    return dict(unpack(argument.removeprefix("--config=")).raw)


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return every text of a config with its dotted path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{path}.{number}")
    elif isinstance(value, str):
        yield path, value


def _loader(path: str | Path) -> str:
    """Return what kfp's own loader objects to; "" if nothing."""
    from kfp import components

    try:
        components.load_component_from_file(str(path))
    except Exception as error:
        return f"kfp's loader must take the file. Received: {' '.join(str(error).split())[:300]}"
    return ""
