"""Metrics that tensorflow_model_server exports, as Prometheus reads them: what rules and panels may name.

Their names have a colon for every slash, the first one included (util/prometheus_exporter.cc).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BATCH_QUEUE",
    "COMPUTATIONS",
    "LOADS",
    "LOAD_TIME",
    "METRICS",
    "REQUESTS",
    "REQUEST_LATENCY",
    "RUNTIME_LATENCY",
    "SERVER_FAULTS",
    "Metric",
    "series",
]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        kind: Prometheus' type. A histogram has the series _bucket, _sum and _count.
        labels: Names of its labels.
        source: File of tensorflow/serving, or of tensorflow/tensorflow, that defines it.
        embedded: Whether `headrace serve` exports it too.
    """

    kind: Literal["counter", "histogram"]
    labels: tuple[str, ...]
    source: str
    embedded: bool = False


REQUESTS = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
RUNTIME_LATENCY = ":tensorflow:serving:runtime_latency"
BATCH_QUEUE = ":tensorflow:serving:batching_session:queuing_latency"
LOADS = ":tensorflow:cc:saved_model:load_attempt_count"
LOAD_TIME = ":tensorflow:cc:saved_model:load_latency"

_UTIL = "tensorflow_serving/servables/tensorflow/util.cc"
_LOADER = "tensorflow/cc/saved_model/loader.cc"

METRICS: Mapping[str, Metric] = {
    REQUESTS: Metric("counter", ("model_name", "status"), _UTIL, embedded=True),
    REQUEST_LATENCY: Metric("histogram", ("model_name", "API", "entrypoint"), _UTIL, embedded=True),
    RUNTIME_LATENCY: Metric("histogram", ("model_name", "API", "runtime"), _UTIL),
    BATCH_QUEUE: Metric(
        "histogram", ("thread_pool_name",), "tensorflow_serving/batching/batching_session.cc"
    ),
    LOADS: Metric("counter", ("model_path", "status"), _LOADER, embedded=True),
    LOAD_TIME: Metric("counter", ("model_path",), _LOADER, embedded=True),
}
"""Name -> metric. Latencies are in microseconds; that of requests counts answered requests alone."""

SERVER_FAULTS = (
    "ABORTED",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNKNOWN",
)
"""Values of `status` that are not the caller's fault."""

COMPUTATIONS = 'API=~"(?i)predict|classify|regress|multiinference"'
"""Matcher that leaves out what probes ask for; REST writes the API's name in small letters."""


def series() -> dict[str, tuple[str, ...]]:
    """Return every series that Prometheus stores, with its labels."""
    found: dict[str, tuple[str, ...]] = {}
    for name, metric in METRICS.items():
        if metric.kind == "counter":
            found[name] = metric.labels
            continue
        found[f"{name}_bucket"] = (*metric.labels, "le")
        found |= {f"{name}_sum": metric.labels, f"{name}_count": metric.labels}
    return found
