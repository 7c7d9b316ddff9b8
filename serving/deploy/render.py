"""From a plan to the text of every file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from .alerts import rule_groups, rules_document
from .compose import compose_documents
from .dashboard import dashboard_text
from .kserve import kserve_documents
from .kubernetes import kubernetes_documents
from .objects import metadata
from .plan import Plan
from .server_files import METRICS_PATH, server_files
from .yaml_text import Document, yaml_text

__all__ = ["TARGETS", "Target", "render"]

Target = Literal["compose", "kubernetes", "kserve"]
TARGETS: tuple[Target, ...] = get_args(Target)


def render(plan: Plan, target: Target, folder: Path) -> dict[str, str]:
    """Return the files of one target: path below `folder` -> text. Equal plans give equal texts.

    Args:
        plan: What is deployed.
        target: For what.
        folder: Where the files will be; docker compose names the push folder from there.
    """
    if target == "compose":
        files = {path: [one] for path, one in compose_documents(plan, folder).items()}
        texts = _texts(plan, files) | {f"config/{name}": text for name, text in server_files(plan).items()}
        texts["prometheus-rules.yaml"] = _headed(plan, [rules_document(plan)])
        texts["grafana-dashboard.json"] = dashboard_text(plan)
        return texts
    if target == "kserve":
        return _texts(plan, kserve_documents(plan))
    files = kubernetes_documents(plan)
    if plan.config.monitoring.operator:
        files["70-monitoring.yaml"] = _operated(plan)
    texts = _texts(plan, files)
    texts["monitoring/prometheus-rules.yaml"] = _headed(plan, [rules_document(plan)])
    texts["monitoring/grafana-dashboard.json"] = dashboard_text(plan)
    return texts


def _texts(plan: Plan, files: Mapping[str, Sequence[Document]]) -> dict[str, str]:
    return {name: _headed(plan, documents) for name, documents in files.items()}


def _headed(plan: Plan, documents: Sequence[Document]) -> str:
    source = f" {plan.source}" if plan.source else ""
    return (
        f"# Made by `headrace deploy render{source}`; a file that was edited is not overwritten.\n"
        + yaml_text(documents)
    )


def _operated(plan: Plan) -> list[Document]:
    """Return objects of the Prometheus operator, and the dashboard for Grafana's sidecar."""
    spec = {
        "selector": {"matchLabels": dict(plan.selector)},
        "podMetricsEndpoints": [{"port": "rest", "path": METRICS_PATH, "interval": "15s"}],
    }
    monitored: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(plan, plan.name),
        "spec": spec,
    }
    rules = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(plan, plan.name),
        "spec": rule_groups(plan),
    }
    labels = {**plan.labels, "grafana_dashboard": "1"}
    board = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata(plan, f"{plan.name}-dashboard"), "labels": labels},
        "data": {f"{plan.name}.json": json.dumps(json.loads(dashboard_text(plan)), indent=1) + "\n"},
    }
    return [(monitored, {}), (rules, {}), (board, {})]
