"""Docker compose on one machine: the server, and with the profile `monitoring` Prometheus and Grafana."""

import os
from pathlib import Path
from typing import Any

from .plan import GRPC_PORT, REST_PORT, Plan
from .pod import USER
from .server_files import CONFIG_FOLDER, METRICS_PATH, MODELS_FOLDER, server_arguments
from .yaml_text import Document
from .yaml_text import Path as Keys

__all__ = ["compose_documents"]

_PROMETHEUS = "prom/prometheus:v3.5.0"
_GRAFANA = "grafana/grafana:12.0.0"
_UNITS = {"Mi": "m", "Gi": "g", "Ti": "t"}


def compose_documents(plan: Plan, folder: Path) -> dict[str, Document]:
    """Return the YAML files: path below `folder` -> document.

    Args:
        plan: What is deployed.
        folder: Where they will be; the push folder is named from there.
    """
    return {
        "compose.yaml": _compose(plan, folder),
        "prometheus.yaml": _prometheus(plan),
        "grafana/datasources.yaml": _datasources(),
        "grafana/dashboards.yaml": _dashboards(),
    }


def _compose(plan: Plan, folder: Path) -> Document:
    models = os.path.relpath(plan.repository.absolute(), folder.absolute())
    data = {
        "name": plan.name,
        "services": {
            "serving": _serving(plan, Path(models).as_posix()),
            "prometheus": _prometheus_service(plan),
            "grafana": _grafana_service(plan),
        },
    }
    comments: dict[Keys, str] = {
        ("services", "serving", "command"): "headrace serve takes the same command line and the same files.",
        ("services", "serving", "user"): "Any number but 0; it must be able to read the models.",
        (
            "services",
            "serving",
            "init",
        ): "The server does not handle SIGTERM: without an init process it would "
        "ignore it and be killed after 10 s.",
        (
            "services",
            "serving",
            "volumes",
            1,
        ): "MODELS in the environment or in .env names another folder, with "
        "<model>/<version> in it. A new version is served within 10 s.",
        ("services", "serving", "healthcheck"): "The image has no curl, but a shell that opens sockets.",
        ("services", "prometheus", "profiles"): "docker compose --profile monitoring up -d",
    }
    return data, comments


def _locked_down() -> dict[str, Any]:
    return {
        "restart": "unless-stopped",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _serving(plan: Plan, models: str) -> dict[str, Any]:
    address, compose = plan.config.compose.address, plan.config.compose
    memory, unit = plan.config.resources.memory[:-2], plan.config.resources.memory[-2:]
    request = f"GET /v1/models/{plan.model} HTTP/1.0"
    check = (
        f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && printf '{request}\\r\\n\\r\\n' >&3 && "
        "grep -q AVAILABLE <&3"
    )
    return {
        "image": plan.image,
        "entrypoint": ["/usr/bin/tensorflow_model_server"],
        "command": [argument.replace("$", "$$") for argument in server_arguments(plan)],
        "user": f"{USER}:{USER}",
        "init": True,
        **_locked_down(),
        "tmpfs": ["/tmp:size=64m"],
        "ports": [
            f"{address}:{compose.grpc_port}:{GRPC_PORT}",
            f"{address}:{compose.rest_port}:{REST_PORT}",
        ],
        "volumes": [
            _bound("./config", CONFIG_FOLDER),
            _bound(f"${{MODELS:-{models}}}", MODELS_FOLDER),
        ],
        "deploy": {
            "resources": {
                "limits": {"cpus": f"{plan.config.resources.cpu:g}", "memory": f"{memory}{_UNITS[unit]}"}
            }
        },
        "healthcheck": {
            "test": ["CMD", "bash", "-c", check],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{plan.config.start_s}s",
        },
    }


def _prometheus_service(plan: Plan) -> dict[str, Any]:
    return {
        "image": _PROMETHEUS,
        "profiles": ["monitoring"],
        **_locked_down(),
        "user": f"{USER}:{USER}",
        "command": ["--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/prometheus"],
        "tmpfs": [f"/prometheus:uid={USER},gid={USER},size=1g"],
        "ports": [f"{plan.config.compose.address}:9090:9090"],
        "volumes": [
            _bound("./prometheus.yaml", "/etc/prometheus/prometheus.yaml"),
            _bound("./prometheus-rules.yaml", "/etc/prometheus/rules.yaml"),
        ],
    }


def _grafana_service(plan: Plan) -> dict[str, Any]:
    return {
        "image": _GRAFANA,
        "profiles": ["monitoring"],
        **_locked_down(),
        "environment": {"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_ANALYTICS_REPORTING_ENABLED": "false"},
        "tmpfs": ["/var/lib/grafana:uid=472,gid=0,size=256m", "/tmp:size=64m"],
        "ports": [f"{plan.config.compose.address}:3000:3000"],
        "volumes": [
            _bound("./grafana/datasources.yaml", "/etc/grafana/provisioning/datasources/headrace.yaml"),
            _bound("./grafana/dashboards.yaml", "/etc/grafana/provisioning/dashboards/headrace.yaml"),
            _bound("./grafana-dashboard.json", "/etc/grafana/dashboards/serving.json"),
        ],
    }


def _bound(source: str, target: str) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": source,
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _prometheus(plan: Plan) -> Document:
    data = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["/etc/prometheus/rules.yaml"],
        "scrape_configs": [
            {
                "job_name": plan.name,
                "metrics_path": METRICS_PATH,
                "static_configs": [{"targets": [f"serving:{REST_PORT}"]}],
            }
        ],
    }
    return data, {}


def _datasources() -> Document:
    source = {"name": "Prometheus", "type": "prometheus", "url": "http://prometheus:9090", "isDefault": True}
    return {"apiVersion": 1, "datasources": [source]}, {}


def _dashboards() -> Document:
    provider = {"name": "headrace", "type": "file", "options": {"path": "/etc/grafana/dashboards"}}
    return {"apiVersion": 1, "providers": [provider]}, {}
