"""The `kubeflow` and `metadata` sections: where steps run on a cluster, and where metadata lies."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headrace.data.local_path import LOCAL, LocalPath
from headrace.data.section import MAY_HOLD_SECRET, Section

from .graph import GRAPH

__all__ = [
    "GpuConfig", "KubeflowConfig", "MetadataConfig", "SecretKey", "StepConfig", "TolerationConfig",
    "VolumeConfig", "WorkersConfig",
]  # fmt: skip

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
_EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Cpu = Annotated[str, Field(pattern=r"^(\d+m|\d+(\.\d+)?)$")]
_Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")]
_Path = Annotated[str, Field(pattern=r"^/[^{}]+$"), LOCAL]


class MetadataConfig(Section):
    """Where ML Metadata keeps executions and artifacts.

    Attributes:
        url: `mysql://USER@HOST:PORT/DATABASE` or `postgresql://USER@HOST:PORT/DATABASE?sslmode=MODE`;
            null: an SQLite file below `output.runs`.
        password_env: Environment variable that holds the database's password.
        password_file: File that holds it instead, as a mounted secret does.
    """

    url: Annotated[
        Annotated[str, Field(pattern=r"^(mysql|postgresql)://[^/]+/[\w-]+(\?.*)?$")] | None, MAY_HOLD_SECRET
    ] = None
    password_env: _EnvName = "HEADRACE_METADATA_PASSWORD"
    password_file: LocalPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _holds_no_password(cls, raw: Any) -> Any:
        # Before the pattern, whose message would repeat the URL.
        url = raw.get("url") if isinstance(raw, dict) else None
        address = str(url or "").partition("://")[2].rpartition("@")[0]
        if ":" in address:
            raise ValueError(
                "`metadata.url` must not hold the password; give it in `metadata.password_env` or "
                f"`metadata.password_file`. Received: a URL with one, of user {address.partition(':')[0]}"
            )
        return raw


class GpuConfig(Section):
    """Accelerators of a step.

    Attributes:
        count: How many, >= 1.
        type: Resource name that the cluster's device plugin offers.
    """

    count: Annotated[int, Field(ge=1, le=64)] = 1
    type: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"


class TolerationConfig(Section):
    """A taint that a step's pod tolerates; fields as in Kubernetes.

    Attributes:
        key: Key of the taint; null with `operator: Exists` stands for all.
        operator: How key and value are compared.
        value: Value of the taint, with `operator: Equal`.
        effect: Effect that is tolerated; null: all.
        seconds: How long NoExecute is tolerated; null: for ever.
    """

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "TolerationConfig":
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("a toleration with `operator: Equal` needs `key` and `value`. Received: no such")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"a toleration with `operator: Exists` takes no `value`. Received: {self.value}")
        return self


class SecretKey(Section):
    """One entry of a Kubernetes Secret.

    Attributes:
        secret: Name of the Secret.
        key: Key in it.
    """

    secret: _Name
    key: Annotated[str, Field(pattern=r"^[-._A-Za-z0-9]+$")]


class VolumeConfig(Section):
    """A PersistentVolumeClaim that every step mounts.

    Attributes:
        claim: Name of the claim. Steps may run on different machines: it needs ReadWriteMany, or one machine.
        mount: Absolute path in the containers.
        sub_path: Folder of the volume to mount; "" mounts all of it.
    """

    claim: _Name
    mount: _Path = "/mnt/headrace"
    sub_path: LocalPath = ""


class StepConfig(Section):
    """Where and how a step runs; null: that of `kubeflow.defaults`, or the node's own.

    Attributes:
        image: Container image with headrace in the version that compiles. Default: `headrace:VERSION`.
        cpu: CPUs that are reserved, as Kubernetes writes them ("2", "500m"). Default: the node's own.
        cpu_limit: The most CPUs that are given. Default: no limit.
        memory: Memory that is reserved ("6Gi"). Default: the node's own.
        memory_limit: The most memory, beyond which a step is killed. Default: what is reserved.
        gpu: Accelerators; only nodes that train use them (tuner, trainer, crossval).
        node_selector: Labels that a machine must have.
        tolerations: Taints that are tolerated.
        env: Environment variables. Never a password: see `secrets`.
        secrets: Environment variable -> where in which Secret its value is.
        retries: Further tries of a failed step, in [0, 20]; verdicts are never tried again.
        backoff_s: Seconds before the first further try. Default: 30.
        backoff_factor: By how much longer each wait is than the one before. Default: 2.
        backoff_max_s: Longest wait, seconds. Default: 600.
        timeout_s: Seconds after which a step is stopped.
    """

    image: Annotated[str, Field(pattern=r"^[\w][\w./:@-]*$")] | None = None
    cpu: _Cpu | None = None
    cpu_limit: _Cpu | None = None
    memory: _Memory | None = None
    memory_limit: _Memory | None = None
    gpu: GpuConfig | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[TolerationConfig, ...] | None = None
    env: Annotated[dict[_EnvName, str] | None, MAY_HOLD_SECRET] = None
    secrets: dict[_EnvName, SecretKey] | None = None
    retries: Annotated[int, Field(ge=0, le=20)] | None = None
    backoff_s: Annotated[int, Field(ge=0, le=86400)] | None = None
    backoff_factor: Annotated[float, Field(ge=1, le=10)] | None = None
    backoff_max_s: Annotated[int, Field(ge=1, le=86400)] | None = None
    timeout_s: Annotated[int, Field(ge=1)] | None = None


class WorkersConfig(Section):
    """Pods that share the work of one node, each with what `kubeflow.nodes` gives that node.

    Attributes:
        tuner: Pods that run the search's trials side by side, the tuner's own included, in [1, 64]; each of
            them `tuning.workers` at a time. The search ends well without the others.
        trainer: Pods that train one model together, in [1, 64]: each takes its share of every batch. All of
            them must run at the same time. Needs `training.strategy` auto or multi_worker.
    """

    tuner: Annotated[int, Field(ge=1, le=64)] = 1
    trainer: Annotated[int, Field(ge=1, le=64)] = 1


class KubeflowConfig(Section):
    """How the pipeline runs on Kubeflow Pipelines; nothing here changes a result, but for rounding and chance
    in a training that is spread over `workers`.

    Attributes:
        defaults: Of every step.
        nodes: Node, or `report` for the step that concludes -> what is different there.
        workers: Pods that share the work of one node.
        volume: Volume with the pipeline root, on every step; null mounts none: `root` is then a path that
            the image or the machine brings.
        root: Folder below which steps find data and leave runs and models. Relative paths of the config
            start there. Default: the volume's mount.
        data: Where steps find the data; relative paths start at `root`. Default: `data/` and the last part of
            `data.path`; an absolute path stays as it is.
        config_uri: Where compile puts the config if it is too large for an argument; steps read it there.
            null: compile writes it beside the pipeline, to be put on the volume.
        parameters: Dotted paths of the config that become parameters of a run, with the config's values as
            defaults.
        service_account: Kubernetes service account of a run's pods; null: Kubeflow's own.
        experiment: Where runs are listed.
        run_name: Name of a run, and of a schedule; null: the pipeline's.
        run_as_user: Numeric user of the processes; never root (0).
        run_as_group: Numeric group of the processes.
        pull_policy: When the image is pulled.
        serial: Whether steps run one after another. null: as long as metadata lie in SQLite, which takes one
            writer at a time.
    """

    defaults: StepConfig = StepConfig()
    nodes: dict[str, StepConfig] = Field(default_factory=dict)
    workers: WorkersConfig = WorkersConfig()
    volume: VolumeConfig | None = VolumeConfig(claim="headrace")
    root: _Path | None = None
    data: LocalPath | None = None
    config_uri: Annotated[str | None, MAY_HOLD_SECRET] = None
    parameters: tuple[str, ...] = ()
    service_account: _Name | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=256)] = "headrace"
    run_name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    run_as_user: Annotated[int, Field(ge=1)] = 1000
    run_as_group: Annotated[int, Field(ge=1)] = 1000
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    serial: bool | None = None

    @model_validator(mode="after")
    def _names_nodes(self) -> "KubeflowConfig":
        known = [node.id for node in GRAPH]
        unknown = sorted(set(self.nodes) - {*known, "report"})
        if unknown:
            raise ValueError(f"`kubeflow.nodes` must name nodes: {', '.join(known)}. Received: {unknown[0]}")
        blind = [node.id for node in GRAPH if not node.gpu and (step := self.nodes.get(node.id)) and step.gpu]
        if blind:
            seeing = ", ".join(node.id for node in GRAPH if node.gpu)
            raise ValueError(f"only {seeing} use accelerators. Received: kubeflow.nodes.{blind[0]}.gpu")
        return self
