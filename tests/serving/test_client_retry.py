"""Retries, deadlines, TLS and changing versions, as clients live through them."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from headrace.data.errors import ConfigError
from headrace.serving.client import (
    AsyncGrpcClient,
    AsyncRestClient,
    ClientTls,
    GrpcClient,
    RequestFailed,
    RestClient,
    Retry,
    connect,
)
from headrace.serving.client.failures import Code
from headrace.serving.server.text_protos import Tls
from headrace.serving.server.tls import grpc_credentials, http_context
from tests.serving import client_models
from tests.serving.client_models import SHOP_LABELS, serving

QUICK = Retry(attempts=4, first_s=0.01, most_s=0.02)


class Answers(BaseHTTPRequestHandler):
    """Answers what the test says, one after another; the last one again and again."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.seen += 1
        status, body = server.answers[min(server.seen, len(server.answers)) - 1]
        if status == 0:
            time.sleep(body)
            status, body = 200, {"outputs": [1.0]}
        content = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def http_server(*answers: tuple[int, Any]) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.answers, server.seen, server.daemon_threads = answers, 0, True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Does as `Answers`; made of the generated messages, which hold the client's own to the real ones."""

    def __init__(self, answers: tuple[tuple[Any, Any], ...]) -> None:
        self.answers, self.seen = answers, 0

    def Predict(self, request: Any, context: Any) -> Any:
        self.seen += 1
        code, text = self.answers[min(self.seen, len(self.answers)) - 1]
        if code == 0:
            time.sleep(text)
        elif code != 200:
            context.abort(code, text)
        message = predict_pb2.PredictResponse()
        message.outputs["outputs"].dtype = 1
        message.outputs["outputs"].tensor_shape.dim.add(size=2)
        message.outputs["outputs"].float_val.append(float(request.inputs["x"].tensor_shape.dim[0].size))
        return message

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        return get_model_metadata_pb2.GetModelMetadataResponse()


@contextmanager
def grpc_server(*answers: tuple[Any, Any]) -> Iterator[Any]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service: Any = Service(answers)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.server_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()


def call(face: str, server: Any, **settings: Any) -> np.ndarray[Any, Any]:
    """Send one tensor by a client of any face."""
    port = server.server_port
    url = f"http://127.0.0.1:{port}/v1/models/m" if "rest" in face else f"grpc://127.0.0.1:{port}/m"
    x = {"x": np.zeros(3, np.float32)}
    if not face.startswith("async"):
        with connect(url, **settings) as client:
            return np.asarray(client.run(x).outputs["outputs"])

    async def run() -> np.ndarray[Any, Any]:
        kind = AsyncRestClient if face == "async rest" else AsyncGrpcClient
        async with kind(url, **settings) as client:
            return np.asarray((await client.run(x)).outputs["outputs"])

    return asyncio.run(run())


REST = ("rest", "async rest")
GRPC = ("grpc", "async grpc")


class TestRetries:
    @pytest.mark.parametrize("face", REST)
    def test_rest_tries_again_after_503(self, face: str) -> None:
        busy = (503, {"error": "full"})
        with http_server(busy, busy, (200, {"outputs": [1.5]})) as server:
            assert call(face, server, retry=QUICK).tolist() == [1.5]
            assert server.seen == 3

    @pytest.mark.parametrize("face", GRPC)
    def test_grpc_tries_again_after_unavailable(self, face: str) -> None:
        busy = (grpc.StatusCode.UNAVAILABLE, "full")
        with grpc_server(busy, busy, (200, "")) as server:
            assert call(face, server, retry=QUICK).tolist() == [3.0, 3.0]
            assert server.seen == 3

    @pytest.mark.parametrize("face", REST + GRPC)
    def test_at_last_the_failure_is_told_with_the_tries(self, face: str) -> None:
        make: Callable[..., Any] = http_server if face in REST else grpc_server
        busy = (503, {"error": "full"}) if face in REST else (grpc.StatusCode.UNAVAILABLE, "full")
        with make(busy) as server, pytest.raises(RequestFailed) as caught:
            call(face, server, retry=QUICK)
        assert server.seen == 4
        assert caught.value.code is Code.UNAVAILABLE
        assert "UNAVAILABLE: full (" in str(caught.value)
        assert "/m, after 4 attempts)" in str(caught.value)

    @pytest.mark.parametrize("face", REST)
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "INVALID_ARGUMENT"),
            (404, "NOT_FOUND"),
            (429, "RESOURCE_EXHAUSTED"),
            (500, "INTERNAL"),
            (504, "DEADLINE_EXCEEDED"),
            (502, "INTERNAL"),
            (301, "UNKNOWN"),
        ],
    )
    def test_rest_tries_nothing_else_again(self, face: str, status: int, code: str) -> None:
        with http_server((status, b"<p>no")) as server, pytest.raises(RequestFailed, match=f"{code}: <p>no"):
            call(face, server, retry=QUICK)
        assert server.seen == 1

    @pytest.mark.parametrize("face", GRPC)
    @pytest.mark.parametrize(
        "code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "DEADLINE_EXCEEDED"]
    )
    def test_grpc_tries_nothing_else_again(self, face: str, code: str) -> None:
        answer = (grpc.StatusCode[code], "no")
        with grpc_server(answer) as server, pytest.raises(RequestFailed, match=f"{code}: no"):
            call(face, server, retry=QUICK)
        assert server.seen == 1

    @pytest.mark.parametrize("face", REST + GRPC)
    def test_no_server_is_unavailable(self, face: str) -> None:
        with http_server() as server:
            pass
        with pytest.raises(RequestFailed, match="after 2 attempts") as caught:
            call(face, server, retry=Retry(attempts=2, first_s=0.01))
        assert caught.value.code is Code.UNAVAILABLE

    @pytest.mark.parametrize("face", REST)
    def test_what_is_no_answer_of_the_api_is_told(self, face: str) -> None:
        with (
            http_server((200, b"hello")) as server,
            pytest.raises(RequestFailed, match=r"no answer of .*hello"),
        ):
            call(face, server)

    def test_waits_grow_within_bounds_and_differ(self) -> None:
        retry = Retry(attempts=8, first_s=0.1, factor=2, most_s=1.0)
        assert [*retry.waits(lambda: 0.0)] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
        assert [*retry.waits(lambda: 0.999)][-1] == pytest.approx(1.0, abs=1e-3)
        assert [*retry.waits()] != [*retry.waits()]
        with pytest.raises(ConfigError, match="`attempts` and `factor` must be >= 1"):
            Retry(attempts=0)


class TestDeadlines:
    @pytest.mark.parametrize("face", REST + GRPC)
    def test_a_late_answer_is_not_waited_for(self, face: str) -> None:
        make: Callable[..., Any] = http_server if face in REST else grpc_server
        with make((0, 1.5)) as server:
            start = time.monotonic()
            with pytest.raises(RequestFailed) as caught:
                call(face, server, timeout_s=0.2, retry=QUICK)
            assert time.monotonic() - start < 1.4
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert server.seen == 1

    @pytest.mark.parametrize("face", REST + GRPC)
    def test_no_further_try_begins_after_it(self, face: str) -> None:
        make: Callable[..., Any] = http_server if face in REST else grpc_server
        busy = (503, {"error": "full"}) if face in REST else (grpc.StatusCode.UNAVAILABLE, "full")
        with make(busy) as server, pytest.raises(RequestFailed, match="UNAVAILABLE: full"):
            call(face, server, timeout_s=1.0, retry=Retry(attempts=100, first_s=60, most_s=60))
        assert server.seen == 1


class TestVersions:
    def test_parts_of_a_request_come_from_one_version(self, tmp_path: Path) -> None:
        client_models.shop(tmp_path / "shop" / "1")
        with serving(tmp_path, ("shop",)) as served:
            for url in (served.rest("shop"), served.grpc("shop")):
                swapped = False

                def swap(done: int, _: int) -> None:
                    nonlocal swapped
                    newest = max(int(path.name) for path in (tmp_path / "shop").iterdir())
                    if swapped:
                        return
                    swapped = True
                    client_models.shop(tmp_path / "shop" / str(newest + 1), shift=float(newest))
                    while True:  # until the one before is gone
                        found = served.running.do(_versions(served.running.core))
                        if found == [newest + 1]:
                            return
                        time.sleep(0.05)

                with connect(url, labels=SHOP_LABELS) as client:
                    before = client.predict([{"price": 10.0}])[0].scores["yes"]
                    found = client.predict({"price": [10.0] * 30}, progress=swap)
                    assert len(found) == 30  # fits one part: nothing was cut
                    swapped = False
                    client._options = type(client._options)(batch_rows=10)
                    found = client.predict({"price": [10.0] * 30}, progress=swap)
                # The version was gone after the first part, so all parts were asked again of the next one.
                assert len(set(found.scores[:, 1].tolist())) == 1
                assert found[0].scores["yes"] > before + 1
                assert found.version == max(int(path.name) for path in (tmp_path / "shop").iterdir())

    def test_new_columns_of_a_new_version_are_learned(self, tmp_path: Path) -> None:
        client_models.value(tmp_path / "m" / "1")
        with serving(tmp_path, ("m",)) as served:
            clients = [connect(served.rest("m")), connect(served.grpc("m"))]
            for client in clients:
                assert client.predict([3.0])[0].value == 6.0
            client_models.tags(tmp_path / "m" / "2")
            while served.running.do(_versions(served.running.core, "m")) != [2]:
                time.sleep(0.05)
            for client in clients:
                with client:
                    # It asks by the columns it knows, is refused, and learns the new ones.
                    labels = client_models.TAG_LABELS
                    client._labels = type(client._labels)(labels)
                    assert client.predict([{"text": "ab"}])[0].labels == ("a", "b")


async def _versions(core: Any, name: str = "shop") -> list[int]:
    return sorted(core.manager.serving.get(name, ()))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates for the server and a client by it; and one of nobody's."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *curve,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
        )
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-extfile", "names",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mtls"])
def secure(request: Any, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, bool]]:
    root = tmp_path_factory.mktemp("secure")
    client_models.value(root / "value" / "1")
    texts = {name: (keys / name).read_text() for name in ("server.key", "server.pem", "ca.pem")}
    tls = Tls(texts["server.key"], texts["server.pem"], texts["ca.pem"], request.param)
    with serving(root, ("value",), tls=http_context(tls), credentials=grpc_credentials(tls)) as served:
        yield served, request.param


def _predicted(kind: Any, url: str, **settings: Any) -> Any:
    """Predict one number by a client of either face."""

    async def predict() -> Any:
        async with kind(url, **settings) as client:
            return await client.predict([4.0])

    if kind.__name__.startswith("Async"):
        return asyncio.run(predict())
    with kind(url, **settings) as client:
        return client.predict([4.0])


class TestTls:
    @pytest.mark.parametrize("kind", [RestClient, GrpcClient, AsyncRestClient, AsyncGrpcClient])
    def test_both_doors_are_reached(self, secure: tuple[Any, bool], keys: Path, kind: Any) -> None:
        served, mutual = secure
        own = {"certificate": str(keys / "client.pem"), "key": str(keys / "client.key")} if mutual else {}
        url = served.rest("value") if "Rest" in kind.__name__ else served.grpc("value")
        tls = ClientTls(str(keys / "ca.pem"), **own)

        assert _predicted(kind, url, tls=tls)[0].value == 8.0

    @pytest.mark.parametrize("kind", [RestClient, GrpcClient, AsyncRestClient, AsyncGrpcClient])
    def test_a_server_that_is_not_trusted_is_not_asked(
        self, secure: tuple[Any, bool], keys: Path, kind: Any
    ) -> None:
        served, _ = secure
        url = served.rest("value") if "Rest" in kind.__name__ else served.grpc("value")
        other = ClientTls(str(keys / "other.pem"))
        with pytest.raises(RequestFailed, match=r"(?i)certificate|handshake|ssl") as caught:
            _predicted(kind, url, tls=other, retry=QUICK)
        if "Rest" in kind.__name__:  # gRPC calls it UNAVAILABLE
            assert caught.value.code is Code.UNAUTHENTICATED
            assert caught.value.attempts == 1

    @pytest.mark.parametrize("kind", [RestClient, GrpcClient, AsyncRestClient, AsyncGrpcClient])
    def test_a_client_without_a_certificate_is_not_answered(
        self, secure: tuple[Any, bool], keys: Path, kind: Any
    ) -> None:
        served, mutual = secure
        url = served.rest("value") if "Rest" in kind.__name__ else served.grpc("value")
        tls = ClientTls(str(keys / "ca.pem"))
        if mutual:
            with pytest.raises(RequestFailed):
                _predicted(kind, url, tls=tls, retry=QUICK)
        else:
            assert _predicted(kind, url, tls=tls)[0].value == 8.0

    def test_a_closed_connection_is_replaced(self, secure: tuple[Any, bool], keys: Path) -> None:
        served, mutual = secure
        own = {"certificate": str(keys / "client.pem"), "key": str(keys / "client.key")} if mutual else {}
        with RestClient(served.rest("value"), tls=ClientTls(str(keys / "ca.pem"), **own)) as client:
            client.predict([4.0])
            (wire,) = client._wires._idle
            wire.sock.shutdown(2)
            assert client.predict([4.0])[0].value == 8.0

    def test_what_does_not_fit_is_named(self, keys: Path) -> None:
        with pytest.raises(ConfigError, match="must be given together"):
            ClientTls(key="client.key")
        for kind, url in (
            (RestClient, "https://localhost:1/v1/models/m"),
            (GrpcClient, "grpcs://localhost:1/m"),
        ):
            with pytest.raises(
                ConfigError, match=r"must be PEM files that fit together. Received: .*client.key"
            ):
                kind(url, tls=ClientTls(str(keys / "client.key")))
            with pytest.raises(
                ConfigError, match=r"certificates need a URL that begins with (https|grpcs)://"
            ):
                kind(url.replace("s:", ":", 1), tls=ClientTls(str(keys / "ca.pem")))
