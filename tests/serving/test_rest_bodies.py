"""Bodies of any size, whole or chunked, pipelined or not, quick or slow: each is answered, and rightly."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace.serving.server.admission import Admission
from headrace.serving.server.core import Settings
from headrace.serving.server.errors import Code, ServingError
from headrace.serving.server.metrics import Metrics
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry
from tests.serving import rest_models
from tests.serving.rest_calls import Rest
from tests.serving.running import RunningServer, running

PATH = "/v1/models/mirror:predict"
HEAD = b'{"signature_name": "scalar", "inputs": [1'
TAIL = b"]}"
LARGEST = 8 << 20
MOST_NUMBERS = 50_000
LIMIT_S = 10.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bodies") / "mirror"
    rest_models.mirror(root / "1")
    return root


@contextlib.contextmanager
def door(base: Path, core: Settings | None = None, **settings: Any) -> Iterator[tuple[RunningServer, int]]:
    metrics = Metrics()
    rest = RestSettings(port=0, metrics=metrics.page, **settings)
    with running(
        RunSettings(
            entries=(ModelEntry("mirror", str(base)),),
            core=core or Settings(),
            doors=(lambda core, listeners: RestDoor(core, rest, listeners),),
            listeners=(metrics,),
        )
    ) as server:
        yield server, server.server.doors[1].port


@pytest.fixture(scope="module")
def port(base: Path) -> Iterator[int]:
    with door(base) as (_, found):
        yield found


def body_of(size: int) -> tuple[bytes, int]:
    """A body of so many bytes, and how many ones it asks the sum of: 0 if it is too short for any."""
    room = size - len(HEAD) - len(TAIL)
    if room < 0:
        return HEAD[:size], 0
    numbers = min(room // 2, MOST_NUMBERS)
    return HEAD + b",1" * numbers + b" " * (room - 2 * numbers) + TAIL, 1 + numbers


def message(random: Random, body: bytes, chunked: bool) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\n".encode()
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    parts = [head + b"Transfer-Encoding: chunked\r\n\r\n"]
    at = 0
    while at < len(body):
        piece = body[at : at + int(10 ** random.uniform(0, 6)) + len(body) // 200]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += len(piece)
    return b"".join([*parts, b"0\r\n\r\n"])


async def read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:-2])}
    return (
        int(head[0].split()[1]),
        headers,
        json.loads(await reader.readexactly(int(headers["content-length"]))),
    )


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def check(answer: tuple[int, Any, Any], ones: int) -> None:
    status, _, found = answer
    if ones:
        assert (status, found) == (200, {"outputs": float(ones)})
    else:
        assert status == 400


async def ask_each(port: int, random: Random, sizes: list[int]) -> None:
    """Send bodies one after another on one connection, in two pieces where the sockets cut them elsewhere."""
    async with connection(port) as (reader, writer):
        for size in sizes:
            body, ones = body_of(size)
            data = message(random, body, random.random() < 0.4)
            cut = random.randrange(len(data))
            async with asyncio.timeout(LIMIT_S):
                writer.write(data[:cut])
                await asyncio.sleep(0)
                writer.write(data[cut:])
                check(await read(reader), ones)


def sizes(random: Random, count: int) -> list[int]:
    edges = [0, 1, len(HEAD) + len(TAIL), 65_535, 65_536, 131_072, 262_143, 524_289, LARGEST]
    return [*edges, *(min(LARGEST, int(10 ** random.uniform(1, 6.93)) | 1) for _ in range(count))]


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 60), pytest.param(2, 2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_bodies_of_every_size_are_answered(port, seed, count):
    random = Random(seed)
    asyncio.run(ask_each(port, random, sizes(random, count)))


def test_bodies_between_half_a_megabyte_and_two_are_answered(port):
    """A quarter of them once hung for thirty seconds."""
    random = Random(3)
    asyncio.run(ask_each(port, random, [random.randrange(500_000, 2_100_000) for _ in range(40)]))


async def pipeline(port: int, random: Random, depth: int, largest: int) -> None:
    """Send so many requests before the first answer is read."""
    asked = [body_of(random.randrange(largest)) for _ in range(depth)]
    data = b"".join(message(random, body, random.random() < 0.3) for body, _ in asked)
    async with asyncio.timeout(LIMIT_S * 3), connection(port) as (reader, writer):
        writer.write(data)
        for _, ones in asked:
            check(await read(reader), ones)


@pytest.mark.parametrize(
    ("depths", "largest"),
    [
        ((1, 2, 7, 16, 17, 40, 200), 600),
        ((3, 30), 300_000),
        pytest.param(tuple(range(1, 201)), 100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_pipelined_requests_are_answered_in_order(port, depths, largest):
    random = Random(len(depths))
    for depth in depths:
        asyncio.run(pipeline(port, random, depth, largest))


async def beside(port: int, slow: int, uploads: int, clients: int, requests: int) -> list[int]:
    """Statuses of slow uploads, each 50 kB a second, and of quick requests on kept connections."""
    random = Random(5)

    async def upload(number: int) -> list[int]:
        body, ones = body_of(slow)
        data = message(random, body, random.random() < 0.5)
        await asyncio.sleep(number * 0.02)
        async with connection(port) as (reader, writer):
            for at in range(0, len(data), 5000):
                writer.write(data[at : at + 5000])
                await asyncio.sleep(0.1)
            answer = await read(reader)
            check(answer, ones)
            return [answer[0]]

    async def ask() -> list[int]:
        async with connection(port) as (reader, writer):
            found = []
            for number in range(requests):
                body, ones = body_of(60 + number % 400)
                writer.write(message(random, body, False))
                answer = await read(reader)
                check(answer, ones)
                found.append(answer[0])
            return found

    tasks = [*(upload(number) for number in range(uploads)), *(ask() for _ in range(clients))]
    return [status for found in await asyncio.gather(*tasks) for status in found]


def test_slow_uploads_take_nobodys_place(base):
    with door(base, Settings(max_in_flight=44)) as (_, port):
        assert set(asyncio.run(beside(port, 100_000, 45, 8, 60))) == {200}


def test_128_kept_connections_are_refused_nothing(port):
    assert asyncio.run(beside(port, 0, 0, 128, 12)) == [200] * 128 * 12


# What is refused


def counted(port: int, status: str) -> float:
    page = Rest(port).get("/monitoring/prometheus/metrics").body.decode()
    series = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    key = f':tensorflow:serving:request_count{{model_name="mirror",status="{status}"}}'
    return float(series.get(key, 0))


def test_a_full_queue_is_told_and_counted(base):
    with door(base, Settings(max_in_flight=2)) as (server, port):
        rest = Rest(port)
        body, ones = body_of(100)

        async def occupied(count: int) -> list[Any]:
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(server.core.admission.entered())
                return [await asyncio.to_thread(rest.call, "POST", PATH, body) for _ in range(3)]

        for reply in server.do(occupied(2)):
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert (
                reply.error == "the server must not take on more than 2 requests at once. Received: one more"
            )
        assert counted(port, "UNAVAILABLE") == 3
        assert [(reply.status, reply.json) for reply in server.do(occupied(1))] == [
            (200, {"outputs": float(ones)})
        ] * 3
        assert "retry-after" not in rest.call("POST", PATH, body).headers


def test_unfinished_bodies_share_their_room(base):
    """What they hold is bounded in all, given back when they end, and each refusal is counted."""

    async def fill(port: int) -> tuple[int, str]:
        async with connection(port) as (_, first), connection(port) as (reader, second):
            first.write(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n" % PATH.encode())
            first.write(b" " * 80_000)
            await asyncio.sleep(0.3)
            second.write(message(Random(0), body_of(30_000)[0], True))
            status, headers, _ = await read(reader)
            return status, headers["retry-after"]

    with door(base, max_held_bytes=100_000) as (_, port):
        assert asyncio.run(fill(port)) == (503, "1")
        assert counted(port, "UNAVAILABLE") == 1
        asyncio.run(ask_each(port, Random(0), [30_000, 99_000]))


@pytest.mark.parametrize("pause", [0.02, 10.0])
def test_a_body_has_a_deadline_as_a_whole(base, pause):
    """However many bytes come in between."""

    async def drip(port: int) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(5), connection(port) as (reader, writer):
            writer.write(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" % PATH.encode())

            async def send() -> None:
                while True:
                    writer.write(b" ")
                    await asyncio.sleep(pause)

            sending = asyncio.create_task(send())
            answer = await read(reader)
            sending.cancel()
            return answer

    with door(base, body_s=0.3) as (_, port):
        status, headers, found = asyncio.run(drip(port))
        assert (status, headers["connection"]) == (408, "close")
        assert found == {"error": "a body must come within 0.3 s. Received: a part of it"}
        assert counted(port, "DEADLINE_EXCEEDED") == 1


def test_the_queue_counts_until_an_answer_or_a_failure():
    def enter(admission: Admission, then: Callable[[], None]) -> None:
        with admission.entered():
            then()

    def fail() -> None:
        raise RuntimeError

    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            enter(admission, fail)
        enter(admission, lambda: None)
    with pytest.raises(ServingError, match="not take on more than 1 requests") as caught:
        enter(admission, lambda: enter(admission, lambda: None))
    assert caught.value.code is Code.UNAVAILABLE
    enter(admission, lambda: None)
