"""A server in its own process under many clients: versions come and go, and more is asked than it can do."""

import asyncio
import http.client
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from tests.serving import saved_models
from tests.serving.operated import free_port
from tests.serving.rest_calls import Rest

pytestmark = pytest.mark.long

SERVE = """
import sys
from headrace.serving.server import run
from headrace.serving.server.serve import run_settings
from headrace.serving.server.flags import parse_flags
from dataclasses import replace

settings = run_settings(parse_flags(sys.argv[2:]), [])
manager = replace(settings.core.manager, poll_wait_s=float(sys.argv[1]))
settings = replace(settings, core=replace(settings.core, manager=manager))
sys.exit(run.run(settings, lambda server: print("ready", flush=True)))
"""


class Served:
    """A running `headrace serve`."""

    def __init__(self, pid: int, grpc_port: int, rest_port: int) -> None:
        self.process = psutil.Process(pid)
        self.grpc_port, self.rest_port = grpc_port, rest_port
        self.rest = Rest(rest_port)

    def channel(self, number: int = 0) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("test.number", number)]
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options=options)


@contextmanager
def serve(*arguments: str, poll_s: float = 0.05) -> Iterator[Served]:
    grpc_port, rest_port = free_port(), free_port()
    ports = [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    command = [sys.executable, "-c", SERVE, str(poll_s), *ports, *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "ready\n"
        yield Served(server.pid, grpc_port, rest_port)
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


def request(model: str, signature: str = "", **inputs: list[float]) -> predict_pb2.PredictRequest:
    found = predict_pb2.PredictRequest()
    found.model_spec.name = model
    found.model_spec.signature_name = signature
    for name, values in inputs.items():
        found.inputs[name].CopyFrom(tf.make_tensor_proto(values, tf.float32))
    return found


# Versions


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Models that answer 1 and 2."""
    root = tmp_path_factory.mktemp("exports")
    return {value: Path(saved_models.constant(root / str(value), float(value))) for value in (1, 2)}


def ask_over_grpc(server: Served, number: int, stop: Event) -> set[int]:
    """Predict until told to stop; every answer must be that of the version that it names."""
    seen: set[int] = set()
    with server.channel(number) as channel:
        stub = PredictionServiceStub(channel)
        while not stop.is_set():
            answer = stub.Predict(request("m", x=[0.0, 0.0]), timeout=60)
            version = answer.model_spec.version.value
            values = [tf.make_ndarray(answer.outputs[name]).tolist() for name in ("a", "b")]
            assert values == [[float(1 + version % 2)] * 2] * 2, (version, values)
            seen.add(version)
    return seen


def ask_over_rest(server: Served, stop: Event) -> set[int]:
    seen: set[int] = set()
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    while not stop.is_set():
        connection.request("POST", "/v1/models/m:predict", json.dumps({"instances": [0.0, 0.0]}))
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        values = {value for row in answer["predictions"] for value in row.values()}
        assert len(values) == 1, answer  # of one version
        seen |= {int(value) for value in values}
    connection.close()
    return seen


def states(server: Served) -> dict[int, tuple[int, str]]:
    """Version -> number of its state, and why it failed."""
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "m"
    with server.channel() as channel:
        found = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, timeout=30)
    return {one.version: (one.state, one.status.error_message) for one in found.model_version_status}


def until(reached: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


AVAILABLE, END = 30, 50


def publish(base: Path, export: Path, version: int, spoil: str = "") -> None:
    """Put a version into place the atomic way; `spoil` names a file that is cut in half before."""
    hidden = base / f".{version}"
    shutil.copytree(export, hidden)
    for path in hidden.glob(spoil) if spoil else ():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    hidden.rename(base / str(version))


@pytest.mark.parametrize("swaps", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_swaps_under_32_clients_of_both_doors(exports, tmp_path, swaps):
    """Every fourth version is corrupt: it is refused with its reason, and the one before goes on."""
    base = tmp_path / "m"
    base.mkdir()
    publish(base, exports[2], 1)
    stop = Event()
    flags = [f"--model_base_path={base}", "--model_name=m", "--max_num_load_retries=0"]
    with serve(*flags) as server, ThreadPoolExecutor(32) as threads:
        overs_grpc = [threads.submit(ask_over_grpc, server, number, stop) for number in range(16)]
        overs_rest = [threads.submit(ask_over_rest, server, stop) for _ in range(16)]
        try:
            good = 1
            for version in range(2, swaps + 2):
                corrupt = version % 4 == 0
                spoil = "" if not corrupt else "saved_model.pb" if version % 8 else "variables/*.index"
                publish(base, exports[1 + version % 2], version, spoil)
                wanted = END if corrupt else AVAILABLE
                until(lambda v=version, w=wanted: states(server).get(v, (0, ""))[0] == w)
                if corrupt:
                    assert states(server)[version][1]
                    assert states(server)[good][0] == AVAILABLE
                    shutil.rmtree(base / str(version))
                else:
                    shutil.rmtree(base / str(good))
                    good = version
                assert not any(one.done() for one in [*overs_grpc, *overs_rest])
        finally:
            stop.set()
        versions = set().union(*(one.result(60) for one in overs_grpc))
        values = set().union(*(one.result(60) for one in overs_rest))
    served = {version for version in range(1, swaps + 2) if version % 4}
    assert {1, good} <= versions <= served
    assert values == {1, 2}


def tries(server: Served) -> list[psutil.Process]:
    """The processes that versions are tried in: children of watchers, which are children of a helper."""
    with suppress(psutil.Error):  # one has just ended
        watchers = [child for helper in server.process.children() for child in helper.children()]
        return [child for watcher in watchers for child in watcher.children()]
    return []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_version_that_kills_its_loader_does_not_kill_the_server(exports, tmp_path):
    base = tmp_path / "m"
    base.mkdir()
    publish(base, exports[2], 1)
    stop = Event()
    flags = [f"--model_base_path={base}", "--model_name=m", "--max_num_load_retries=0"]
    with serve(*flags) as server, ThreadPoolExecutor(1) as thread:
        client = thread.submit(ask_over_grpc, server, 0, stop)
        try:
            publish(base, exports[1], 2)
            until(lambda: bool(found := tries(server)) and not found[0].kill())
            until(lambda: states(server).get(2, (0, ""))[0] == END)
            assert "it was killed by SIGKILL" in states(server)[2][1]
            assert states(server)[1] == (AVAILABLE, "")
            publish(base, exports[2], 3, "saved_model.pb")  # an error of the load itself comes through
            until(lambda: states(server).get(3, (0, ""))[0] == END)
            assert "process" not in states(server)[3][1]
            publish(base, exports[1], 4)
            until(lambda: states(server).get(4, (0, ""))[0] == AVAILABLE)
        finally:
            stop.set()
        assert client.result(60) <= {1, 4}


# Overload


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models") / "zoo"
    saved_models.zoo(root / "1")
    return root


async def storm(server: Served, requests: int) -> list[str]:
    """Send everything at once over gRPC, each with 40 kB; returns the codes."""
    payload = request("zoo", "slow", x=[400.0] * 10_000)

    async def one(stub: PredictionServiceStub) -> str:
        try:
            await stub.Predict(payload, timeout=120)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = PredictionServiceStub(channel)
        return await asyncio.gather(*(one(stub) for _ in range(requests)))


def rest_storm(server: Served, requests: int) -> list[int]:
    # Long runs: these clients are threads, and take their time to send.
    body = json.dumps({"signature_name": "slow", "instances": [20_000.0] * 10_000})
    with ThreadPoolExecutor(requests) as threads:
        sent = [
            threads.submit(server.rest.call, "POST", "/v1/models/zoo:predict", body) for _ in range(requests)
        ]
        return [one.result(120).status for one in sent]


@pytest.mark.parametrize("times", [1, pytest.param(8, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_more_than_it_can_do_is_refused_and_its_memory_bounded(zoo, times):
    with serve(str(zoo), "--max_in_flight=8") as server:
        rest_storm(server, 16)
        asyncio.run(storm(server, 16))
        before = server.process.memory_info().rss
        for _ in range(times):
            codes = asyncio.run(storm(server, 300))
            assert set(codes) == {"OK", "UNAVAILABLE"}
            assert codes.count("OK") >= 8
            statuses = rest_storm(server, 64)
            assert set(statuses) == {200, 503}
        assert server.process.memory_info().rss - before < 150e6
        # The next one finds everything as before.
        reply = server.rest.predict("zoo", {"signature_name": "positive", "instances": [1.0]})
        assert (reply.status, reply.json) == (200, {"predictions": [1.0]})
        with server.channel() as channel:
            answer = PredictionServiceStub(channel).Predict(request("zoo", "positive", x=[1.0]), timeout=30)
        np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["x"]), [1.0])
