"""The files that are rendered for TensorFlow Serving, used by our server as they are."""

import asyncio
import json
import re
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
import yaml
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from headrace.serving.server.flags import parse_flags
from headrace.serving.server.rest import RestDoor
from headrace.serving.server.run import Server
from headrace.serving.server.serve import run_settings
from headrace.serving.server.text_protos import read_monitoring
from tests.serving import saved_models
from tests.serving.deployments import DEPLOYMENTS, container, objects, rendered

MODEL = "half_plus_two"


@contextmanager
def serving(arguments: list[str]) -> Iterator[tuple[int, int, Callable[..., Any]]]:
    """Run a server by a command line; give the ports of REST and gRPC."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    logs: list[Any] = []

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(120)

    async def make() -> Server:
        return Server(run_settings(parse_flags(arguments), logs))

    server = do(make())
    try:
        do(server.start())
        rest = next(door.port for door in server.doors if isinstance(door, RestDoor))
        other = next(door.port for door in server.doors if not isinstance(door, RestDoor))
        yield rest, other, do
    finally:
        do(server.stop())
        for log in logs:
            log.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    saved_models.half_plus_two(root / MODEL / "1")
    return root


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for found in (one, other):
            found.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def unpacked(section: Any, folder: Path, repository: Path) -> list[str]:
    """Do what the kubelet does: write the ConfigMap's files, and start the container's command line."""
    texts = rendered(section, "kubernetes", MODEL)
    for name, text in objects(texts)["ConfigMap/half-plus-two-config"]["data"].items():
        (folder / name).write_text(text.replace("/models/", f"{repository}/"), encoding="utf-8")
    arguments = []
    ports = dict(zip(("--port", "--rest_api_port"), free_ports(), strict=True))
    for argument in container(texts)["args"]:
        flag, _, value = argument.partition("=")
        value = str(ports.get(flag, value))
        arguments.append(f"{flag}={value.replace('/config/', f'{folder}/')}")
    return arguments


@pytest.mark.parametrize("name", ["defaults", "single", "s3"])
def test_the_files_of_tensorflow_serving_serve_here(name, tmp_path, repository):
    arguments = unpacked(DEPLOYMENTS[name], tmp_path, repository)
    with serving(arguments) as (rest, other, _):
        base = f"http://127.0.0.1:{rest}"
        status = json.load(urllib.request.urlopen(f"{base}/v1/models/{MODEL}", timeout=30))
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        body = json.dumps({"instances": [{"x": [1.0]}, {"x": [4.0]}]}).encode()
        answer = json.load(urllib.request.urlopen(f"{base}/v1/models/{MODEL}:predict", body, timeout=30))
        assert answer == {"predictions": [[2.5], [4.0]]}
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([[10.0]]))
        with grpc.insecure_channel(f"127.0.0.1:{other}") as channel:
            found = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
        assert tf.make_ndarray(found.outputs["y"]).tolist() == [[7.0]]
        page = urllib.request.urlopen(f"{base}/monitoring/prometheus/metrics", timeout=30).read().decode()
        assert f':tensorflow:serving:request_count{{model_name="{MODEL}",status="OK"}}' in page


def test_compose_s_health_check_tells_a_server_that_answers(tmp_path, repository):
    arguments = unpacked({}, tmp_path, repository)
    compose = yaml.safe_load(rendered({}, "compose", MODEL)["compose.yaml"])
    kind, *check = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"

    def healthy(port: int) -> bool:
        command = [part.replace("8501", str(port)) for part in check]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    with serving(arguments) as (rest, _, _):
        assert healthy(rest)
    assert not healthy(rest)


def batching(text: str) -> dict[str, int]:
    """The numbers of a BatchingParameters text; TensorFlow Serving's message is in no package."""
    return {name: int(value) for name, value in re.findall(r"(\w+) {\s*value: (\d+)", text)}


def test_the_files_mean_what_the_config_says(tmp_path):
    section = {"batching": {"max_rows": 64, "timeout_us": 500, "max_waiting": 7}, "resources": {"cpu": 3}}
    texts = objects(rendered(section, "kubernetes"))["ConfigMap/flights-config"]["data"]
    assert batching(texts["batching.config"]) == {
        "batch_timeout_micros": 500,
        "max_enqueued_batches": 7,
        "num_batch_threads": 3,
        "max_batch_size": 64 * 7,  # what an empty queue holds
        "max_execution_batch_size": 64,
    }
    for rows, waiting, most in ((1024, 100, 65_536), (100_000, 1, 100_000), (10, 1, 10)):
        section = {"batching": {"max_rows": rows, "max_waiting": waiting}}
        wide = objects(rendered(section, "kubernetes"))["ConfigMap/flights-config"]["data"]["batching.config"]
        assert batching(wide)["max_batch_size"] == most
    (tmp_path / "monitoring").write_text(texts["monitoring.config"], encoding="utf-8")
    monitoring = read_monitoring(str(tmp_path / "monitoring"))
    assert (monitoring.enabled, monitoring.path) == (True, "/monitoring/prometheus/metrics")


def test_every_target_has_the_same_files():
    compose, kubernetes = rendered({}, "compose"), objects(rendered({}, "kubernetes"))
    kserve = objects(rendered({}, "kserve"))
    data = kubernetes["ConfigMap/flights-config"]["data"]
    assert {f"config/{name}": text for name, text in data.items()}.items() <= compose.items()
    data = {name: text for name, text in data.items() if name != "models.config"}
    assert kserve["ConfigMap/flights-config"]["data"] == data  # KServe names the model by its own flags
