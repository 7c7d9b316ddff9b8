"""The client of `benchmarks/serving.py`: a process of its own that keeps so many requests in flight.

It reads a plan (JSON) from stdin and writes what it measured to stdout. HTTP is spoken over bare sockets,
with requests made up before: a client library would take more of the cores than the server that is measured.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

Send = Callable[[], Awaitable[bool]]
"""Send one request and read its answer; False where it failed."""

WARM_SHARE = 0.25


class HttpConnection(asyncio.Protocol):
    """One kept connection, one request at a time.

    Args:
        requests: Whole requests, sent in turn.
        first: Which of them is sent first.

    Attributes:
        status: Of the last answer; 0 where there was none.
    """

    def __init__(self, requests: list[bytes], first: int) -> None:
        self._requests, self._next = requests, first
        self._held = bytearray()
        self._needed = -1
        self.status = 0
        self._done: asyncio.Future[bool] | None = None
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._needed < 0:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._held[:end]).lower()
            self.status = int(head.split(b" ", 2)[1])
            self._needed = end + 4 + int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self._held) >= self._needed and self._done is not None:
            self._held.clear()
            self._needed = -1
            done, self._done = self._done, None
            done.set_result(self.status == 200)

    def connection_lost(self, error: Exception | None) -> None:
        self.status = 0
        if self._done is not None:
            self._done.set_result(False)

    def send(self) -> Awaitable[bool]:
        """Send the next request."""
        self._done = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._done.set_result(False)
            return self._done
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1
        return self._done

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


async def drive_http(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan over HTTP."""
    head = (
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Accept: application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    requests = [
        head.format(path=plan["path"], size=len(body.encode())).encode() + body.encode()
        for body in plan["bodies"]
    ]
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(plan["connections"]):
        _, connection = await loop.create_connection(
            lambda number=number: HttpConnection(requests, number), "127.0.0.1", plan["port"]
        )
        connections.append(connection)
    found = await keep_busy([connection.send for connection in connections], plan["seconds"])
    for connection in connections:
        connection.close()
    return found


async def drive_grpc(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan over gRPC, a channel for each connection."""
    import base64

    import grpc

    wires = [base64.b64decode(body) for body in plan["bodies"]]
    sends: list[Send] = []
    channels = []
    for number in range(plan["connections"]):
        options = [("grpc.use_local_subchannel_pool", 1), ("bench.number", number)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{plan['port']}", options=options)
        channels.append(channel)
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        async def send(call: Any = call, wire: bytes = wires[number % len(wires)]) -> bool:
            try:
                await call(wire)
            except grpc.aio.AioRpcError:
                return False
            return True

        sends.append(send)
    found = await keep_busy(sends, plan["seconds"])
    for channel in channels:
        await channel.close()
    return found


async def keep_busy(sends: list[Send], seconds: float) -> dict[str, Any]:
    """Keep every connection busy; what is sent in the first quarter more is not counted."""
    latencies: list[float] = []
    errors = calls = 0
    start = time.perf_counter()
    warm, end = start + seconds * WARM_SHARE, start + seconds * (1 + WARM_SHARE)

    async def one(send: Send) -> None:
        nonlocal errors, calls
        while (begin := time.perf_counter()) < end:
            good = await send()
            calls += 1
            if begin < warm:
                continue
            if good:
                latencies.append(time.perf_counter() - begin)
            else:
                errors += 1
                await asyncio.sleep(0.001)

    await asyncio.gather(*(one(send) for send in sends))
    return {
        "latencies": latencies,
        "errors": errors,
        "calls": calls,
        "wall_s": time.perf_counter() - warm,
        "cpu_s": time.process_time(),
    }


def main() -> None:
    plan = json.load(sys.stdin)
    found = uvloop.run((drive_grpc if plan["door"] == "grpc" else drive_http)(plan))
    with open(sys.stdout.fileno(), "w", closefd=False) as out:  # buffered even where Python is told not to
        json.dump(found, out)


if __name__ == "__main__":
    main()
