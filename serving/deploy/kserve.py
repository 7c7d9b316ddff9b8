"""A KServe InferenceService, which brings a Deployment, a Service and an autoscaler of its own."""

from typing import Any

from .config import BucketModels
from .kubernetes import config_map, once, pod_annotations, service_account
from .objects import metadata
from .plan import Plan
from .pod import container_security, pod_security, probes, resources, spread
from .server_files import CONFIG_FOLDER, server_arguments, server_files
from .yaml_text import Document, Path

__all__ = ["kserve_documents"]

_REST_PORT = 8080  # of KServe's runtime for TensorFlow
_OWN = ("--port=", "--rest_api_port=", "--model_config_file", "--rest_api_timeout_in_ms=")


def kserve_documents(plan: Plan) -> dict[str, list[Document]]:
    """Return the manifests to apply: file name -> documents."""
    files = once(plan)
    secret = plan.bucket.secret if plan.bucket else None
    config = {name: text for name, text in server_files(plan).items() if name != "models.config"}
    files["10-config.yaml"] = [service_account(plan, secret), config_map(plan, config)]
    files["20-inference-service.yaml"] = [_inference_service(plan)]
    return files


def _inference_service(plan: Plan) -> Document:
    config = plan.config
    found, _ = probes(plan, _REST_PORT, _REST_PORT)
    model: dict[str, Any] = {
        "modelFormat": {"name": "tensorflow", "version": "2"},
        "protocolVersion": "v1",
        **_image(plan),
        "storageUri": _storage_uri(plan),
        "args": _arguments(plan),
        "ports": [{"containerPort": _REST_PORT, "protocol": "TCP"}],
        "resources": resources(plan),
        **found,
        "lifecycle": {"preStop": {"sleep": {"seconds": config.drain_s}}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}],
    }
    predictor: dict[str, Any] = {
        "annotations": pod_annotations(plan, _REST_PORT),
        "minReplicas": config.replicas.min,
        "maxReplicas": config.replicas.max,
        "scaleMetric": "cpu",
        "scaleTarget": config.replicas.cpu_percent,
        "serviceAccountName": plan.name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": config.drain_s + 5,
        "securityContext": pod_security(),
    }
    if config.pull_secret:
        predictor["imagePullSecrets"] = [{"name": config.pull_secret}]
    if config.node_selector:
        predictor["nodeSelector"] = dict(config.node_selector)
    if config.tolerations:
        predictor["tolerations"] = [one.model_dump(exclude_none=True) for one in config.tolerations]
    predictor["topologySpreadConstraints"] = spread({"serving.kserve.io/inferenceservice": plan.name})
    predictor["volumes"] = [{"name": "config", "configMap": {"name": f"{plan.name}-config"}}]
    predictor["model"] = model
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa",
    }
    data = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(plan, plan.name, annotations=annotations),
        "spec": {"predictor": predictor},
    }
    return data, _comments(plan)


def _image(plan: Plan) -> dict[str, str]:
    """Return the version of the runtime's image, or another image."""
    if plan.config.image == "tensorflow/serving" and "@" not in plan.config.tag:
        return {"runtimeVersion": plan.config.tag}
    return {"image": plan.image}


def _storage_uri(plan: Plan) -> str:
    models = plan.config.models
    if isinstance(models, BucketModels):
        return f"{models.uri.rstrip('/')}/{plan.model}"
    claim = models.claim or f"{plan.name}-models"
    return "/".join(part for part in (f"pvc://{claim}", models.folder, plan.model) if part)


def _arguments(plan: Plan) -> list[str]:
    """Return what the runtime's own command line lacks."""
    arguments = [one for one in server_arguments(plan) if not one.startswith(_OWN)]
    if plan.name != plan.model:  # the runtime says --model_name={{.Name}}, and the last one counts
        arguments.insert(0, f"--model_name={plan.model}")
    return arguments


def _comments(plan: Plan) -> dict[Path, str]:
    model = ("spec", "predictor", "model")
    notes: dict[Path, str] = {
        (
            "metadata",
            "annotations",
            "serving.kserve.io/deploymentMode",
        ): "A plain Deployment, without Knative. "
        "KServe before 0.16 calls it RawDeployment; later ones take `scaleMetric: cpu` with this name alone.",
        (
            *model,
            "args",
        ): "Added to those of KServe's runtime: --model_name, --port=9000, --rest_api_port=8080, "
        "--model_base_path=/mnt/models.",
    }
    if "runtimeVersion" in _image(plan):
        notes[*model, "runtimeVersion"] = "KServe's own default is older than the models' TensorFlow."
    if plan.bucket:
        notes[*model, "storageUri"] = (
            "The folder with the numbered versions. It is copied once, when a pod starts: a new version "
            "needs `kubectl rollout restart` of the predictor's Deployment."
        )
    else:
        notes[*model, "storageUri"] = (
            "The folder with the numbered versions, mounted: a new version is served within 10 s."
        )
    return notes
