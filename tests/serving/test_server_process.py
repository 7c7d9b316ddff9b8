"""A server as a process of its own: its end on a signal, and what it does with more than it can do."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from headrace.data.errors import EnvironmentProblem
from headrace.serving.server.core import Settings
from headrace.serving.server.manager import ManagerSettings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry
from tests.serving import saved_models
from tests.serving.running import running

pytestmark = pytest.mark.long

SCRIPT = """
import sys
from headrace.serving.server.grpc_door import GrpcDoor, GrpcSettings
from headrace.serving.server.run import RunSettings, run
from headrace.serving.server.source import ModelEntry

settings = RunSettings(
    entries=(ModelEntry("zoo", sys.argv[1]),),
    doors=(lambda core, listeners: GrpcDoor(core, GrpcSettings("127.0.0.1:0"), listeners),),
)
sys.exit(run(settings, lambda server: print(server.doors[0].port, flush=True)))
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models") / "zoo"
    saved_models.zoo(root / "1")
    return root


@contextmanager
def process(model: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    server = subprocess.Popen([sys.executable, "-c", SCRIPT, str(model)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server, int(server.stdout.readline())
    finally:
        server.kill()
        server.wait(10)
        assert server.stdout is not None
        server.stdout.close()


def request(value: float, signature: str) -> predict_pb2.PredictRequest:
    found = predict_pb2.PredictRequest()
    found.model_spec.name = "zoo"
    found.model_spec.signature_name = signature
    found.inputs["x"].CopyFrom(tf.make_tensor_proto([value]))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_the_last_answer(zoo, number):
    with process(zoo) as (server, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        start = time.perf_counter()
        stub.Predict(request(20_000.0, "slow"), timeout=60)
        took = time.perf_counter() - start
        slow = stub.Predict.future(request(20_000.0, "slow"), timeout=60)
        time.sleep(took / 4)
        assert not slow.done()
        server.send_signal(number)
        assert slow.result().model_spec.version.value == 1
        assert server.wait(20) == 0
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request(1.0, "positive"), timeout=2)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_server_without_any_good_model_does_not_start(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    settings = RunSettings(
        entries=(ModelEntry("m", str(tmp_path / "m")),), core=Settings(manager=ManagerSettings(0.05, 0))
    )
    text = r"1 servable\(s\) did not become available: \{\{\{name: m version: 1\} due to error: NOT_FOUND: "
    with pytest.raises(EnvironmentProblem, match=text), running(settings):
        pass


def test_labels_need_available_versions_at_the_start(zoo):
    settings = RunSettings(entries=(ModelEntry("zoo", str(zoo), labels=(("stable", 1),)),))
    text = "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 1 of model"
    with pytest.raises(EnvironmentProblem, match=text), running(settings):
        pass


def test_health_says_no_until_a_model_answers(zoo, tmp_path):
    settings = RunSettings(
        entries=(ModelEntry("late", str(tmp_path / "late")),), core=Settings(manager=ManagerSettings(0.05))
    )
    with running(settings, wait=False) as found, found.channel() as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 2
        saved_models.constant(tmp_path / "hidden", 1.0)
        (tmp_path / "late").mkdir()
        (tmp_path / "hidden").rename(tmp_path / "late" / "1")
        for _ in range(200):
            if check(health_pb2.HealthCheckRequest(), timeout=10).status == 1:
                break
            time.sleep(0.05)
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 1


def test_more_than_it_may_take_on_is_refused_and_the_rest_answered(zoo):
    settings = RunSettings(entries=(ModelEntry("zoo", str(zoo)),), core=Settings(max_in_flight=8))

    async def flood(address: str) -> list[grpc.StatusCode]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

            async def one() -> grpc.StatusCode:
                try:
                    await stub.Predict(request(5000.0, "slow"), timeout=30)
                except grpc.aio.AioRpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

            return await asyncio.gather(*(one() for _ in range(80)))

    with running(settings) as found:
        codes = asyncio.run(flood(found.grpc_address))
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        assert codes.count(grpc.StatusCode.OK) >= 8
        with found.channel() as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request(1.0, "positive"), timeout=10)
