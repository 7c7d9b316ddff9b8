"""Prometheus rules on what TensorFlow Serving exports."""

from typing import Any

from .metrics import BATCH_QUEUE, LOADS, REQUEST_LATENCY, REQUESTS, SERVER_FAULTS
from .plan import Plan
from .server_files import MODELS_FOLDER
from .yaml_text import Document, Path

__all__ = ["model_matcher", "path_matcher", "rule_groups", "rules_document"]


def model_matcher(plan: Plan) -> str:
    """Return the matcher of the model's requests."""
    return f'model_name="{plan.model}"'


def path_matcher(plan: Plan) -> str:
    """Return the matcher of the model's versions, which are known by their folders."""
    return f'model_path=~"{MODELS_FOLDER}/{plan.model}/.+"'


def rule_groups(plan: Plan) -> dict[str, Any]:
    """Return the groups of a rule file."""
    return {
        "groups": [{"name": f"{plan.name}-serving", "rules": [*_request_rules(plan), *_load_rules(plan)]}]
    }


def rules_document(plan: Plan) -> Document:
    """Return a rule file."""
    comments: dict[Path, str] = {
        (): "Rules for Prometheus on the metrics of tensorflow_model_server; latencies are in microseconds."
    }
    return rule_groups(plan), comments


def _request_rules(plan: Plan) -> list[dict[str, Any]]:
    model = model_matcher(plan)
    faults = f'{model},status=~"{"|".join(SERVER_FAULTS)}"'
    watch = plan.config.monitoring
    share = f"sum(rate({REQUESTS}{{{faults}}}[5m])) / sum(rate({REQUESTS}{{{model}}}[5m]))"
    refused = f'sum(rate({REQUESTS}{{{model},status="INVALID_ARGUMENT"}}[15m]))'
    p99 = f"histogram_quantile(0.99, sum by (le) (rate({REQUEST_LATENCY}_bucket{{{model}}}[5m])))"
    rules = [
        _rule(
            plan,
            "ServingErrors",
            f"{share} > {watch.error_percent / 100:g}",
            "5m",
            "critical",
            f"Requests to {plan.model} fail",
            f"More than {watch.error_percent:g} % of the requests to {plan.model} failed by the server's "
            "fault: {{ $value | humanizePercentage }}. UNAVAILABLE means a full batching queue.",
        ),
        _rule(
            plan,
            "ServingSlow",
            f"{p99} > {watch.p99_ms * 1000:g}",
            "10m",
            "warning",
            f"{plan.model} answers slowly",
            f"99 % of the requests to {plan.model} should take less than {watch.p99_ms:g} ms; they take "
            "{{ $value | humanize }} us.",
        ),
        _rule(
            plan,
            "ServingRefusesInputs",
            f"{refused} / sum(rate({REQUESTS}{{{model}}}[15m])) > 0.2",
            "15m",
            "warning",
            f"Clients send {plan.model} what it does not take",
            "{{ $value | humanizePercentage }} of the requests are INVALID_ARGUMENT: did a column change on "
            "one side only?",
        ),
    ]
    if plan.batching:
        waits = f"histogram_quantile(0.99, sum by (le) (rate({BATCH_QUEUE}_bucket[5m])))"
        rules.append(
            _rule(
                plan,
                "ServingQueueGrows",
                f"{waits} > {watch.p99_ms * 1000 / 2:g}",
                "10m",
                "warning",
                f"Requests to {plan.model} wait for a batch",
                "Batches wait {{ $value | humanize }} us for a free thread, more than half of the latency "
                "that is allowed: more CPU or replicas are needed.",
            )
        )
    return rules


def _load_rules(plan: Plan) -> list[dict[str, Any]]:
    path = path_matcher(plan)
    return [
        _rule(
            plan,
            "ServingLoadFailed",
            f'sum by (model_path) (increase({LOADS}{{{path},status="fail"}}[15m])) > 0',
            "0m",
            "critical",
            f"A version of {plan.model} does not load",
            "{{ $labels.model_path }} could not be loaded. The version before it is still served; the "
            "server's log says why.",
        ),
        _rule(
            plan,
            "ServingNoVersion",
            f'absent({LOADS}{{{path},status="success"}})',
            "10m",
            "critical",
            f"No server has loaded {plan.model}",
            f"Prometheus sees no server that has loaded a version of {plan.model}: none runs, none is "
            "scraped, or the repository is empty.",
        ),
    ]


def _rule(
    plan: Plan, alert: str, expression: str, wait: str, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": alert,
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity, "model": plan.model},
        "annotations": {"summary": summary, "description": description},
    }
