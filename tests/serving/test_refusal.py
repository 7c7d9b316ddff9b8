"""Requests that a busy server refuses before it has read them."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from headrace.serving.server.admission import AdmissionSettings
from headrace.serving.server.core import Settings
from headrace.serving.server.events import Event
from headrace.serving.server.refusal import Head, read_head
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry
from tests.serving import saved_models
from tests.serving.running import RunningServer, running

PATH = "/v1/models/zoo:predict"
BODY = b'{"signature_name": "slow", "instances": [1.0]}'


def post(*headers: str, body: bytes = BODY, length: bool = True, method: str = "POST") -> bytes:
    lines = [f"{method} {PATH} HTTP/1.1", "Host: localhost", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_plain_head_is_read():
    data = post("x-request-ID:  abc-1 ", "Connection: keep-alive")
    assert read_head(data) == Head(PATH, "abc-1", len(data) - len(BODY), len(BODY))


@pytest.mark.parametrize(
    "data",
    [
        post(method="GET"),
        post(length=False),
        post("Content-Length: 3"),
        post("Transfer-Encoding: chunked"),
        post("TRANSFER-ENCODING: chunked"),
        post("Expect: 100-continue"),
        post("Connection: close"),
        post("Upgrade: websocket"),
        post("X-Long: a", " folded"),
        post("X-Bare: a\nb"),
        post("X-Bare: a\rb"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        post().replace(f"Length: {len(BODY)}".encode(), b"Length: 1_0"),
        post().replace(f"Length: {len(BODY)}".encode(), b"Length: -1"),
        post("X-Long: " + "a" * 9000),
        post()[:40],
        b"\x16\x03\x01",
    ],
)
def test_what_is_unusual_goes_the_usual_way(data):
    assert read_head(data) is None


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("refusal") / "zoo"
    saved_models.zoo(root / "1")
    return root


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def server(zoo: Path, events: list[Event]) -> Iterator[RunningServer]:
    """A server that is busy with one request."""
    settings = RunSettings(
        entries=(ModelEntry("zoo", str(zoo)),),
        core=Settings(admission=AdmissionSettings(most=1)),
        doors=(lambda core, _: RestDoor(core, RestSettings(port=0, cors=True), [events.append]),),
    )
    with running(settings) as found:
        yield found


@contextmanager
def busy(server: RunningServer) -> Iterator[ExitStack]:
    async def enter(stack: ExitStack) -> None:
        stack.enter_context(server.core.admission.entered())

    async def leave(stack: ExitStack) -> None:
        stack.close()

    stack = ExitStack()
    server.do(enter(stack))
    try:
        yield stack
    finally:
        server.do(leave(stack))


class Line:
    """A connection whose bytes the test sends as it likes."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.server.doors[1].port), timeout=60)
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, rest = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        self._held = rest
        while len(self._held) < int(headers["content-length"]):
            self._more()
        size = int(headers["content-length"])
        body, self._held = self._held[:size], self._held[size:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, "the server hung up"
        self._held += data


@pytest.fixture
def line(server: RunningServer) -> Iterator[Line]:
    found = Line(server)
    with found.socket:
        yield found


def test_a_refusal_is_the_same_whether_the_request_was_read_or_not(server, line, events):
    with busy(server):
        line.send(post("X-Request-Id: one"))
        status, headers, body = line.answer()
        seen = events[-1]
        line.send(post("X-Request-Id: one", "Expect: 100-continue"))  # by way of aiohttp
        same, others, text = line.answer()
        usual = events[-1]
    assert status == 503
    assert b"the server must not take on more than 1 requests at once. Received: one more" in body
    assert headers["x-request-id"] == "one"
    assert headers["access-control-allow-origin"] == "*"
    for date in (headers.pop("date"), others.pop("date")):
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d gmt", date)
    assert (same, others, text) == (status, headers, body)
    assert seen is not usual
    assert (seen.code, seen.message, seen.peer, seen.request_id, seen.api, seen.spec) == (
        usual.code,
        usual.message,
        "127.0.0.1",
        "one",
        usual.api,
        usual.spec,
    )


def test_it_is_refused_before_its_body_has_come_and_the_next_one_is_answered(server, line):
    big = b" " * (1 << 20)
    whole = post(body=big + BODY)
    with busy(server):
        for _ in range(2):
            line.send(whole[:200])
            assert line.answer()[0] == 503
            line.send(whole[200:])
    line.send(post())
    status, _, body = line.answer()
    assert (status, body) == (200, b'{"predictions":[1.0]}')
    with busy(server):
        line.send(post())
        assert line.answer()[0] == 503
    line.send(post(body=big + BODY))
    assert line.answer()[0] == 200


def test_requests_in_one_packet_are_answered_each_and_in_order(server, line):
    with busy(server):
        line.send(b"".join(post(f"X-Request-Id: {number}") for number in range(5)))
        answers = [line.answer() for _ in range(5)]
    assert [headers["x-request-id"] for _, headers, _ in answers] == list("01234")
    assert {status for status, _, _ in answers} == {503}
    line.send(b"".join(post(f"X-Request-Id: {number}") for number in range(5)))
    answers = [line.answer() for _ in range(5)]
    assert [headers["x-request-id"] for _, headers, _ in answers] == list("01234")
    assert {status for status, _, _ in answers} == {200}


def test_no_answer_overtakes_an_earlier_one(server, line):
    slow = BODY.replace(b"1.0", b"20000.0")
    line.send(post("X-Request-Id: slow", body=slow))
    with busy(server):
        line.send(post("X-Request-Id: quick"))
        assert [line.answer()[1]["x-request-id"] for _ in range(2)] == ["slow", "quick"]


def test_a_head_in_pieces_is_read_whole(server, line):
    whole = post()
    with busy(server):
        for at in range(0, len(whole), 50):
            line.send(whole[at : at + 50])
        assert line.answer()[0] == 503
    line.send(whole)
    assert line.answer()[0] == 200


def test_other_requests_are_answered_while_it_is_busy(server, line):
    with busy(server):
        line.send(post(method="GET", body=b"").replace(b":predict", b""))
        status, _, body = line.answer()
        assert (status, b'"AVAILABLE"' in body) == (200, True)
        line.send(post().replace(PATH.encode(), b"/elsewhere"))
        assert line.answer()[0] == 404
