"""Whether the engines of the `beam` section can be had from here, before anything heavy starts."""

import ipaddress
import json
import os
import shutil
import socket
import urllib.request
from contextlib import suppress

from headrace.data.errors import ConfigError, EnvironmentProblem

from .beam import BeamConfig, EngineConfig, FlinkEngine, PrismEngine, SparkEngine

__all__ = ["check_engine", "check_engines"]

_CONNECT_S = 5.0


def check_engines(beam: BeamConfig) -> None:
    """Check the engine of all nodes, and those that nodes have of their own.

    Raises:
        ConfigError: If a job server or binary is no file, an engine is made for another version of Flink, or
            is on another machine than the Python that it should use.
        EnvironmentProblem: If a server does not answer, or Java is missing.
    """
    check_engine(beam, "beam")
    for name, engine in beam.nodes.items():
        check_engine(engine, f"beam.nodes.{name}")


def check_engine(engine: EngineConfig, place: str) -> None:
    """Check one engine: its files, and that something listens where the config says.

    What only the engine's workers need is not looked at: they may run elsewhere.

    Args:
        engine: Part of the config.
        place: Its path in the config, for errors.

    Raises:
        ConfigError: As `check_engines`.
        EnvironmentProblem: As `check_engines`.
    """
    if isinstance(engine, PrismEngine):
        _check_file(engine.location, f"{place}.location")
        if engine.job_endpoint is not None:
            _check_answer(engine.job_endpoint, f"{place}.job_endpoint", loopback=True)
    elif isinstance(engine, FlinkEngine | SparkEngine):
        loopback = engine.environment == "loopback"
        if engine.job_endpoint is not None:
            # The job server alone speaks with the cluster.
            _check_answer(engine.job_endpoint, f"{place}.job_endpoint", loopback=loopback)
            return
        master = engine.master.removeprefix("spark://")
        if ":" in master:
            _check_answer(master, f"{place}.master", loopback=loopback)
            if isinstance(engine, FlinkEngine):
                _check_version(engine, place)
        _check_file(engine.job_server_jar, f"{place}.job_server_jar")
        if not engine.uber_jar:
            _check_java(place)


def _check_file(path: str | None, field: str) -> None:
    if path is not None and "://" not in path and not os.path.isfile(path):
        raise ConfigError(f"`{field}` must be a file, or a URL. Received: {path}")


def _check_java(place: str) -> None:
    """Check the Java that Beam would start: JAVA_HOME's, or else that of PATH."""
    home = os.environ.get("JAVA_HOME")
    if shutil.which(os.path.join(home, "bin", "java") if home else "java") is None:
        received = f"none in JAVA_HOME ({home})" if home else "none on PATH, and no JAVA_HOME"
        raise EnvironmentProblem(
            f"`{place}` needs Java to start Beam's job server. Received: {received}",
            f"install Java 11 or 17, or set `{place}.job_endpoint` to a job server that runs",
        )


def _check_answer(address: str, field: str, *, loopback: bool) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S) as connection:
            own, peer = connection.getsockname()[0], connection.getpeername()[0]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentProblem(
            f"`{field}` must name a server that answers. Received: {reason} ({address})",
            "start it, or run without an engine: --set beam.runner=direct",
        ) from error
    if loopback and own != peer and not ipaddress.ip_address(peer).is_loopback:
        # Beam tells workers to call back at localhost.
        raise ConfigError(
            f"an engine must be on this machine where Python runs in the step's process (`loopback`). "
            f"Received: {address} ({field})",
            "set another `environment`, or another runner",
        )


def _check_version(engine: FlinkEngine, place: str) -> None:
    """Check Flink's version where its REST API tells it; a job server of another fails obscurely."""
    found = ""
    url = f"http://{engine.master}/config"
    with (
        suppress(OSError, ValueError, KeyError, TypeError),
        urllib.request.urlopen(url, timeout=_CONNECT_S) as answer,
    ):
        found = str(json.load(answer)["flink-version"])
    if found and not f"{found}.".startswith(f"{engine.version}."):
        raise ConfigError(
            f"`{place}.version` must be the cluster's. Received: {engine.version}, and Flink {found} at "
            f"{engine.master}"
        )
