"""Kubernetes manifests, as plain data."""

import hashlib
import json
from collections.abc import Mapping

from .bucket import SCRIPT
from .config import VolumeModels
from .network import network_policy
from .objects import Object, metadata
from .plan import GRPC_PORT, REST_PORT, Plan
from .pod import CONTAINER, container_security, pod_security, pod_spec
from .server_files import METRICS_PATH, MODELS_FOLDER, server_files
from .yaml_text import Document, Path

__all__ = ["config_map", "kubernetes_documents", "once", "pod_annotations", "service_account"]


def kubernetes_documents(plan: Plan) -> dict[str, list[Document]]:
    """Return the manifests to apply: file name -> documents. They sort in the order of need."""
    files = once(plan)
    files["20-config.yaml"] = [service_account(plan), config_map(plan, server_files(plan)), *_copying(plan)]
    files["30-deployment.yaml"] = [_deployment(plan)]
    files["40-service.yaml"] = [_service(plan)]
    files["50-availability.yaml"] = [*_autoscaler(plan), _disruption_budget(plan)]
    files["60-network-policy.yaml"] = [network_policy(plan)]
    return files


def once(plan: Plan) -> dict[str, list[Document]]:
    """Return what outlives a deployment: the namespace and the volume.

    They have a folder of their own, so that `kubectl delete -f` of the rest leaves other models' pods and
    all versions alone.
    """
    files: dict[str, list[Document]] = {}
    if plan.config.namespace:
        files["once/00-namespace.yaml"] = [_namespace(plan)]
    models = plan.config.models
    if isinstance(models, VolumeModels) and models.claim is None:
        files["once/10-models.yaml"] = [_claim(plan, models)]
    if isinstance(models, VolumeModels) and models.access_mode != "ReadOnlyMany":
        files["by-hand/upload.yaml"] = [_upload_pod(plan, models)]
    return files


def _namespace(plan: Plan) -> Document:
    """Return the namespace, which admits pods of the `restricted` standard alone."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    data = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": plan.config.namespace, "labels": labels},
    }
    comment = "All pods that are rendered conform. Without the label, others are admitted too."
    return data, {("metadata", "labels"): comment}


def service_account(plan: Plan, secret: str | None = None) -> Document:
    """Return the identity of the pods; KServe takes a bucket's secret from there."""
    identity = dict(plan.bucket.identity) if plan.bucket else {}
    data = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, plan.name, **({"annotations": identity} if identity else {})),
        "automountServiceAccountToken": False,
    }
    return (data | {"secrets": [{"name": secret}]} if secret else data), {}


def config_map(plan: Plan, files: Mapping[str, str]) -> Document:
    """Return the server's config files."""
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, f"{plan.name}-config"),
        "data": dict(files),
    }
    return data, {("data", name): comment for name, comment in _ABOUT.items() if name in files}


_ABOUT = {
    "models.config": "ModelServerConfig. Read again every minute: a change needs no restart.",
    "monitoring.config": "MonitoringConfig.",
    "batching.config": "BatchingParameters. max_batch_size bounds a request, max_execution_batch_size a run: "
    "larger requests are split. A change restarts the pods, by their annotation checksum/config.",
}


def _upload_pod(plan: Plan, models: VolumeModels) -> Document:
    """Return a pod that mounts the repository's volume for writing, to copy versions into it."""
    mount = {"name": "models", "mountPath": MODELS_FOLDER}
    if models.folder:
        mount["subPath"] = models.folder
    name = f"{plan.name}-upload"
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "headrace"}
    container = {
        "name": "upload",
        "image": plan.image,
        "command": ["/bin/sleep", "3600"],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": container_security(),
        "volumeMounts": [mount],
    }
    claim = {"claimName": models.claim or f"{plan.name}-models"}
    spec: Object = {
        "serviceAccountName": plan.name,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 3600,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "models", "persistentVolumeClaim": claim}],
    }
    comments: dict[Path, str] = {}
    if models.access_mode == "ReadWriteOnce":
        term = {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": dict(plan.selector)},
        }
        spec["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        comments["spec", "affinity"] = "Only the server's node mounts the volume."
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata(plan, name), "labels": labels},
        "spec": spec,
    }
    where = f"-n {plan.config.namespace} " if plan.config.namespace else ""
    folder = f"{MODELS_FOLDER}/{plan.model}"
    head = (
        "Puts versions into the volume; apply it by hand, and delete it after. A folder is copied under a "
        "hidden name and then renamed, so that no server sees half of it. For version 1, in PUSH/serving:\n"
        f"kubectl {where}exec {name} -- mkdir -p {folder}\n"
        f"kubectl {where}cp {plan.model}/1 {name}:{folder}/.incoming\n"
        f"kubectl {where}exec {name} -- mv {folder}/.incoming {folder}/1"
    )
    return data, {(): head, **comments}


def _copying(plan: Plan) -> list[Document]:
    """Return the script that copies from the bucket, if there is one."""
    if plan.bucket is None:
        return []
    data: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, f"{plan.name}-copy"),
        "data": {"copy-models.sh": SCRIPT},
    }
    return [(data, {})]


def _claim(plan: Plan, models: VolumeModels) -> Document:
    """Return the claim of the volume."""
    spec: Object = {
        "accessModes": [models.access_mode],
        "resources": {"requests": {"storage": models.size}},
    }
    if models.storage_class is not None:
        spec["storageClassName"] = models.storage_class
    data = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(plan, f"{plan.name}-models"),
        "spec": spec,
    }
    comment = (
        "Every node that runs a server mounts it, which needs a storage class for files (NFS, EFS, "
        "Filestore, CephFS); with ReadWriteOnce there can be one replica."
    )
    return data, {("spec", "accessModes"): comment}


def _deployment(plan: Plan) -> Document:
    config = plan.config
    spec, notes = pod_spec(plan)
    deployment: Object = {"replicas": config.replicas.min}
    comments: dict[Path, str] = {}
    if config.replicas.max > config.replicas.min:
        deployment = {}
        comments["spec",] = "No replicas here: the autoscaler sets them, and applying this again must not."
    models = config.models
    single = isinstance(models, VolumeModels) and models.access_mode == "ReadWriteOnce"
    strategy: Object = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    if single:
        strategy = {"type": "Recreate"}
        comments["spec", "strategy"] = (
            "A new pod on another node could not mount the volume beside the old one."
        )
    deployment |= {
        "revisionHistoryLimit": 5,
        "minReadySeconds": 5,
        # A pod that copies from a bucket first waits for that, as long again.
        "progressDeadlineSeconds": config.start_s * (2 if plan.bucket else 1) + 120,
        "strategy": strategy,
        "selector": {"matchLabels": dict(plan.selector)},
        "template": {
            "metadata": {
                "labels": dict(plan.labels),
                "annotations": pod_annotations(plan, REST_PORT),
            },
            "spec": spec,
        },
    }
    comments |= {("spec", "template", "spec", *path): text for path, text in notes.items()}
    data = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, plan.name),
        "spec": deployment,
    }
    return data, comments


def pod_annotations(plan: Plan, port: int) -> dict[str, str]:
    """Return the pods' annotations.

    The checksum is over the files whose change needs a restart, and so makes it.
    """
    files = {name: text for name, text in server_files(plan).items() if name != "models.config"}
    files |= {"copy-models.sh": SCRIPT} if plan.bucket else {}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    found = {"checksum/config": digest}
    if not plan.config.monitoring.operator:
        found |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(port),
            "prometheus.io/path": METRICS_PATH,
        }
    return found | dict(plan.config.pod_annotations)


def _service(plan: Plan) -> Document:
    service = plan.config.service
    spec: Object = {"type": service.type, "selector": dict(plan.selector)}
    if service.type == "LoadBalancer" and service.source_ranges:
        spec["loadBalancerSourceRanges"] = list(service.source_ranges)
    comments: dict[Path, str] = {}
    if service.type != "ClusterIP":
        comments["spec", "type"] = "The server itself has no TLS here and asks nobody for a password."
        spec["externalTrafficPolicy"] = "Local"
        comments["spec", "externalTrafficPolicy"] = (
            "Keeps the callers' addresses, which the network policy checks."
        )
    spec["ports"] = [
        {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
        {"name": "rest", "port": REST_PORT, "targetPort": "rest", "appProtocol": "http"},
    ]
    more = {"annotations": dict(service.annotations)} if service.annotations else {}
    data = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, plan.name, **more),
        "spec": spec,
    }
    return data, comments


def _autoscaler(plan: Plan) -> list[Document]:
    replicas = plan.config.replicas
    if replicas.max == replicas.min:
        return []
    metric = {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": CONTAINER,
            "target": {"type": "Utilization", "averageUtilization": replicas.cpu_percent},
        },
    }
    data = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(plan, plan.name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name},
            "minReplicas": replicas.min,
            "maxReplicas": replicas.max,
            "metrics": [metric],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
        },
    }
    comments: dict[Path, str] = {
        ("spec", "metrics"): "The CPU of the server alone; the cluster needs metrics-server.",
        (
            "spec",
            "behavior",
        ): "Up at once, for a full queue refuses requests; down slowly, for a new server has "
        "to load and warm up.",
    }
    return [(data, comments)]


def _disruption_budget(plan: Plan) -> Document:
    data = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(plan, plan.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(plan.selector)},
        },
    }
    comment = "Not minAvailable: with one replica that would keep its node from ever being drained."
    return data, {("spec", "maxUnavailable"): comment}
