"""The REST door as an HTTP server: packing, CORS, health, metrics, sizes, connections and deadlines."""

import gzip
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.serving.server import connections
from headrace.serving.server.core import Settings
from headrace.serving.server.manager import ManagerSettings
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.rest_bodies import takes_gzip
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry
from tests.serving import saved_models
from tests.serving.rest_calls import Rest
from tests.serving.running import running

BODY = b'{"instances": [1.0]}'
PACKED = gzip.compress(BODY, mtime=0)  # test names show it, and workers must agree on them
PATH = "/v1/models/mirror:predict"
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rest_http") / "zoo"
    saved_models.zoo(root / "1")
    return root


@pytest.fixture(scope="module")
def strict(zoo: Path) -> Iterator[Rest]:
    """A door with CORS, a short deadline and room for few bytes."""
    settings = RestSettings(
        port=0, cors=True, timeout_s=0.3, body_s=0.3, max_held_bytes=2000, metrics_path=""
    )
    entries = (ModelEntry("zoo", str(zoo)),)
    doors = (lambda core, listeners: RestDoor(core, settings, listeners),)
    with running(RunSettings(entries=entries, doors=doors)) as server:
        yield Rest(server.server.doors[1].port)


def request(path: str, body: bytes = b"", method: str = "POST", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", " gzip ", "identity"])
def test_a_packed_body_is_unpacked(rest, encoding):
    body = BODY if encoding == "identity" else gzip.compress(BODY)
    reply = rest.call("POST", PATH, body, {"Content-Encoding": encoding})
    assert reply.json == {"predictions": [1.0]}


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("br", BODY, "Content-Encoding must be gzip or identity. Received: br"),
        ("gzip", BODY, "the body must be gzip data. Received: "),
        ("gzip", PACKED[:-5], "the body must be whole gzip data. Received: a part of it"),
        ("gzip", PACKED + b"more", "the body must be whole gzip data. Received: more behind it"),
        ("gzip", b"", "JSON Parse error: The document is empty"),
    ],
)
def test_a_packed_body_that_is_none(rest, encoding, body, text):
    reply = rest.call("POST", PATH, body, {"Content-Encoding": encoding})
    assert reply.status == 400
    assert reply.error.startswith(text)


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("x-gzip", True),
        ("GZip", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("notgzip", False),
    ],
)
def test_a_long_answer_is_packed_for_who_takes_it(rest, accepted, taken):
    rows = [1.5] * 1000
    reply = rest.call("POST", PATH, {"instances": rows}, {"Accept-Encoding": accepted})
    assert takes_gzip(accepted) is taken
    assert reply.headers.get("content-encoding") == ("gzip" if taken else None)
    assert json.loads(gzip.decompress(reply.body) if taken else reply.body) == {"predictions": rows}
    assert reply.headers["vary"] == "Accept-Encoding"
    short = rest.call("POST", PATH, BODY, {"Accept-Encoding": accepted})
    assert "content-encoding" not in short.headers


def test_bodies_over_the_limit_are_refused_before_they_are_read(rest):
    text = f"Request body must be at most {LIMIT} bytes. Received: more"
    head = request(PATH, b"").replace(b"Content-Length: 0", f"Content-Length: {LIMIT + 1}".encode())
    (reply,) = rest.raw(head)
    assert (reply.status, reply.error, reply.headers["connection"]) == (413, text, "close")


def test_bodies_over_the_limit_are_refused_chunked_or_packed(rest):
    text = f"Request body must be at most {LIMIT} bytes. Received: more"
    piece = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    (reply,) = rest.raw(head + piece * 17)
    assert (reply.status, reply.error) == (413, text)
    bomb = gzip.compress(b" " * (LIMIT + 1))
    reply = rest.call("POST", PATH, bomb, {"Content-Encoding": "gzip"})
    assert (reply.status, reply.error) == (413, text)
    fits = gzip.compress(BODY + b" " * (LIMIT - len(BODY)))
    assert rest.call("POST", PATH, fits, {"Content-Encoding": "gzip"}).status == 200


def test_chunked_bodies_are_read(rest):
    reply = rest.call("POST", PATH, iter([b'{"insta', b'nces": [1.0', b", 2.0]}"]))
    assert reply.json == {"predictions": [1.0, 2.0]}


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(rest):
    bodies = [b'{"instances": [%d]}' % number for number in range(20)]
    replies = rest.raw(b"".join(request(PATH, body) for body in bodies), len(bodies))
    assert [reply.json["predictions"] for reply in replies] == [[float(number)] for number in range(20)]
    mixed = request(PATH, b"{") + request("/v1/models/half", method="GET") + request(PATH, BODY)
    assert [reply.status for reply in rest.raw(mixed, 3)] == [400, 200, 200]


def test_a_client_that_asks_first_is_told_to_go_on(rest):
    with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as connection:
        connection.sendall(request(PATH, BODY, "POST", "Expect: 100-continue")[: -len(BODY)])
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_whole_url_as_proxies_send_it(rest):
    data = request("http://localhost:8501/v1/models/half?x=1", method="GET")
    assert rest.raw(data)[0].json == rest.get("/v1/models/half").json


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models/half HTTP/9.9\r\n\r\n",
        b"GET /v1/models/half HTTP/1.1\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v1/models/" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/models/half HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_door_stays_open(rest, data, caplog):
    (reply,) = rest.raw(data)
    assert reply.status == 400
    assert reply.error.startswith("Malformed request: ")
    assert rest.get("/v1/models/half").status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_that_hangs_up_harms_nobody(rest, caplog):
    for cut in (10, 60, 100):
        with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as connection:
            connection.sendall(request(PATH, BODY)[:cut])
    assert rest.get("/v1/models/half").status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_connection_without_a_request_is_not_kept(rest, monkeypatch):
    monkeypatch.setattr(connections, "FIRST_REQUEST_S", 0.2)
    for sent in (b"", b"GET /v1/models/half HTTP/1.1\r\nHost: "):
        with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as connection:
            connection.sendall(sent)
            assert connection.recv(100) == b""
    with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as connection:
        for _ in range(3):  # one that is used may pause longer
            connection.sendall(request("/livez", method="GET"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)


def test_head_has_no_body_and_is_malformed_for_the_api(rest):
    reply = rest.call("HEAD", "/v1/models/half")
    assert (reply.status, reply.body) == (400, b"")
    assert rest.call("HEAD", "/livez").status == 200
    assert rest.call("HEAD", "/absent").status == 404


def test_preflight_needs_an_origin(rest, strict):
    for door in (rest, strict):
        reply = door.call("OPTIONS", "/v1/models/half:predict", headers={"Origin": "https://page.example"})
        assert (reply.status, reply.body) == (200, b"")
        reply = door.call("OPTIONS", "/v1/models/half:predict")
        assert (reply.status, reply.error) == (400, "Origin header is missing in CORS preflight")


def test_cors_headers_only_if_asked_for(rest, strict):
    wanted = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST, GET",
        "access-control-allow-headers": "Content-Type",
    }
    for reply in (strict.get("/v1/models/zoo"), strict.get("/v1/foo"), strict.call("OPTIONS", "/v1/x")):
        assert wanted.items() <= reply.headers.items()
    assert not wanted.keys() & rest.get("/v1/models/half").headers.keys()


def test_metrics_count_requests_by_model_and_status(rest):
    rest.predict("mirror", {"instances": [1.0]})
    rest.predict("mirror", "{")
    rest.get("/v1/models/mirror")
    reply = rest.get("/monitoring/prometheus/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    page = reply.body.decode()
    series = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    count = ':tensorflow:serving:request_count{model_name="mirror",status="%s"}'
    assert float(series[count % "OK"]) >= 1
    assert float(series[count % "INVALID_ARGUMENT"]) >= 1
    latency = ':tensorflow:serving:request_latency_%s{model_name="mirror",API="predict",entrypoint="REST"%s}'
    assert series[latency % ("count", "")] == series[latency % ("bucket", ',le="+Inf"')]
    assert float(series[latency % ("sum", "")]) > 0
    assert ':tensorflow:serving:request_latency_count{model_name="mirror",API="",entrypoint="REST"}' in page
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram" in page
    assert rest.call("POST", "/monitoring/prometheus/metrics", b"").status == 404


def test_metrics_can_be_turned_off(strict):
    assert strict.get("/monitoring/prometheus/metrics").status == 404


def test_a_request_id_is_echoed_or_made(rest):
    assert rest.get("/v1/models/half", **{"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {rest.get("/v1/models/half").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for odd in ("a b", "x" * 200, "é"):
        assert rest.get("/v1/models/half", **{"X-Request-Id": odd}).headers["x-request-id"] != odd


def test_a_request_that_takes_too_long_ends_with_504(strict):
    steps = 1000.0
    reply = strict.predict("zoo", {"signature_name": "slow", "instances": [steps]})
    while reply.status == 200:  # until this machine takes longer than the deadline
        steps *= 2
        reply = strict.predict("zoo", {"signature_name": "slow", "instances": [steps]})
    assert (reply.status, reply.error) == (504, "Timed out waiting for notification")


def test_more_bytes_than_there_is_room_for_are_refused_for_now(strict):
    reply = strict.predict("zoo", b" " * 2001)
    assert (reply.status, reply.error) == (503, "Too many bytes of requests are in work, try again later")
    assert strict.predict("zoo", b" " * 1999).status == 400


def test_requests_in_flight_are_answered_before_the_door_closes(zoo):
    entries = (ModelEntry("zoo", str(zoo)),)
    doors = (lambda core, listeners: RestDoor(core, RestSettings(port=0), listeners),)
    with running(RunSettings(entries=entries, doors=doors)) as server, ThreadPoolExecutor(1) as pool:
        door = server.server.doors[1]
        rest = Rest(door.port)
        slow = pool.submit(rest.predict, "zoo", {"signature_name": "slow", "instances": [10_000.0]})
        time.sleep(0.1)
        server.do(door.stop(60.0))
        assert slow.result(60).json == {"predictions": [10_000.0]}
        with pytest.raises(ConnectionRefusedError):
            rest.get("/v1/models/zoo")


def test_idle_connections_do_not_hold_up_the_end(zoo):
    entries = (ModelEntry("zoo", str(zoo)),)
    doors = (lambda core, listeners: RestDoor(core, RestSettings(port=0), listeners),)
    with running(RunSettings(entries=entries, doors=doors)) as server:
        door = server.server.doors[1]
        with (
            socket.create_connection(("127.0.0.1", door.port), timeout=60) as used,
            socket.create_connection(("127.0.0.1", door.port), timeout=60) as unused,
        ):
            used.sendall(request("/v1/models/zoo", method="GET"))
            assert used.recv(10_000).startswith(b"HTTP/1.1 200")
            start = time.monotonic()
            server.do(door.stop(600.0), timeout_s=60.0)
            assert used.recv(10_000) == unused.recv(10_000) == b""
            assert time.monotonic() - start < 60


def test_more_than_it_may_take_on_is_refused_and_the_rest_answered(zoo):
    settings = RunSettings(
        entries=(ModelEntry("zoo", str(zoo)),),
        core=Settings(max_in_flight=4),
        doors=(lambda core, listeners: RestDoor(core, RestSettings(port=0), listeners),),
    )
    with running(settings) as server, ThreadPoolExecutor(24) as pool:
        rest = Rest(server.server.doors[1].port)
        body = {"signature_name": "slow", "instances": [1000.0]}
        replies = list(pool.map(lambda _: rest.predict("zoo", body), range(48)))
        assert {reply.status for reply in replies} == {200, 503}
        refused = next(reply for reply in replies if reply.status == 503)
        assert refused.error == (
            "the server must not take on more than 4 requests at once. Received: one more"
        )
        assert rest.predict("zoo", body).status == 200


def test_liveness_and_readiness_differ_until_a_model_answers(tmp_path):
    entries = (ModelEntry("late", str(tmp_path / "late")),)
    doors = (lambda core, listeners: RestDoor(core, RestSettings(port=0), listeners),)
    core = Settings(manager=ManagerSettings(0.05))
    with running(RunSettings(entries=entries, core=core, doors=doors), wait=False) as server:
        rest = Rest(server.server.doors[1].port)
        assert (rest.get("/livez").status, rest.get("/healthz").body) == (200, b"ok\n")
        assert (rest.get("/readyz").status, rest.get("/readyz").body) == (503, b"not ready\n")
        reply = rest.predict("late", BODY)
        assert (reply.status, reply.error) == (404, "Servable not found for request: Latest(late)")
        saved_models.constant(tmp_path / "hidden", 1.0)
        (tmp_path / "late").mkdir()
        (tmp_path / "hidden").rename(tmp_path / "late" / "1")
        for _ in range(400):
            if rest.get("/readyz").status == 200:
                break
            time.sleep(0.05)
        assert rest.get("/readyz").status == 200
        assert rest.predict("late", BODY).status == 200


@pytest.mark.parametrize("piece", [b"", b"ZZ\r\n", b"3\r\nabcdef\r\n"])
def test_a_body_that_breaks_off_is_not_waited_for(strict, piece, caplog):
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
            connection.sendall(head)
            time.sleep(0.1)  # the door waits for more by now
            connection.sendall(piece)
            assert connection.recv(1000).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert strict.predict("zoo", b" " * 1999).status == 400  # the room of those bodies was given back
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_offer_to_change_the_protocol_is_passed_over(rest, protocol):
    headers = (
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {protocol}",
        "HTTP2-Settings: AAEAAEAAAAIAAAAB",
    )
    (reply,) = rest.raw(request(PATH, BODY, "POST", *headers))
    assert reply.json == {"predictions": [1.0]}


def test_a_client_of_http_1_0_is_answered_and_hung_up_on(rest):
    with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/models/half HTTP/1.0\r\n\r\n")
        stream = connection.makefile("rb")
        assert stream.readline().split()[1] == b"200"
        assert stream.read().endswith(b"}")  # to the end of the connection


POST = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (b"SECRET\r\n\r\n", "Invalid method encountered"),
        (b"GET /SECRET" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", "Got more than 8190 bytes when reading"),
        (b"GET / HTTP/1.1\r\nSECRET\x01: y\r\n\r\n", "Invalid header token"),
        (b"GET /SECRET HTTP/9.9\r\n\r\n", "Bad status line"),
        (POST + b"Content-Length: SECRET\r\n\r\n", "Invalid character in Content-Length"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n", "Invalid character in chunk size"),
        (POST + b"Content-Length: 2\r\n\r\n{}SECRET \"'\r\n\r\n", "Invalid method encountered"),
    ],
)
def test_what_is_no_http_is_not_repeated(rest, sent, rule):
    """What follows a body of the wrong length may be somebody's data."""
    with socket.create_connection(("127.0.0.1", rest.port), timeout=10) as connection:
        connection.sendall(sent)
        found = b""
        while part := connection.recv(1 << 16):
            found += part
    last = found[found.rindex(b"HTTP/1.") :]
    assert b"SECRET" not in found
    assert f'"error":"Malformed request: {rule}' in last.decode()
    assert re.findall(rb"Server: ([^\r]*)", found) in ([b"headrace"], [b"headrace"] * 2)
