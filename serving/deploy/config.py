"""The `deploy` section: where and how TensorFlow Serving runs in production."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from headrace.data.local_path import LOCAL
from headrace.data.section import MAY_HOLD_SECRET, Section

__all__ = [
    "OWN_LABELS",
    "AccessConfig",
    "BatchingConfig",
    "BucketModels",
    "ComposeConfig",
    "DeployConfig",
    "ModelsConfig",
    "MonitoringConfig",
    "ReplicasConfig",
    "ResourcesConfig",
    "ServerTolerationConfig",
    "ServiceConfig",
    "VolumeModels",
]

_LABEL = r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$"
_QUANTITY = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
_IMAGE = r"^[a-z0-9][^\s@]*:[\w][\w.-]{0,127}(@sha256:[0-9a-f]{64})?$"

OWN_LABELS = tuple(f"app.kubernetes.io/{key}" for key in ("name", "instance", "component", "managed-by"))
"""Labels that every object has, and that select the pods."""

Name = Annotated[str, Field(pattern=_LABEL)]
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$")]
_LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
LabelKey = Annotated[str, Field(pattern=_LABEL_KEY)]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]


class ReplicasConfig(Section):
    """How many servers run.

    Attributes:
        min: Fewest, >= 1. Two outlive the loss of a node or zone.
        max: Most, >= `min`; where they are equal, nothing scales.
        cpu_percent: Mean use of the requested CPU from which servers are added, in [10, 95].
    """

    min: Annotated[int, Field(ge=1, le=1000)] = 2
    max: Annotated[int, Field(ge=1, le=1000)] = 6
    cpu_percent: Annotated[int, Field(ge=10, le=95)] = 70

    @model_validator(mode="after")
    def _ordered(self) -> "ReplicasConfig":
        if self.max < self.min:
            raise ValueError(
                f"`deploy.replicas.max` must be at least `min` ({self.min}). Received: {self.max}"
            )
        return self


class ResourcesConfig(Section):
    """What one server is given; request and limit are the same.

    Attributes:
        cpu: Cores, > 0. TensorFlow's thread pools are set to it, since they would count the node's cores.
        memory: Memory, as Kubernetes writes it. While a new version is loaded, the old one is held too.
    """

    cpu: Annotated[float, Field(gt=0, le=256)] = 2.0
    memory: Quantity = "2Gi"

    @property
    def threads(self) -> int:
        """Threads that the cores can feed."""
        return max(1, math.ceil(self.cpu))

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return int(self.memory[:-2]) << {"Mi": 20, "Gi": 30, "Ti": 40}[self.memory[-2:]]


class VolumeModels(Section):
    """The model repository is a volume; on a single machine it is the push folder.

    Attributes:
        claim: PersistentVolumeClaim that exists; null: one is made.
        storage_class: Storage class of the claim that is made; null: the cluster's default.
        access_mode: Of that claim. ReadWriteOnce is mounted by one node alone, so it needs one replica.
        size: Of that claim.
        folder: Folder in the volume that holds `<model>/<version>`; empty: its top.
    """

    kind: Literal["volume"] = "volume"
    claim: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    storage_class: Text | None = None
    access_mode: Literal["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"] = "ReadWriteMany"
    size: Quantity = "10Gi"
    folder: Annotated[str, Field(pattern=r"^([\w-][\w.-]*(/[\w-][\w.-]*)*)?$"), LOCAL] = ""

    @model_validator(mode="after")
    def _writable(self) -> "VolumeModels":
        if self.claim is None and self.access_mode == "ReadOnlyMany":
            raise ValueError(
                "`deploy.models.access_mode: ReadOnlyMany` needs `deploy.models.claim`, since nothing could "
                "be put into a new volume. Received: no claim"
            )
        return self


class BucketModels(Section):
    """The model repository is in a bucket, which a container beside the server copies from.

    The image of TensorFlow Serving reads no s3:// since 2.7, and a download is not atomic. A version is
    served once all files that its manifest.json names have arrived with the right SHA-256.

    Attributes:
        uri: Folder that holds `<model>/<version>`: s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.
        endpoint: URL of an S3 store that is not AWS's, such as MinIO; null: AWS.
        region: Region of the bucket; null: the store's default.
        secret: Secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or with the file key.json of
            a Google service account; null: the identity of the pod.
        identity: Annotations of the service account that give the pod an identity of the cloud.
        every_s: Seconds between two looks at the bucket, in [5, 3600].
        size: Disk for the copies.
        image: rclone, with a pinned tag.
    """

    kind: Literal["bucket"]
    uri: Annotated[str, Field(pattern=r"^(s3|gs)://[a-z0-9][a-z0-9._-]*[a-z0-9](/[\w.=-]+)*/?$")]
    endpoint: Annotated[Annotated[str, Field(pattern=r"^https?://[^\s/]+/?$")] | None, MAY_HOLD_SECRET] = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    secret: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    identity: dict[LabelKey, Text] = Field(default_factory=dict)
    every_s: Annotated[int, Field(ge=5, le=3600)] = 30
    size: Quantity = "10Gi"
    image: Annotated[str, Field(pattern=_IMAGE)] = "rclone/rclone:1.69.1"

    @model_validator(mode="after")
    def _store(self) -> "BucketModels":
        if self.endpoint is not None and not self.uri.startswith("s3://"):
            raise ValueError(
                f"`deploy.models.endpoint` is for s3:// alone. Received: it with {self.uri} (uri)"
            )
        if self.image.partition("@")[0].endswith(":latest"):
            raise ValueError("`deploy.models.image` must name one version of the image. Received: latest")
        return self


ModelsConfig = Annotated[VolumeModels | BucketModels, Field(discriminator="kind")]


class BatchingConfig(Section):
    """How the server puts requests together.

    Attributes:
        enabled: Whether it does; "auto" leaves it out where rows hold lists of any length, which TensorFlow
            Serving cannot stack.
        max_rows: Most rows in a run, in [1, 100000]. A larger request is split, if it has at most
            `max_waiting` times as many and at most 65,536.
        timeout_us: Microseconds that a batch waits to fill, >= 0. On CPUs 0 is often best.
        max_waiting: Batches that may wait; more requests are refused as UNAVAILABLE, >= 1.
    """

    enabled: bool | Literal["auto"] = "auto"
    max_rows: Annotated[int, Field(ge=1, le=100_000)] = 1024
    timeout_us: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] = 100


class ServiceConfig(Section):
    """How clients reach the servers.

    Attributes:
        type: Kind of the Kubernetes Service.
        annotations: For the cloud's load balancer.
        source_ranges: Networks (CIDR) outside the cluster that may call, where `type` is not ClusterIP; none:
            all.
    """

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    annotations: dict[LabelKey, Text] = Field(default_factory=dict)
    source_ranges: tuple[Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/\d{1,3}$")], ...] = ()

    @model_validator(mode="after")
    def _outside(self) -> "ServiceConfig":
        if self.source_ranges and self.type == "ClusterIP":
            raise ValueError(
                "`deploy.service.source_ranges` needs `deploy.service.type: LoadBalancer` or NodePort. "
                "Received: ClusterIP"
            )
        return self


class AccessConfig(Section):
    """Who may call the servers inside the cluster.

    Attributes:
        namespaces: Namespaces whose pods may, beside the servers' own; `["*"]`: all.
    """

    namespaces: tuple[Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")], ...] = ()


class ServerTolerationConfig(Section):
    """A taint that the pods tolerate, as Kubernetes writes it.

    Attributes:
        key: Key of the taint; null with `operator: Exists`: every taint.
        operator: Equal compares `value`; Exists does not.
        value: Value of the taint.
        effect: Effect of the taint; null: any.
    """

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _meaningful(self) -> "ServerTolerationConfig":
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(
                f"a toleration with `operator: Exists` must have no value. Received: {self.value}"
            )
        if self.operator == "Equal" and self.key is None:
            raise ValueError("a toleration with `operator: Equal` must have a key. Received: none")
        return self


class MonitoringConfig(Section):
    """What is watched, and when someone is told.

    Attributes:
        operator: Render objects of the Prometheus operator (PodMonitor, PrometheusRule) and a ConfigMap that
            Grafana's sidecar reads, beside the plain files.
        namespace: Namespace of Prometheus, which may scrape.
        p99_ms: Latency in milliseconds that 99 % of requests should stay under, > 0.
        error_percent: Share of requests that may fail by the server's fault, in (0, 100).
    """

    operator: bool = False
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = "monitoring"
    p99_ms: Annotated[float, Field(gt=0, le=600_000)] = 250.0
    error_percent: Annotated[float, Field(gt=0, lt=100)] = 1.0


class ComposeConfig(Section):
    """Docker compose, on one machine.

    Attributes:
        address: Address that the ports are published on; 0.0.0.0 opens them to the network.
        rest_port: Port of REST, in [1, 65535].
        grpc_port: Port of gRPC, in [1, 65535].
    """

    address: Annotated[str, Field(pattern=r"^[0-9.]+$")] = "127.0.0.1"
    rest_port: Annotated[int, Field(ge=1, le=65535)] = 8501
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = 8500

    @model_validator(mode="after")
    def _distinct(self) -> "ComposeConfig":
        if self.rest_port == self.grpc_port:
            raise ValueError(
                f"`deploy.compose.rest_port` and `grpc_port` must differ. Received: {self.rest_port} for both"
            )
        return self


class DeployConfig(Section):
    """TensorFlow Serving in production; `headrace deploy render` writes the files. Has no effect on a run.

    Attributes:
        name: Name of the Kubernetes objects; null: the model's, in the letters that Kubernetes takes.
        image: Image of TensorFlow Serving.
        tag: Its tag, also with a digest (`2.20.0@sha256:...`); never `latest`.
        pull_secret: Secret for a private registry; null: none.
        namespace: Kubernetes namespace, which is rendered too; null: that of the kubectl context.
        labels: Further labels of every object.
        pod_annotations: Further annotations of the pods.
        arguments: Further flags of tensorflow_model_server, such as `--ssl_config_file=...`.
        versions: How many of the latest versions are served, in [1, 20].
        start_s: Seconds that a server may take until it answers, in [10, 3600].
        drain_s: Seconds that a server goes on answering after it was told to end, in [5, 600].
        node_selector: Labels of the nodes that may run it.
        tolerations: Taints of nodes that are tolerated.
    """

    name: Name | None = None
    image: Annotated[str, Field(pattern=r"^[a-z0-9][^\s@]*$")] = "tensorflow/serving"
    tag: Annotated[str, Field(pattern=r"^[\w][\w.-]{0,127}(@sha256:[0-9a-f]{64})?$")] = "2.20.0"
    pull_secret: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] | None = "serving"
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    pod_annotations: dict[LabelKey, Text] = Field(default_factory=dict)
    arguments: Annotated[
        tuple[Annotated[str, Field(pattern=r"^--[a-z][a-z0-9_]*(=[^\x00-\x1f]*)?$")], ...], MAY_HOLD_SECRET
    ] = ()
    replicas: ReplicasConfig = ReplicasConfig()
    resources: ResourcesConfig = ResourcesConfig()
    models: ModelsConfig = VolumeModels()
    versions: Annotated[int, Field(ge=1, le=20)] = 1
    batching: BatchingConfig = BatchingConfig()
    start_s: Annotated[int, Field(ge=10, le=3600)] = 300
    drain_s: Annotated[int, Field(ge=5, le=600)] = 30
    service: ServiceConfig = ServiceConfig()
    access: AccessConfig = AccessConfig()
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    tolerations: tuple[ServerTolerationConfig, ...] = ()
    monitoring: MonitoringConfig = MonitoringConfig()
    compose: ComposeConfig = ComposeConfig()

    @model_validator(mode="after")
    def _possible(self) -> "DeployConfig":
        if self.tag.partition("@")[0] == "latest":
            raise ValueError("`deploy.tag` must name one version of the image. Received: latest")
        models = self.models
        if (
            isinstance(models, VolumeModels)
            and models.access_mode == "ReadWriteOnce"
            and self.replicas.max > 1
        ):
            raise ValueError(
                "`deploy.models.access_mode: ReadWriteOnce` is mounted by one node alone, so "
                f"`deploy.replicas.max` must be 1. Received: {self.replicas.max}"
            )
        reserved = [key for key in self.labels if key in OWN_LABELS]
        if reserved:
            raise ValueError(f"`deploy.labels` must leave the objects' own labels. Received: {reserved[0]}")
        return self
