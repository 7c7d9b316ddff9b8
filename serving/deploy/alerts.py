"""Prometheus rules on what TensorFlow Serving exports."""

from typing import Any

from .metrics import BATCH_QUEUE, COMPUTATIONS, LOADS, REQUEST_LATENCY, REQUESTS, SERVER_FAULTS
from .plan import Plan
from .server_files import MODELS_FOLDER
from .yaml_text import Document, Path

__all__ = [
    "FAULTS",
    "answered_matcher",
    "failed_share",
    "model_matcher",
    "path_matcher",
    "rule_groups",
    "rules_document",
]

FAULTS = "|".join(SERVER_FAULTS)
"""Regular expression of the statuses that are the server's fault."""


def model_matcher(plan: Plan) -> str:
    """Return the matcher of the model's requests."""
    return f'model_name="{plan.model}"'


def path_matcher(plan: Plan) -> str:
    """Return the matcher of the model's versions, which are known by their folders."""
    return f'model_path=~"{MODELS_FOLDER}/{plan.model}/.+"'


def answered_matcher(plan: Plan) -> str:
    """Return the matcher of the model's computations, without what probes ask for."""
    return f"{model_matcher(plan)},{COMPUTATIONS}"


def failed_share(plan: Plan, statuses: str, window: str) -> str:
    """Return PromQL for the share of computations that ended with one of `statuses`.

    The counter of requests has no API in its labels, and probes would thin the share out: what was answered
    is taken from the latencies.
    """
    matcher = f'{model_matcher(plan)},status=~"{statuses}"'
    failed = f"sum(rate({REQUESTS}{{{matcher}}}[{window}]))"
    answered = f"sum(rate({REQUEST_LATENCY}_count{{{answered_matcher(plan)}}}[{window}]))"
    return f"{failed} / ({failed} + ({answered} or vector(0)))"


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
    watch, answered = plan.config.monitoring, answered_matcher(plan)
    p99 = f"histogram_quantile(0.99, sum by (le) (rate({REQUEST_LATENCY}_bucket{{{answered}}}[5m])))"
    rules = [
        _rule(
            plan,
            "ServingErrors",
            f"{failed_share(plan, FAULTS, '5m')} > {watch.error_percent / 100:g}",
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
            f"{failed_share(plan, 'INVALID_ARGUMENT', '15m')} > 0.2",
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
