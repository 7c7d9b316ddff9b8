"""Offer the server ten times what it can do: who is answered how fast, what it holds, and its recovery.

Requests come at a fixed rate whatever becomes of them, as many independent clients send them. Capacity is
what 32 connections get that each wait for their answers; "normal" is their 99th percentile.

    python benchmarks/overload.py --model push/serving/digits --rows 16 [--times 10] [--seconds 10]
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop
from serving_load import HttpConnection, keep_busy

_CONNECTIONS = 32
_MOST_CONNECTIONS = 4000
_TICK_S = 0.005


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder with numbered versions")
    parser.add_argument("--signature", default="serving_raw")
    parser.add_argument("--rows", type=int, default=16, help="rows in one request")
    parser.add_argument("--times", type=float, default=10.0, help="offered rate over capacity")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--flag", action="append", default=[], help="further flag of headrace serve")
    arguments = parser.parse_args()
    base = Path(arguments.model)
    version = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
    golden = json.loads(
        (base / str(version) / "assets.extra/headrace_golden.json").read_text(encoding="utf-8")
    )
    rows = [row for row in golden["inputs"] if None not in row.values()][: arguments.rows]
    body = json.dumps({"signature_name": arguments.signature, "instances": rows}).encode()
    request = (
        f"POST /v1/models/{base.name}:predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with _server(base, arguments.flag) as (pid, port):
        print(json.dumps(uvloop.run(_storm(arguments, psutil.Process(pid), port, request)), indent=1))
    return 0


async def _storm(arguments: Any, server: psutil.Process, port: int, request: bytes) -> dict[str, Any]:
    pool = [await _connect(port, request) for _ in range(_CONNECTIONS)]
    normal = await keep_busy([one.send for one in pool], arguments.seconds)
    capacity = len(normal["latencies"]) / normal["wall_s"]
    before = server.memory_info().rss
    p99 = _percentile(normal["latencies"], 99)
    found = await _offer(arguments, server, port, request, pool, capacity * arguments.times, 2 * p99)
    return {
        "load_average": round(os.getloadavg()[0], 1),
        "capacity_per_s": round(capacity),
        "offered_per_s": round(capacity * arguments.times),
        "sent_per_s": round(found["sent"] / arguments.seconds),
        "answered_per_s": round(len(found["good"]) / arguments.seconds),
        "normal_p50_ms": round(_percentile(normal["latencies"], 50) * 1e3, 1),
        "normal_p99_ms": round(p99 * 1e3, 1),
        "accepted_p50_ms": round(_percentile(found["good"], 50) * 1e3, 1),
        "accepted_p99_ms": round(_percentile(found["good"], 99) * 1e3, 1),
        "accepted_p99_over_normal": round(_percentile(found["good"], 99) / p99, 2),
        "refused_share": round(len(found["refused"]) / max(1, found["sent"]), 3),
        "refused_p50_ms": round(_percentile(found["refused"], 50) * 1e3, 1),
        "refused_p99_ms": round(_percentile(found["refused"], 99) * 1e3, 1),
        "other_failures": found["lost"],
        "rss_growth_mb": round((found["rss"] - before) / 1e6, 1),
        "recovered_after_s": round(found["recovery"], 2),
    }


async def _offer(
    arguments: Any,
    server: psutil.Process,
    port: int,
    request: bytes,
    idle: list[HttpConnection],
    rate: float,
    within_s: float,
) -> dict[str, Any]:
    """Send at `rate` a second for some seconds; a connection more is opened where none is idle."""
    good: list[float] = []
    refused: list[float] = []
    counts = {"sent": 0, "lost": 0, "open": len(idle)}
    tasks: set[asyncio.Task[None]] = set()

    async def one() -> None:
        begin = time.perf_counter()
        try:
            connection = idle.pop() if idle else await _connect(port, request)
        except OSError:
            counts["lost"] += 1
            return
        answered = await connection.send()
        took = time.perf_counter() - begin
        if connection.status == 503:
            refused.append(took)
        elif answered:
            good.append(took)
        else:
            counts["lost"] += 1
            return
        idle.append(connection)

    rss = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < arguments.seconds:
        due = min(int(passed * rate) - counts["sent"], _MOST_CONNECTIONS - len(tasks))
        for _ in range(max(0, due)):
            counts["sent"] += 1
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        rss = max(rss, server.memory_info().rss)
        await asyncio.sleep(_TICK_S)
    recovery = await _recovered(port, request, within_s)  # while what was accepted is still answered
    await asyncio.gather(*tasks)
    found = {"good": good, "refused": refused, "recovery": recovery}
    return {**found, "rss": max(rss, server.memory_info().rss), **counts}


async def _recovered(port: int, request: bytes, within_s: float) -> float:
    """Return the seconds until a request is answered again, and in time."""
    connection = await _connect(port, request)
    start = time.perf_counter()
    while True:
        begin = time.perf_counter()
        good = await connection.send()
        now = time.perf_counter()
        if good and now - begin < within_s:
            return now - start
        await asyncio.sleep(0.02)


async def _connect(port: int, request: bytes) -> HttpConnection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: HttpConnection([request], 0), "127.0.0.1", port)
    return connection


def _percentile(values: Sequence[float], which: int) -> float:
    return statistics.quantiles(values, n=100)[which - 1] if len(values) > 1 else float("nan")


@contextmanager
def _server(base: Path, flags: Sequence[str]) -> Iterator[tuple[int, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("headrace")), "serve", str(base), "--port=0"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([*command, f"--rest_api_port={port}", *flags], stdout=log, stderr=log)
        try:
            for _ in range(600):
                time.sleep(0.2)
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as probe:
                    probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                    if b" 200 " in probe.recv(100):
                        break
            yield server.pid, port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


if __name__ == "__main__":
    raise SystemExit(main())
