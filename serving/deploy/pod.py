"""The pod that serves: one container of TensorFlow Serving, and one beside it that copies from a bucket."""

from collections.abc import Mapping
from typing import Any

from .bucket import bucket_container, bucket_volumes
from .config import BucketModels
from .plan import GRPC_PORT, REST_PORT, Plan
from .server_files import CONFIG_FOLDER, MODELS_FOLDER, server_arguments
from .yaml_text import Path

__all__ = [
    "CONTAINER",
    "USER",
    "container_security",
    "pod_security",
    "pod_spec",
    "probes",
    "resources",
    "spread",
]

CONTAINER = "tensorflow-serving"
USER = 65532
"""Any number but 0 will do: the image names no user, and the server writes nowhere."""

_PERIOD_S = 5


def pod_spec(plan: Plan) -> tuple[dict[str, Any], dict[Path, str]]:
    """Return the pod's spec, and comments by their paths in it."""
    config = plan.config
    container, comments = _container(plan)
    spec: dict[str, Any] = {
        "serviceAccountName": plan.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": config.drain_s + 5,
        "securityContext": pod_security(),
    }
    notes: dict[Path, str] = {
        (
            "terminationGracePeriodSeconds",
        ): "TensorFlow Serving does not handle SIGTERM (serving issue 1853): as "
        "process 1 it goes on answering until this time is over."
    }
    if config.pull_secret:
        spec["imagePullSecrets"] = [{"name": config.pull_secret}]
    if plan.bucket:
        spec["initContainers"] = [bucket_container(plan, container_security())]
        notes["initContainers", 0] = (
            "Runs beside the server (a sidecar, Kubernetes 1.29 or later) and holds it back until there is a "
            "version to serve."
        )
    spec["containers"] = [container]
    spec["volumes"] = _volumes(plan)
    spec["topologySpreadConstraints"] = spread(plan.selector)
    notes["topologySpreadConstraints",] = (
        "Zones first, then nodes; a cluster with one of them still schedules."
    )
    if config.node_selector:
        spec["nodeSelector"] = dict(config.node_selector)
    if config.tolerations:
        spec["tolerations"] = [one.model_dump(exclude_none=True) for one in config.tolerations]
    notes |= {("containers", 0, *path): text for path, text in comments.items()}
    return spec, notes


def pod_security() -> dict[str, Any]:
    """Return a pod's security context, as the `restricted` standard wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Return a container's security context, as the `restricted` standard wants it."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(plan: Plan) -> dict[str, Any]:
    """Return what the server is given: the same as request and limit, which is the class Guaranteed."""
    given = {"cpu": f"{plan.config.resources.cpu:g}", "memory": plan.config.resources.memory}
    return {"requests": dict(given), "limits": given}


def probes(plan: Plan, rest: str | int, grpc: str | int) -> tuple[dict[str, Any], dict[Path, str]]:
    """Return the three probes, and comments on them.

    Args:
        plan: What is deployed.
        rest: Name or number of the REST port.
        grpc: Name or number of the gRPC port.
    """
    status = {"path": f"/v1/models/{plan.model}", "port": rest}
    found = {
        "startupProbe": {
            "httpGet": status,
            "periodSeconds": _PERIOD_S,
            "timeoutSeconds": 5,
            "failureThreshold": -(-plan.config.start_s // _PERIOD_S),
        },
        "readinessProbe": {
            "httpGet": dict(status),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "tcpSocket": {"port": grpc},
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }
    comments: dict[Path, str] = {
        (
            "startupProbe",
        ): "The ports open once every model of models.config has a version that was loaded and "
        "warmed up; without any version they stay closed.",
        ("livenessProbe",): "Only that the port accepts: a server with a full queue must not be restarted.",
    }
    return found, comments


def _container(plan: Plan) -> tuple[dict[str, Any], dict[Path, str]]:
    found, comments = probes(plan, "rest", "grpc")
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": plan.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": server_arguments(plan),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "rest", "containerPort": REST_PORT, "protocol": "TCP"},
        ],
        "resources": resources(plan),
        **found,
        "lifecycle": {"preStop": {"sleep": {"seconds": plan.config.drain_s}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            _models_mount(plan),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    comments |= {
        ("command",): "Not the image's entry point, a shell script that names a model of its own.",
        ("args",): "headrace serve takes the same command line and the same files.",
        ("resources",): "Equal requests and limits (class Guaranteed): memory is needed twice while versions "
        "change, and the thread pools above are as large as the cores.",
        (
            "lifecycle",
        ): "Endpoints forget a pod some seconds after it was told to end; until then it must answer "
        "(native sleep: Kubernetes 1.30 or later).",
    }
    return container, comments


def _models_mount(plan: Plan) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": "models", "mountPath": MODELS_FOLDER, "readOnly": True}
    models = plan.config.models
    if not isinstance(models, BucketModels) and models.folder:
        mount["subPath"] = models.folder
    return mount


def _volumes(plan: Plan) -> list[Mapping[str, Any]]:
    models = plan.config.models
    volumes: list[Mapping[str, Any]] = [{"name": "config", "configMap": {"name": f"{plan.name}-config"}}]
    if isinstance(models, BucketModels):
        volumes += bucket_volumes(plan, models)
    else:
        claim = models.claim or f"{plan.name}-models"
        source: dict[str, Any] = {"claimName": claim}
        if models.access_mode == "ReadOnlyMany":
            source["readOnly"] = True
        volumes.append({"name": "models", "persistentVolumeClaim": source})
    return [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]


def spread(selector: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return constraints that spread the pods of `selector` over zones, then over nodes."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
