"""Measure the embedded server beside other model servers and the in-process limit, on one SavedModel.

Client and servers are processes of their own that share the cores, as on a laptop. All servers are up at the
same time and are asked in turn, round after round, so that a ratio compares what one machine did in one
minute; CPU time (of the server and its children) is told beside the wall clock: it is steadier.

    python benchmarks/serving.py --model push/serving/flights [--seconds 4] [--rounds 5]
        [--peer litserve=VENV/bin/python] [--peer bentoml=VENV/bin/python] [--peer mlserver=VENV/bin/python]

A peer's Python must see headrace and TensorFlow besides the peer: a .pth file in its environment does it.
"""

import argparse
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_HERE = Path(__file__).parent
_UP_S = 120.0
_SETTLE_S = 6.0
_ROWS = 64
_SIGNATURE = "serving_raw"
_FIGURES = ("rows", "rows_per_s", "p50_ms", "p99_ms", "cpu_ms", "client_cpu_ms", "errors")
Json = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A running server, and what is sent to it.

    Attributes:
        name: Name in the table.
        pid: Its first process.
        rows: Rows in one request.
        plan: What the client is told, but for the number of connections and the seconds.
    """

    name: str
    pid: int
    rows: int
    plan: Json


def main() -> int:
    arguments = _parse(sys.argv[1:])
    base = Path(arguments.model)
    version = base / str(max(int(path.name) for path in base.iterdir() if path.name.isdecimal()))
    rows = _rows(version)
    results: list[Json] = []
    with ExitStack() as stack:
        servers = stack.enter_context(_headrace(base, version, rows, arguments))
        for peer in arguments.peer:
            name, _, python = peer.partition("=")
            servers += [stack.enter_context(_peer(name, python, version, rows, on)) for on in (False, True)]
        for turn in range(arguments.rounds):
            print(
                f"round {turn}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True
            )
            results += [{"round": turn, **_limit(arguments, version, rows, n)} for n in arguments.rows]
            for server in servers:
                results.append({"round": turn, **_measure(server, arguments)})
                print(_line(results[-1]), flush=True)
    _print(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _parse(given: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder with numbered versions")
    parser.add_argument("--rows", type=int, nargs="+", default=[1], help="rows in one request")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--doors", nargs="+", default=["rest", "grpc"])
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON")
    parser.add_argument("--json", default="")
    return parser.parse_args(given)


def _rows(version: Path) -> list[Json]:
    """Return golden rows without missing values, which not every peer can be sent."""
    golden = json.loads((version / "assets.extra/headrace_golden.json").read_text(encoding="utf-8"))
    whole = [row for row in golden["inputs"] if all(value is not None for value in row.values())]
    return whole[:_ROWS]


@contextmanager
def _headrace(base: Path, version: Path, rows: Sequence[Json], arguments: Any) -> Iterator[list[Server]]:
    """Run `headrace serve` as it is by default; a plan for each door and number of rows."""
    ports = {"grpc": _free_port(), "rest": _free_port()}
    program = str(Path(sys.executable).with_name("headrace"))
    command = [program, "serve", str(base), f"--port={ports['grpc']}", f"--rest_api_port={ports['rest']}"]
    with _process(command, ports["rest"]) as pid:
        servers = []
        for count in arguments.rows:
            batches = [[rows[(start + i) % len(rows)] for i in range(count)] for start in range(len(rows))]
            bodies = [json.dumps({"signature_name": _SIGNATURE, "instances": batch}) for batch in batches]
            path = f"/v1/models/{base.name}:predict"
            plans = {"rest": {"path": path, "bodies": bodies}}
            if "grpc" in arguments.doors:
                plans["grpc"] = {"bodies": _wires(base.name, version, batches)}
            servers += [
                Server(f"headrace {door}", pid, count, {"door": door, "port": ports[door], **plans[door]})
                for door in arguments.doors
            ]
        yield servers


@contextmanager
def _peer(name: str, python: str, version: Path, rows: Sequence[Json], batching: bool) -> Iterator[Server]:
    port = _free_port()
    command = [python, str(_HERE / "serving_peers.py"), name, str(version), str(port)]
    command += ["--batching"] if batching else []
    if name == "mlserver":
        path, bodies = "/v2/models/model/infer", [json.dumps(_v2(row)) for row in rows]
    else:
        path, bodies = "/predict", [json.dumps({"instances": [row]}) for row in rows]
    with _process(command, port) as pid:
        plan = {"door": "rest", "port": port, "path": path, "bodies": bodies}
        yield Server(f"{name}, batching {'on' if batching else 'off'}", pid, 1, plan)


def _v2(row: Mapping[str, Any]) -> Json:
    """Return a row in the Open Inference Protocol: one tensor for each column."""
    inputs = []
    for name, value in row.items():
        kind = "BYTES" if isinstance(value, str) else "FP32"
        data = value if isinstance(value, list) else [value]
        inputs.append({"name": name, "shape": [1, len(data)], "datatype": kind, "data": data})
    return {"inputs": inputs}


def _wires(model: str, version: Path, batches: Sequence[Sequence[Json]]) -> list[str]:
    """Return PredictRequests as base64; made by another process, for this one stays small."""
    plan = {"role": "wires", "model": model, "version": str(version), "batches": batches}
    return list(_aside(plan))


def _limit(arguments: Any, version: Path, rows: Sequence[Json], count: int) -> Json:
    """Run the session in a loop, one thread: what no server can beat on one core."""
    batch = [rows[i % len(rows)] for i in range(count)]
    plan = {"role": "limit", "version": str(version), "batch": batch, "seconds": arguments.seconds}
    return {"name": "in process", **_summary(count, _aside(plan))}


def _aside(plan: Json) -> Any:
    """Let another process that has TensorFlow carry out a plan."""
    command = [sys.executable, str(_HERE / "serving_session.py")]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(server: Server, arguments: Any) -> Json:
    plan = {**server.plan, "connections": arguments.connections, "seconds": arguments.seconds}
    before = _cpu_s(server.pid)
    command = [sys.executable, str(_HERE / "serving_load.py")]
    done = subprocess.run(command, input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    calls = max(1, found["calls"])
    client_ms = round(found["cpu_s"] / calls * 1e3, 3)
    found["cpu_s"] = (_cpu_s(server.pid) - before) / calls * len(found["latencies"])
    return {"name": server.name, **_summary(server.rows, found), "client_cpu_ms": client_ms}


def _summary(rows: int, found: Mapping[str, Any]) -> Json:
    latencies = found["latencies"]
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [float("nan")] * 99
    return {
        "rows": rows,
        "rows_per_s": round(rows * len(latencies) / found["wall_s"]),
        "p50_ms": round(cuts[49] * 1e3, 2),
        "p99_ms": round(cuts[98] * 1e3, 2),
        "cpu_ms": round(found["cpu_s"] / max(1, len(latencies)) * 1e3, 3),
        "errors": found["errors"],
    }


def _line(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {result[key]}" for key in ("name", *_FIGURES) if key in result)


def _print(results: Sequence[Json]) -> None:
    """Print the median over all rounds of every figure."""
    print("| " + " | ".join(("server", *_FIGURES)) + " |\n" + "|---" * (len(_FIGURES) + 1) + "|")
    groups: dict[tuple[str, int], list[Json]] = {}
    for result in results:
        groups.setdefault((result["name"], result["rows"]), []).append(result)
    for (name, _), group in groups.items():
        cells = [
            f"{statistics.median(item[key] for item in group):g}" if key in group[0] else ""
            for key in _FIGURES
        ]
        print("| " + " | ".join((name, *cells)) + " |")


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process and all that it started."""
    first = psutil.Process(pid)
    total = 0.0
    for one in [first, *first.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
    return total


@contextmanager
def _process(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server until the block ends; enter when its port answers."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            until = time.monotonic() + _UP_S
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"{command} did not start: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            time.sleep(_SETTLE_S)  # some listen before their model is loaded
            yield server.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    """Return a port with two free ones above it, which MLServer takes."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            number = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                for above in (1, 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number + above))
                return number


if __name__ == "__main__":
    raise SystemExit(main())
