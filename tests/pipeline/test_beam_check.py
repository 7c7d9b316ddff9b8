"""Engines that cannot be had are told before anything starts."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.beam_check import check_engines
from headrace.pipeline.config import parse_config
from tests.pipeline.test_config import changed


def check(beam: dict[str, Any]) -> None:
    check_engines(parse_config(changed("beam", beam)).beam)


@contextmanager
def flink(version: str) -> Iterator[str]:
    """Answer as Flink's REST API does; give HOST:PORT."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/config"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"flink-version": version}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def silent() -> str:
    """Return HOST:PORT of a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `java` where Beam looks for one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").touch(mode=0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("beam", "field"),
    [
        ({"runner": "flink", "master": "{}"}, "beam.master"),
        ({"runner": "flink", "job_endpoint": "{}"}, "beam.job_endpoint"),
        ({"runner": "spark", "master": "spark://{}"}, "beam.master"),
        ({"runner": "prism", "job_endpoint": "{}"}, "beam.job_endpoint"),
        (
            {"nodes": {"evaluation": {"runner": "prism", "job_endpoint": "{}"}}},
            "beam.nodes.evaluation.job_endpoint",
        ),
    ],
)
def test_a_server_that_does_not_answer(beam: dict[str, Any], field: str, silent: str) -> None:
    filled = json.loads(json.dumps(beam).replace("{}", silent))
    with pytest.raises(EnvironmentProblem) as caught:
        check(filled)
    assert caught.value.message == (
        f"`{field}` must name a server that answers. Received: Connection refused ({silent})"
    )


class Connected:
    """A connection from one address to another."""

    def __init__(self, own: str, peer: str) -> None:
        self._names = (own, 40_000), (peer, 8081)

    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return self._names[0]

    def getpeername(self) -> tuple[str, int]:
        return self._names[1]


def test_workers_elsewhere_cannot_call_back(monkeypatch: pytest.MonkeyPatch) -> None:
    far = {"runner": "flink", "job_endpoint": "far:8099"}
    pool = {"environment": "external", "worker_address": "pool:50000"}
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: Connected("10.0.0.4", "10.0.0.9"))
    with pytest.raises(
        ConfigError, match=r"must be on this machine .*`loopback`.*far:8099 \(beam\.job_endpoint\)"
    ):
        check(far)
    check(far | pool)
    for own, peer in (("10.0.0.4", "10.0.0.4"), ("127.0.0.1", "127.0.1.1")):
        monkeypatch.setattr(socket, "create_connection", lambda *_, o=own, p=peer, **__: Connected(o, p))
        check(far)


@pytest.mark.usefixtures("java")
@pytest.mark.parametrize(
    ("beam", "field"),
    [
        ({"runner": "flink", "job_server_jar": "/no/server.jar"}, "job_server_jar"),
        ({"runner": "spark", "job_server_jar": "/no/server.jar"}, "job_server_jar"),
        ({"runner": "prism", "location": "/no/prism"}, "location"),
    ],
)
def test_a_file_that_is_none(beam: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=rf"`beam\.{field}` must be a file, or a URL\. Received: /no/"):
        check(beam)


@pytest.mark.usefixtures("java")
def test_the_version_of_flink_is_compared() -> None:
    with flink("1.19.3") as master:
        check({"runner": "flink", "master": master})
    message = r"`beam\.version` must be the cluster's\. Received: 1\.19, and Flink 1\.190\.0 at 127"
    with flink("1.190.0") as master, pytest.raises(ConfigError, match=message):
        check({"runner": "flink", "master": master})


def test_java_is_needed_where_a_job_server_must_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"`beam` needs Java .*Received: none in JAVA_HOME \(/"):
        check({"runner": "flink"})
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"`beam` needs Java .*Received: none on PATH"):
        check({"runner": "spark"})
    with socket.create_server(("127.0.0.1", 0)) as server:
        check({"runner": "flink", "job_endpoint": f"127.0.0.1:{server.getsockname()[1]}"})


def test_nothing_is_looked_for_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check({})
