"""A Grafana dashboard on what TensorFlow Serving exports."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from .alerts import FAULTS, answered_matcher, failed_share, model_matcher, path_matcher
from .metrics import BATCH_QUEUE, LOAD_TIME, LOADS, REQUEST_LATENCY, REQUESTS, RUNTIME_LATENCY
from .plan import Plan

__all__ = ["dashboard", "dashboard_text"]

_SCHEMA_VERSION = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24

Query = tuple[str, str]
"""PromQL and the name of what it draws."""


def dashboard(plan: Plan) -> dict[str, Any]:
    """Return the dashboard, for import into Grafana or for its provisioning."""
    return {
        "uid": hashlib.sha256(f"headrace/{plan.name}".encode()).hexdigest()[:16],
        "title": f"Serving: {plan.model}",
        "tags": ["headrace", "tensorflow-serving"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
            ]
        },
        "panels": _panels(plan),
    }


def dashboard_text(plan: Plan) -> str:
    """Return the dashboard as JSON."""
    return json.dumps(dashboard(plan), indent=2, ensure_ascii=False) + "\n"


def _panels(plan: Plan) -> list[dict[str, Any]]:
    model, path = model_matcher(plan), path_matcher(plan)
    watch = plan.config.monitoring
    answered = answered_matcher(plan)
    share = f"{failed_share(plan, FAULTS, '$__rate_interval')} or vector(0)"
    drawn: list[dict[str, Any]] = [
        _graph("Requests by status", "reqps", [(_rate(REQUESTS, model, "status"), "{{status}}")]),
        _graph(
            "Requests that the server failed", "percentunit", [(share, "failed")], watch.error_percent / 100
        ),
        _graph(
            "Latency of answered requests",
            "µs",
            [(_quantile(quantile, REQUEST_LATENCY, answered), name) for quantile, name in _QUANTILES],
            watch.p99_ms * 1000,
        ),
        _graph(
            "Latency by door, 99 %",
            "µs",
            [(_quantile(0.99, REQUEST_LATENCY, answered, "entrypoint"), "{{entrypoint}}")],
        ),
        _graph(
            "In TensorFlow alone",
            "µs",
            [(_quantile(quantile, RUNTIME_LATENCY, model), name) for quantile, name in _QUANTILES],
        ),
        _graph("Requests by door and API", "reqps", [(_by_door(answered), "{{entrypoint}} {{API}}")]),
    ]
    if plan.batching:
        queries = [(_quantile(quantile, BATCH_QUEUE, ""), name) for quantile, name in _QUANTILES]
        drawn.append(_graph("Waiting for a batch", "µs", queries))
    drawn.append(
        _graph(
            "Loads by version",
            "short",
            [(f"sum by (model_path, status) ({LOADS}{{{path}}})", "{{model_path}} {{status}}")],
        )
    )
    drawn.append(
        _graph(
            "Time to load a version",
            "µs",
            [(f"max by (model_path) ({LOAD_TIME}{{{path}}})", "{{model_path}}")],
        )
    )
    return [_placed(number, panel) for number, panel in enumerate(drawn)]


_QUANTILES = ((0.5, "50 %"), (0.95, "95 %"), (0.99, "99 %"))


def _rate(name: str, matcher: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{matcher}}}[$__rate_interval]))"


def _by_door(answered: str) -> str:
    return _rate(f"{REQUEST_LATENCY}_count", answered, "entrypoint, API")


def _quantile(share: float, name: str, matcher: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    rate = f"rate({name}_bucket{{{matcher}}}[$__rate_interval])"
    return f"histogram_quantile({share:g}, sum by ({labels}) ({rate}))"


def _graph(title: str, unit: str, queries: Sequence[Query], bound: float | None = None) -> dict[str, Any]:
    """Return a panel of lines; `bound` is drawn as a threshold."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if bound is not None:
        steps.append({"color": "red", "value": bound})
    custom = {"fillOpacity": 8, "thresholdsStyle": {"mode": "off" if bound is None else "line"}}
    return {
        "type": "timeseries",
        "title": title,
        "datasource": dict(_SOURCE),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": dict(_SOURCE),
                "expr": query,
                "legendFormat": name,
            }
            for number, (query, name) in enumerate(queries)
        ],
    }


def _placed(number: int, panel: dict[str, Any]) -> dict[str, Any]:
    per_row = _COLUMNS // _WIDTH
    position = {"x": number % per_row * _WIDTH, "y": number // per_row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    return {"id": number + 1, **panel, "gridPos": position}
