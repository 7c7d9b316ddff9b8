"""Deployments that tests render, and the schemas that they are held to."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft201909Validator, Draft202012Validator
from referencing import Registry, Resource

from headrace.serving.deploy.config import DeployConfig
from headrace.serving.deploy.plan import Plan, make_plan
from headrace.serving.deploy.render import Target, render

SCHEMAS = Path(__file__).parent / "schemas"
FOLDER = Path("/somewhere/deploy")

DEPLOYMENTS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "single": {
        "namespace": None,
        "replicas": {"min": 1, "max": 1},
        "models": {"kind": "volume", "access_mode": "ReadWriteOnce", "storage_class": "fast"},
        "batching": {"enabled": False},
    },
    "claimed": {
        "name": "late-flights",
        "replicas": {"min": 3, "max": 3},
        "resources": {"cpu": 0.5, "memory": "768Mi"},
        "models": {
            "kind": "volume",
            "claim": "models.shared",
            "access_mode": "ReadOnlyMany",
            "folder": "a/b",
        },
        "service": {"type": "NodePort"},
        "access": {"namespaces": ["*"]},
    },
    "s3": {
        "image": "registry.example.org:5000/tensorflow/serving",
        "tag": "2.20.0@sha256:" + "0" * 64,
        "pull_secret": "registry",
        "labels": {"team": "air", "cost-center": "1e3"},
        "pod_annotations": {"sidecar.istio.io/inject": "false"},
        "arguments": ["--enable_signature_method_name_check=false"],
        "versions": 2,
        "models": {
            "kind": "bucket",
            "uri": "s3://models-of-air/serving/",
            "endpoint": "http://minio.minio:9000",
            "region": "eu-central-1",
            "secret": "minio",
        },
        "service": {
            "type": "LoadBalancer",
            "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
            "source_ranges": ["10.0.0.0/8"],
        },
        "access": {"namespaces": ["web", "batch"]},
        "node_selector": {"disk": "ssd"},
        "tolerations": [
            {"key": "dedicated", "value": "serving", "effect": "NoSchedule"},
            {"operator": "Exists", "effect": "NoExecute"},
        ],
        "monitoring": {"operator": True, "p99_ms": 50, "error_percent": 0.1},
    },
    "gcs": {
        "models": {
            "kind": "bucket",
            "uri": "gs://models-of-air",
            "identity": {"iam.gke.io/gcp-service-account": "serving@air.iam.gserviceaccount.com"},
        },
    },
    "gcs_with_key": {"models": {"kind": "bucket", "uri": "gs://models-of-air/x", "secret": "key"}},
}
"""Sections that between them use every setting."""


def plan_of(section: Mapping[str, Any], model: str = "flights", **more: Any) -> Plan:
    config = DeployConfig.model_validate(section)
    return make_plan(config, model, Path("/somewhere/push/serving"), source="flights.yaml", **more)


def rendered(
    section: Mapping[str, Any], target: Target, model: str = "flights", **more: Any
) -> dict[str, str]:
    return render(plan_of(section, model, **more), target, FOLDER / target)


def documents(texts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the Kubernetes objects in the YAML files."""
    for name, text in texts.items():
        if name.endswith(".yaml") and not name.startswith("monitoring/"):
            yield from yaml.safe_load_all(text)


def objects(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the objects by kind, or by kind/name where a kind has several."""
    found: dict[str, dict[str, Any]] = {}
    for document in documents(texts):
        found.setdefault(document["kind"], document)
        found[f"{document['kind']}/{document['metadata']['name']}"] = document
    return found


def container(texts: Mapping[str, str]) -> dict[str, Any]:
    (found,) = objects(texts)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def compose_errors(document: Mapping[str, Any]) -> list[str]:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text(encoding="utf-8"))
    return [error.message for error in Draft201909Validator(schema).iter_errors(document)]


def kserve_errors(document: Mapping[str, Any]) -> list[str]:
    schema = json.loads((SCHEMAS / "kserve-inference-service.json").read_text(encoding="utf-8"))
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema/v1.37.0-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    definitions.pop("$id")  # its own references are then relative to the name that it has here
    registry = Registry().with_resource("kubernetes", Resource.from_contents(definitions))
    return [error.message for error in Draft202012Validator(schema, registry=registry).iter_errors(document)]
