"""What runs on the cluster, as plain data: one step a node of the graph, with its resources, free of kfp."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from headrace.data.errors import ConfigError
from headrace.data.readers.spans import has_span
from headrace.pipeline.cluster import (
    GpuConfig,
    KubeflowConfig,
    SecretKey,
    StepConfig,
    TolerationConfig,
    VolumeConfig,
)
from headrace.pipeline.config import RunConfig
from headrace.pipeline.graph import GRAPH, Node

__all__ = ["REPORT", "Parameter", "Plan", "StepPlan", "make_plan", "root_of"]

REPORT = "report"
"""Id of the step that concludes the run; it runs whatever became of the others."""

Shown = Literal["HTML", "Markdown", "Metrics", "ClassificationMetrics"]

_SHOWN: Mapping[str, dict[str, Shown]] = {
    "trainer": {"metrics": "Metrics"},
    "evaluation": {"metrics": "Metrics", "classification": "ClassificationMetrics"},
    REPORT: {"report": "HTML"},
}
_BACKOFF = {"backoff_s": 30, "backoff_factor": 2.0, "backoff_max_s": 600}
_MATRIX_TASKS = ("binary", "multiclass")
_RESERVED = ("force", "span", "run_id")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a run.

    Attributes:
        name: As Kubeflow shows it.
        option: What the value is appended to in the step's arguments, such as `--set=training.epochs=`.
        type: Python type that kfp knows.
        default: Value where none is given.
    """

    name: str
    option: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: bool | int | float | str


@dataclass(frozen=True)
class StepPlan:
    """One step; fields as in `kubeflow.defaults` of the config, all of them decided.

    Attributes:
        id: Name of the step.
        node: The node that it runs, or works along with.
        team: How many steps share the node's work.
        number: Which of them it is; 0 runs the node.
        shows: Output name -> kind of what the UI shows.
        after: Ids of the steps that must have succeeded.
    """

    id: str
    node: str
    title: str
    image: str
    cpu: str
    memory: str
    memory_limit: str
    cpu_limit: str | None = None
    gpu: GpuConfig | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[TolerationConfig, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey] = field(default_factory=dict)
    retries: int = 0
    backoff_s: int = 30
    backoff_factor: float = 2.0
    backoff_max_s: int = 600
    timeout_s: int | None = None
    team: int = 1
    number: int = 0
    shows: Mapping[str, Shown] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A pipeline.

    Attributes:
        name: As Kubeflow names it.
        root: Folder where relative paths start in the steps.
        steps: Nodes in the graph's order, each followed by those that share its work.
        report: The step that concludes.
        parameters: Of a run.
        volume: What every step mounts, or None.
        run_as: Numeric user and group.
        pull_policy: When images are pulled.
    """

    name: str
    root: str
    steps: tuple[StepPlan, ...]
    report: StepPlan
    parameters: tuple[Parameter, ...]
    volume: VolumeConfig | None
    run_as: tuple[int, int]
    pull_policy: str


def make_plan(config: RunConfig) -> Plan:
    """Return what `config` asks the cluster for.

    Raises:
        ConfigError: If a parameter names nothing, or the root is unknown.
    """
    section = config.kubeflow
    serial = section.serial if section.serial is not None else config.metadata.url is None
    steps: list[StepPlan] = []
    previous: StepPlan | None = None
    for node in GRAPH:
        needed = dict.fromkeys([*(edge.node for edge in node.inputs), *node.after])
        if serial and previous is not None:
            needed |= {previous.id: None}
        team = _team(node.id, config)
        previous = replace(_step(node, section, _shows(node.id, config), tuple(needed)), team=team)
        steps.append(previous)
        steps += [
            replace(previous, id=f"{node.id}_{number}", number=number, shows={}) for number in range(1, team)
        ]
    closing = Node(id=REPORT, run="", title="Publish the verdict and the report", retries=2)
    return Plan(
        name=config.name.lower().replace("_", "-").strip("-"),
        root=root_of(section),
        steps=tuple(steps),
        report=_step(closing, section, _shows(REPORT, config), ()),
        parameters=_parameters(config),
        volume=section.volume,
        run_as=(section.run_as_user, section.run_as_group),
        pull_policy=section.pull_policy,
    )


def root_of(section: KubeflowConfig) -> str:
    """Return the folder where relative paths start in the steps.

    Raises:
        ConfigError: If there is neither a volume nor a root.
    """
    root = section.root or (section.volume.mount if section.volume else None)
    if root is None:
        raise ConfigError("`kubeflow.root` is required where `kubeflow.volume` is null. Received: neither")
    return root


def _team(node_id: str, config: RunConfig) -> int:
    """Return how many steps share the work of a node.

    Raises:
        ConfigError: If the config asks for several that cannot work together.
    """
    if node_id == "tuner":
        return config.kubeflow.workers.tuner if config.tuning.enabled else 1
    if node_id != "trainer":
        return 1
    wanted, strategy = config.kubeflow.workers.trainer, config.training.strategy
    if wanted > 1 and strategy not in ("auto", "multi_worker"):
        raise ConfigError(
            "`kubeflow.workers.trainer` above 1 needs `training.strategy` auto or multi_worker. "
            f"Received: {wanted} with {strategy}"
        )
    return wanted


def _shows(step: str, config: RunConfig) -> dict[str, Shown]:
    found: dict[str, Shown] = {"result": "Markdown", **_SHOWN.get(step, {})}
    if config.data.task not in _MATRIX_TASKS:
        found.pop("classification", None)
    return found


def _step(node: Node, section: KubeflowConfig, shows: dict[str, Shown], after: tuple[str, ...]) -> StepPlan:
    """Lay the config's options for one node over those for all, and these over the node's own."""
    own, general = section.nodes.get(node.id, StepConfig()), section.defaults
    chosen: dict[str, Any] = {
        "image": f"headrace:{importlib.metadata.version('headrace')}",
        "cpu": str(node.cpu),
        "memory": f"{node.memory_gib}Gi",
        "retries": node.retries,
        **_BACKOFF,
    }
    for layer in (general, own):
        for name in StepConfig.model_fields:
            value = getattr(layer, name)
            if value is None:
                continue
            # Variables and secrets of all steps stay where a node adds its own.
            chosen[name] = {**chosen.get(name, {}), **value} if name in ("env", "secrets") else value
    if not node.gpu:
        chosen.pop("gpu", None)
    if node.retries == 0:
        chosen["retries"] = 0
    chosen.setdefault("memory_limit", chosen["memory"])
    return StepPlan(id=node.id, node=node.id, title=node.title, shows=shows, after=after, **chosen)


def _parameters(config: RunConfig) -> tuple[Parameter, ...]:
    found = [Parameter("force", "--force=", bool, False)]
    if has_span(config.data.path):
        found.append(Parameter("span", "--span=", str, ""))
    plain = config.model_dump(mode="json")
    for path in config.kubeflow.parameters:
        name, value = path.replace(".", "_"), _value(plain, path)
        if name in [parameter.name for parameter in found] or name in _RESERVED:
            raise ConfigError(
                f"`kubeflow.parameters` must have distinct names, none of them {', '.join(_RESERVED)}. "
                f"Received: {path}"
            )
        found.append(_parameter(name, path, value))
    return tuple(found)


def _parameter(name: str, path: str, value: Any) -> Parameter:
    if isinstance(value, bool | int | float):
        return Parameter(name, f"--set={path}=", type(value), value)
    if isinstance(value, str):
        return Parameter(name, f"--set-text={path}=", str, value)
    import json

    # Lists, mappings and null travel as JSON, which is YAML.
    return Parameter(name, f"--set={path}=", str, json.dumps(value, ensure_ascii=False))


def _value(plain: Any, path: str) -> Any:
    here = plain
    for part in path.split("."):
        try:
            here = here[int(part)] if isinstance(here, list) else here[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ConfigError(
                f"`kubeflow.parameters` must be paths of the config. Received: {path} (at `{part}`)"
            ) from None
    if path.split(".")[0] in ("kubeflow", "metadata", "output", "name", "schema_version"):
        raise ConfigError(f"`kubeflow.parameters` must bear on the result of a run. Received: {path}")
    return here
