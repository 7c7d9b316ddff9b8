"""The real TensorFlow Serving on one SavedModel, as a program or in Docker, while it is visited."""

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .child import run_server
from .doors import DoorError, await_available
from .engine import IMAGE, TensorFlowServing

__all__ = ["serve_upstream"]

Json = dict[str, Any]

_DOCKER_S = 30.0


def serve_upstream(
    engine: TensorFlowServing,
    path: str,
    model: str,
    folder: Path,
    timeout_s: float,
    max_rss_bytes: int | None,
    visit: Callable[[Mapping[str, int]], None],
) -> Json:
    """Serve a SavedModel by TensorFlow Serving on free ports of 127.0.0.1, and let `visit` ask it.

    Args:
        engine: Which.
        path: Folder of the SavedModel.
        model: Name to serve it by.
        folder: An existing folder for the server's log and links.
        timeout_s: Seconds after which it is killed, start and visit included.
        max_rss_bytes: Resident memory at which it is killed; None for no bound.
        visit: Called with the ports `rest` and `grpc` once the model is available. It must not raise.

    Returns:
        `load_s`, from the start of the server to the model's being available; `rss_bytes`, None for Docker;
        `error` if something went wrong.
    """
    grpc_port, rest_port = _free_ports(2)
    found: Json = {"load_s": None, "rss_bytes": None}
    container = f"headrace-gate-{os.getpid()}-{secrets.token_hex(4)}"
    if engine.kind == "binary":
        command = _binary(engine.program, path, model, folder, grpc_port, rest_port)
    else:
        command = _docker(engine.program, path, model, container, grpc_port, rest_port, max_rss_bytes)
    start = time.monotonic()

    def ask(gone: threading.Event) -> None:
        try:
            await_available(rest_port, model, gone)
        except DoorError as error:
            found["error"] = str(error)
            return
        found["load_s"] = time.monotonic() - start
        visit({"rest": rest_port, "grpc": grpc_port})

    try:
        stopped, peak = run_server(
            command,
            folder / "server.log",
            timeout_s,
            max_rss_bytes if engine.kind == "binary" else None,
            ask,
        )
    finally:
        if engine.kind == "docker":
            _remove(engine.program, container)
    if engine.kind == "binary":  # with Docker this is the client's memory; the bound is the container's own
        found["rss_bytes"] = peak
    if stopped:
        found["error"] = stopped
    return found


def _binary(
    program: str, path: str, model: str, folder: Path, grpc_port: int, rest_port: int
) -> Sequence[str]:
    base = folder / "served"
    base.mkdir()
    (base / "1").symlink_to(Path(path).resolve(), target_is_directory=True)
    return [
        program,
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={model}",
        f"--model_base_path={base}",
        "--max_num_load_retries=0",
    ]


def _docker(
    program: str,
    path: str,
    model: str,
    container: str,
    grpc_port: int,
    rest_port: int,
    max_rss_bytes: int | None,
) -> Sequence[str]:
    memory = [] if max_rss_bytes is None else [f"--memory={max_rss_bytes}"]
    return [
        program,
        "run",
        "--rm",
        f"--name={container}",
        *memory,
        f"--publish=127.0.0.1:{grpc_port}:8500",
        f"--publish=127.0.0.1:{rest_port}:8501",
        f"--volume={Path(path).resolve()}:/models/{model}/1:ro",
        f"--env=MODEL_NAME={model}",
        IMAGE,
        "--max_num_load_retries=0",
    ]


def _remove(program: str, container: str) -> None:
    """End the container, where it still runs: killing docker's client does not."""
    subprocess.run(
        [program, "rm", "--force", container],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_DOCKER_S,
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now; upstream cannot be asked which one it took."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
