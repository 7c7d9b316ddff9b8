"""From a command line to a running server."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError

from .access_log import AccessLog
from .addresses import read_addresses
from .core import Core, Settings
from .events import Listener
from .flags import FlagValues, parse_flags
from .grpc_door import GrpcDoor, GrpcSettings
from .manager import ManagerSettings
from .metrics import Metrics
from .rehearsal import LoadLimits
from .request_log import RequestLog
from .rest import RestDoor, RestSettings
from .run import DoorMaker, RunSettings, Server, entry_of_folder, run
from .source import ModelEntry
from .text_protos import Monitoring, Tls, read_monitoring, read_tls
from .tls import grpc_credentials, http_context

__all__ = ["run_settings", "serve"]

Say = Callable[[str], None]


def serve(arguments: Sequence[str], say: Say) -> int:
    """Serve what a command line names, until SIGTERM or SIGINT.

    Args:
        arguments: Flags, and at most one model folder or config file.
        say: Told what is served where, and what is ignored.

    Returns:
        Exit code.

    Raises:
        ConfigError: If the command line is not valid.
        EnvironmentProblem: If a port is taken or no model can be served.
    """
    flags = parse_flags(arguments)
    for note in flags.notes:
        say(note)
    logs: list[AccessLog | RequestLog] = []
    settings = run_settings(flags, logs)
    try:
        return run(settings, lambda server: _announce(server, flags, say))
    finally:
        for log in logs:
            log.close()


def run_settings(flags: FlagValues, logs: list[Any]) -> RunSettings:
    """Return the server that `flags` describe.

    Args:
        flags: Parsed command line.
        logs: Opened logs are added here; whoever runs the server closes them.

    Raises:
        ConfigError: If a value or file is not valid, or no model is named.
    """
    entries, config_file = _models(flags)
    metrics = Metrics()
    listeners: list[Listener] = [metrics]
    if flags["access_log"]:
        logs.append(AccessLog(flags["access_log"]))
    log = RequestLog(flags["request_log"], flags["request_log_sampling_rate"])
    if log.wanted or config_file:
        logs.append(log)
    listeners += logs
    tls = read_tls(flags["ssl_config_file"]) if flags["ssl_config_file"] else None
    return RunSettings(
        entries=tuple(entries),
        core=_core(flags),
        doors=tuple(_doors(flags, tls, metrics, log)),
        listeners=tuple(listeners),
        config_file=config_file,
        config_poll_s=float(flags["model_config_file_poll_wait_seconds"]),
        drain_delay_s=flags["drain_delay_seconds"],
        drain_s=flags["drain_seconds"],
    )


def _models(flags: FlagValues) -> tuple[list[ModelEntry], str]:
    """Return the models of the command line, or its config file."""
    named = [flags["model_config_file"], flags["model_base_path"], *flags.rest]
    given = [name for name in named if name]
    if flags["model_config_file"] and not flags.rest:  # the base path is ignored then, as upstream does
        return [], flags["model_config_file"]
    if len(given) != 1:
        raise ConfigError(
            "exactly one model folder or config file must be named. "
            f"Received: {', '.join(given) if given else 'none'}",
            "headrace serve MODEL_DIR",
        )
    (path,) = given
    if not Path(path).exists():
        raise ConfigError(f"a model must be a folder or a config file. Received: {path}, which is not there")
    if Path(path).is_file():
        return [], path
    if flags["model_base_path"]:
        return [ModelEntry(flags["model_name"] or "default", str(Path(path).absolute()))], ""
    return _entries_below(Path(path), flags["model_name"]), ""


def _entries_below(folder: Path, name: str) -> list[ModelEntry]:
    """Return the model in a folder, or every model of a push target."""
    if (folder / "serving").is_dir() and not name:
        folder = folder / "serving"
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and child.name[:1] != "."]
    is_model = any(child.name.isdecimal() for child in children) or any(folder.glob("saved_model.pb*"))
    models = [
        child
        for child in children
        if any(inner.name.isdecimal() and inner.is_dir() for inner in child.iterdir())
    ]
    if is_model or name or not models:
        return [entry_of_folder(str(folder), name)]
    return [entry_of_folder(str(model)) for model in models]


def _core(flags: FlagValues) -> Settings:
    both = flags["tensorflow_session_parallelism"]
    return Settings(
        manager=ManagerSettings(
            poll_wait_s=float(flags["file_system_poll_wait_seconds"]),
            max_load_retries=max(0, flags["max_num_load_retries"]),
            load_retry_interval_s=max(0, flags["load_retry_interval_micros"]) / 1e6,
            load_threads=max(0, flags["num_load_threads"]) or ManagerSettings.load_threads,
        ),
        merge_requests=flags["merge_requests"],
        run_threads=max(0, flags["run_threads"]),
        intra_op_threads=flags["tensorflow_intra_op_parallelism"] or both or 1,
        inter_op_threads=flags["tensorflow_inter_op_parallelism"] or both or 1,
        allow_ops=tuple(op.strip() for op in flags["allow_ops"].split(",") if op.strip()),
        check_sums=flags["check_sums"],
        check_method_name=flags["enable_signature_method_name_check"],
        labels_for_unavailable=flags["allow_version_labels_for_unavailable_models"],
        rehearse_loads=_limits(flags),
        max_in_flight=max(1, flags["max_in_flight"]),
        warmup_iterations=max(1, flags["num_request_iterations_for_warmup"]),
    )


def _limits(flags: FlagValues) -> LoadLimits | None:
    """Return what a load may take in a process of its own; None where that is turned off."""
    seconds, memory_mib = flags["max_load_seconds"], flags["max_load_mib"]
    if seconds <= 0 or memory_mib < 0:
        raise ConfigError(
            "`--max_load_seconds` must be > 0 and `--max_load_mib` >= 0. "
            f"Received: {seconds:g} and {memory_mib}"
        )
    return LoadLimits(seconds, memory_mib << 20) if flags["rehearse_loads"] else None


def _doors(flags: FlagValues, tls: Tls | None, metrics: Metrics, log: RequestLog) -> list[DoorMaker]:
    where = read_addresses(flags)
    addresses = [f"{where.host}:{where.grpc_port}"] if where.grpc_port else []
    addresses += [f"unix:{where.grpc_socket}"] if where.grpc_socket else []
    doors: list[DoorMaker] = []
    if addresses:
        settings = GrpcSettings(
            address=addresses[0],
            extra_addresses=tuple(addresses[1:]),
            credentials=grpc_credentials(tls) if tls else None,
            tensors_as_content=flags["enable_serialization_as_tensor_content"],
            health_service=flags["enable_grpc_healthcheck_service"],
            max_concurrent=flags["grpc_max_threads"] or None,
            channel_arguments=_channel_arguments(flags["grpc_channel_arguments"]),
            reload_config=flags["allow_reload_config"] or where.grpc_is_local,
        )
        doors.append(lambda core, listeners: GrpcDoor(core, settings, listeners))
    if where.rest_port:
        monitoring = Monitoring()
        if flags["monitoring_config_file"]:
            monitoring = read_monitoring(flags["monitoring_config_file"])
        rest = RestSettings(
            host=where.host,
            port=where.rest_port,
            tls=http_context(tls) if tls else None,
            timeout_s=max(0, flags["rest_api_timeout_in_ms"]) / 1000,
            cors=flags["rest_api_enable_cors_support"],
            max_body_bytes=flags["rest_api_max_body_bytes"],
            body_s=max(1, flags["rest_api_body_timeout_in_ms"]) / 1000,
            metrics_path=monitoring.path if monitoring.enabled else "",
        )
        doors.append(lambda core, listeners: _rest_door(core, rest, listeners, metrics))
    return [_with_log(door, log) for door in doors]


def _rest_door(
    core: Core, settings: RestSettings, listeners: Sequence[Listener], metrics: Metrics
) -> RestDoor:
    def page() -> str:
        manager = core.manager
        states = (
            (name, status.version, status.state.name)
            for name in sorted(manager.entries)
            for status in manager.statuses(name)
        )
        return metrics.page(states, manager.loads)

    return RestDoor(core, replace(settings, metrics=page), listeners)


def _with_log(door: DoorMaker, log: RequestLog) -> DoorMaker:
    """Let the request log see the models' own logging configs, which a reload may change."""

    def make(core: Core, listeners: Sequence[Listener]) -> Any:
        log.configs = lambda name: getattr(core.manager.entries.get(name), "logging", None)
        return door(core, listeners)

    return make


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    found: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ConfigError(f"`--grpc_channel_arguments` must be name=value,... Received: {part}")
        found.append((name, int(value) if value.lstrip("-").isdecimal() else value))
    return tuple(found)


def _announce(server: Server, flags: FlagValues, say: Say) -> None:
    manager = server.core.manager
    for name, entry in sorted(manager.entries.items()):
        found = sorted(manager.serving.get(name, ()))
        if not found and not manager.statuses(name):
            say(f"model {name}: waiting for a version: a numbered folder such as {entry.base_path}/1")
            continue
        numbers = ", ".join(str(version) for version in found) if found else "none available"
        say(f"model {name}: version {numbers}")
    scheme = "https" if flags["ssl_config_file"] else "http"
    for door in server.doors:
        if isinstance(door, RestDoor):
            say(f"REST {scheme}://{flags['host']}:{door.port}/v1/models")
        else:
            say(f"gRPC {flags['host']}:{door.port}")
