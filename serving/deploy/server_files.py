"""The files and the command line of tensorflow_model_server, the same for every target.

`headrace serve` takes the same command line and the same files.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .plan import GRPC_PORT, REST_PORT, Plan

__all__ = ["CONFIG_FOLDER", "METRICS_PATH", "MODELS_FOLDER", "server_arguments", "server_files"]

CONFIG_FOLDER = "/config"
MODELS_FOLDER = "/models"
METRICS_PATH = "/monitoring/prometheus/metrics"

_SPLIT_UP_TO = 65_536
_REST_TIMEOUT_MS = 30_000


def server_files(plan: Plan) -> dict[str, str]:
    """Return the config files: name -> text of a protocol buffer.

    models.config is read again every minute; the others when the server starts.
    """
    files = {"models.config": _text(_models(plan)), "monitoring.config": _text(_MONITORING)}
    if plan.batching:
        files["batching.config"] = _text(_batching(plan))
    return files


def server_arguments(plan: Plan) -> list[str]:
    """Return the command line after the program's name."""
    threads = plan.config.resources.threads
    # A connection must end within the drain, or a gRPC client would stay with a server that is going away.
    age_ms = plan.config.drain_s * 1000 * 2 // 3
    grace_ms = plan.config.drain_s * 1000 // 4
    arguments = [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        f"--model_config_file={CONFIG_FOLDER}/models.config",
        "--model_config_file_poll_wait_seconds=60",
        "--file_system_poll_wait_seconds=10",
        "--max_num_load_retries=5",
        "--load_retry_interval_micros=10000000",
        f"--monitoring_config_file={CONFIG_FOLDER}/monitoring.config",
        f"--rest_api_timeout_in_ms={_REST_TIMEOUT_MS}",
        f"--rest_api_num_threads={max(32, 8 * threads)}",
        f"--tensorflow_intra_op_parallelism={threads}",
        f"--tensorflow_inter_op_parallelism={threads}",
        f"--grpc_channel_arguments=grpc.max_connection_age_ms={age_ms},"
        f"grpc.max_connection_age_grace_ms={grace_ms}",
    ]
    if plan.batching:
        arguments += [
            "--enable_batching=true",
            f"--batching_parameters_file={CONFIG_FOLDER}/batching.config",
        ]
    return [*arguments, *plan.config.arguments]


def _models(plan: Plan) -> Mapping[str, Any]:
    """Return the ModelServerConfig."""
    return {
        "model_config_list": {
            "config": {
                "name": plan.model,
                "base_path": f"{MODELS_FOLDER}/{plan.model}",
                "model_platform": "tensorflow",
                "model_version_policy": {"latest": {"num_versions": plan.config.versions}},
            }
        }
    }


def _batching(plan: Plan) -> Mapping[str, Any]:
    """Return the BatchingParameters: requests up to a bound are taken, and split into runs."""
    batching = plan.config.batching
    # More than an empty queue holds would be refused as if it might be taken later.
    most = max(batching.max_rows, min(_SPLIT_UP_TO, batching.max_rows * batching.max_waiting))
    return {
        "max_batch_size": {"value": most},
        "enable_large_batch_splitting": {"value": True},
        "max_execution_batch_size": {"value": batching.max_rows},
        "batch_timeout_micros": {"value": batching.timeout_us},
        "max_enqueued_batches": {"value": batching.max_waiting},
        "num_batch_threads": {"value": plan.config.resources.threads},
    }


_MONITORING: Mapping[str, Any] = {"prometheus_config": {"enable": True, "path": METRICS_PATH}}
"""The MonitoringConfig."""


def _text(message: Mapping[str, Any]) -> str:
    """Return `message` in the text form of protocol buffers."""
    return "\n".join(_lines(message, "")) + "\n"


def _lines(message: Mapping[str, Any], indent: str) -> Sequence[str]:
    lines: list[str] = []
    for key, value in message.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key} {{", *_lines(value, indent + "  "), f"{indent}}}"]
        else:
            # JSON writes text, numbers and true as protocol buffers read them; names here are ASCII.
            lines.append(f"{indent}{key}: {json.dumps(value)}")
    return lines
