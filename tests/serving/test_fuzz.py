"""Thousands of broken requests at both doors: none may end in a server's error, a crash or grown memory."""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc
import pytest

from headrace.serving.server.errors import HTTP_STATUS, Code
from tests.serving import mutations, rest_models, saved_models
from tests.serving.operated import free_port
from tests.serving.rest_calls import Rest

MOST_GROWTH_BYTES = 50 << 20
UNIMPLEMENTED = "Conversion of JSON Value", "Unsupported signature method_name", "Method not found"


def resident_bytes(process: int) -> int:
    """Memory of a process that is its own, without what it maps from files."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def send_rest(rest: Rest, random: Random, count: int) -> Counter[int]:
    """Send mutated requests, and return how often each status came."""
    found: Counter[int] = Counter()
    for method, path, body, headers in mutations.rest_requests(random, count):
        reply = rest.call(method, path, body, headers)
        shown = (method, path, body, headers, reply)
        if reply.status == 501:
            assert reply.error.startswith(UNIMPLEMENTED), shown
        else:
            assert reply.status < 500 or reply.status == 503, shown
        if reply.status >= 400 and method != "HEAD":
            assert reply.headers["content-type"] == "application/json", shown
            assert reply.error, shown
        found[reply.status] += 1
    return found


def send_raw(rest: Rest, random: Random, count: int) -> Counter[int]:
    """Send changed HTTP, and return how often each status came; 0 where the door waits for more."""
    found: Counter[int] = Counter()
    for data in mutations.raw_requests(random, count):
        with socket.create_connection(("127.0.0.1", rest.port), timeout=60) as connection:
            connection.sendall(data)
            connection.settimeout(0.1)
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                answer = connection.recv(1 << 16)
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert status < 500 or status == 503, (data, answer)
        found[status] += 1
    return found


def acceptable(error: grpc.RpcError, shown: object) -> int:
    """Return the status of an error, as HTTP has it, if a client may be answered so."""
    code, details = error.code(), error.details()
    status = HTTP_STATUS[Code(code.value[0])]
    undone = status == 501 and details.startswith(UNIMPLEMENTED)
    assert status < 500 or status == 503 or undone, (shown, code, details)
    return status


def send_grpc(channel: grpc.Channel, random: Random, count: int) -> Counter[int]:
    """Send mutated messages, and return how often each status, as HTTP has it, came."""
    found: Counter[int] = Counter()
    for name, data in mutations.grpc_requests(random, count):
        call = channel.unary_unary(f"/tensorflow.serving.{name}")
        try:
            call(data, timeout=60)
            status = 200
        except grpc.RpcError as error:
            status = acceptable(error, (name, data))
        found[status] += 1
    return found


def test_a_thousand_broken_requests(rest, rest_server):
    random = Random(20)
    with rest_server.channel() as channel:
        send_rest(rest, random, 150)
        send_grpc(channel, random, 50)
        gc.collect()
        before = resident_bytes(os.getpid())
        found = send_rest(rest, random, 500), send_grpc(channel, random, 200), send_raw(rest, random, 100)
        gc.collect()
        assert resident_bytes(os.getpid()) - before < MOST_GROWTH_BYTES
    for counts in found[:2]:  # the changes leave some requests whole, and break most
        assert counts[200] > 20
        assert counts[400] > 20
    assert rest.predict("half", {"instances": [[2.0]]}).json == {"predictions": [[3.0]]}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Rest, str]]:
    """The command as a process of its own: its id and its doors."""
    saved_models.half_plus_two(tmp_path / "half" / "00000122", add=3.0)
    saved_models.half_plus_two(tmp_path / "half" / "00000123")
    rest_models.mirror(tmp_path / "mirror" / "1")
    config = tmp_path / "models.config"
    config.write_text(f"""
        model_config_list {{
          config {{
            name: "half" base_path: {json.dumps(str(tmp_path / "half"))} model_platform: "tensorflow"
            model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: 122 }}
          }}
          config {{
            name: "mirror" base_path: {json.dumps(str(tmp_path / "mirror"))} model_platform: "tensorflow"
          }}
        }}
    """)
    port, rest_port = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("headrace")), "serve", str(config), f"--port={port}"]
    command += [f"--rest_api_port={rest_port}", "--allow_version_labels_for_unavailable_models"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while not process.stderr.readline().startswith("REST"):
                assert process.poll() is None
            yield process.pid, Rest(rest_port), f"127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            _, written = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in written
    assert written.splitlines()[-1] == "stopped"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_broken_requests(served):
    process, rest, address = served
    random = Random(7)
    with grpc.insecure_channel(address) as channel:
        send_rest(rest, random, 1000)
        send_grpc(channel, random, 500)
        before = resident_bytes(process)
        found = (
            send_rest(rest, random, 14_000),
            send_grpc(channel, random, 5_000),
            send_raw(rest, random, 1_000),
        )
        grown = resident_bytes(process) - before
    print(
        f"answers at the REST and the gRPC door, and to changed HTTP: {found}; memory grew by {grown} bytes"
    )
    assert grown < MOST_GROWTH_BYTES
    assert rest.predict("half", {"instances": [[2.0]]}).json == {"predictions": [[3.0]]}
