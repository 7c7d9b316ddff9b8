"""Measure the embedded server: the in-process limit of a SavedModel, and what comes through each door.

The client is a process of its own, so that both share the cores as on a laptop. CPU time
of the server is told beside the wall clock: on a shared machine it is the steadier figure.

    python benchmarks/serving.py --model push/serving/flights [--signature serving_raw] [--seconds 5]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_READY = "ready "


def main() -> int:
    arguments = _parse(sys.argv[1:])
    if arguments.role == "server":
        return _serve(arguments)
    if arguments.role == "client":
        return _client(arguments)
    results = [_in_process(arguments, rows) for rows in arguments.rows]
    for rows in arguments.rows:
        results += [_over_grpc(arguments, rows, connections) for connections in arguments.connections]
    _print(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _parse(given: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder with numbered versions")
    parser.add_argument("--signature", default="serving_raw")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", default="")
    parser.add_argument("--role", default="")
    parser.add_argument("--address", default="")
    return parser.parse_args(given)


def _print(results: Sequence[dict[str, Any]]) -> None:
    columns = ["door", "rows", "connections", "rows_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "errors"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for result in results:
        print("| " + " | ".join(str(result.get(column, "")) for column in columns) + " |")


def _request_arrays(method: Any, rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """Make up rows of the right types: zeros, and a word for strings."""
    found = {}
    for alias, argument in method.inputs.items():
        shape = (rows, *(1 if size is None else size for size in (argument.shape or (None,))[1:]))
        found[alias] = (
            np.full(shape, b"a", object) if argument.dtype.hasobject else np.zeros(shape, argument.dtype)
        )
    return found


def _in_process(arguments: Any, rows: int) -> dict[str, Any]:
    """Run the session in a loop, one thread: what no server can beat on one core."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from headrace.serving.server.servable import load

    base = Path(arguments.model)
    version = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
    servable = load(base.name, version, str(base / str(version)))
    method = servable.methods[arguments.signature]
    inputs = list(_request_arrays(method, rows).values())
    outputs = tuple(method.outputs)
    times = _timed(lambda: servable.run(method, inputs, outputs), arguments.seconds)
    servable.close()
    return {"door": "in process", "connections": 1, **_summary(rows, times["latencies"], times)}


def _timed(call: Callable[[], Any], seconds: float) -> dict[str, Any]:
    for _ in range(50):
        call()
    latencies = []
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - begin)
    return {
        "latencies": latencies,
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "errors": 0,
    }


def _summary(rows: int, latencies: Sequence[float], measured: dict[str, Any]) -> dict[str, Any]:
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [float("nan")] * 99
    return {
        "rows": rows,
        "rows_per_s": round(rows * len(latencies) / measured["wall_s"]),
        "p50_ms": round(cuts[49] * 1e3, 2),
        "p99_ms": round(cuts[98] * 1e3, 2),
        "server_cpu_ms": round(measured["cpu_s"] / max(1, len(latencies)) * 1e3, 3),
        "errors": measured["errors"],
    }


def _over_grpc(arguments: Any, rows: int, connections: int) -> dict[str, Any]:
    script = [sys.executable, __file__, "--model", arguments.model, "--signature", arguments.signature]
    script += ["--seconds", str(arguments.seconds)]
    server = subprocess.Popen([*script, "--role", "server"], stdout=subprocess.PIPE, text=True)
    try:
        address = _await_ready(server)
        before = _cpu_s(server.pid)
        client = [*script, "--role", "client", "--address", address]
        client += ["--rows", str(rows), "--connections", str(connections)]
        done = subprocess.run(client, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        found["cpu_s"] = (_cpu_s(server.pid) - before) * found["share"]
        return {"door": "gRPC", "connections": connections, **_summary(rows, found["latencies"], found)}
    finally:
        server.terminate()
        server.wait(30)


def _await_ready(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
    raise SystemExit("the server did not start")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(arguments: Any) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from headrace.serving.server.grpc_door import GrpcDoor, GrpcSettings
    from headrace.serving.server.run import RunSettings, entry_of_folder, run

    settings = RunSettings(
        entries=(entry_of_folder(arguments.model),),
        doors=(lambda core, listeners: GrpcDoor(core, GrpcSettings("127.0.0.1:0"), listeners),),
        drain_s=1.0,
    )
    return run(settings, lambda server: print(f"{_READY}127.0.0.1:{server.doors[0].port}", flush=True))


def _client(arguments: Any) -> int:
    """Keep `connections` requests in flight; the rate is that of the second half, warmed up."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wire = _predict_wire(arguments)
    import uvloop

    print(json.dumps(uvloop.run(_drive_grpc(arguments, wire))))
    return 0


def _predict_wire(arguments: Any) -> bytes:
    from tensorflow_serving.apis import predict_pb2

    from headrace.serving.server.servable import load
    from headrace.serving.server.tensors import fill

    base = Path(arguments.model)
    version = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
    servable = load(base.name, version, str(base / str(version)))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = base.name
    request.model_spec.signature_name = arguments.signature
    for alias, array in _request_arrays(servable.methods[arguments.signature], arguments.rows[0]).items():
        fill(request.inputs[alias], array, as_content=not array.dtype.hasobject)
    servable.close()
    return bytes(request.SerializeToString())


async def _drive_grpc(arguments: Any, wire: bytes) -> dict[str, Any]:
    import grpc

    connections = arguments.connections[0]
    latencies: list[float] = []
    errors = 0
    start = time.perf_counter()
    warm, end = start + arguments.seconds * 0.25, start + arguments.seconds * 1.25
    all_calls = 0

    async def one(number: int) -> None:
        nonlocal errors, all_calls
        options = [("grpc.use_local_subchannel_pool", 1), ("bench.number", number)]
        async with grpc.aio.insecure_channel(arguments.address, options=options) as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while (begin := time.perf_counter()) < end:
                try:
                    await call(wire)
                except grpc.aio.AioRpcError:
                    errors += 1
                all_calls += 1
                if begin >= warm:
                    latencies.append(time.perf_counter() - begin)

    await asyncio.gather(*(one(number) for number in range(connections)))
    return {
        "latencies": latencies,
        "errors": errors,
        "wall_s": time.perf_counter() - warm,
        "share": len(latencies) / max(1, all_calls),
    }


if __name__ == "__main__":
    raise SystemExit(main())
