"""The flags of `headrace serve`: tensorflow_model_server's, under their own names, and some of our own.

A command line of tensorflow_model_server can be used as it is. A flag that means nothing here is accepted,
and says so. Imports nothing heavy: `headrace serve --help` reads the table.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headrace.data.errors import ConfigError
from headrace.serving.manifest import CHECKS

__all__ = ["FLAGS", "Flag", "FlagValues", "describe", "parse_flags"]

Kind = Literal["bool", "int", "float", "str", "sums"]

_TRUE, _FALSE = ("true", "1", "t", "yes", "y"), ("false", "0", "f", "no", "n")
_NEGATED = ("bool", "sums")
_SUMS = {**dict.fromkeys(_TRUE, "present"), **dict.fromkeys(_FALSE, "off")}
"""What release 0.1 said, where `--check_sums` was true or false."""
_NO_DEVICE = "the session that runs here has no such setting"
_NO_BATCHING = "requests that queue share a run where a model's rows are independent: --merge_requests"
_NO_LITE = "a TF Lite model is served by `headrace.serving.client.LiteClient`"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: Name, with underscores; dashes are read as well.
        kind: Type of its value.
        default: Value if it is not given.
        help: What it does.
        own: Whether tensorflow_model_server lacks it.
        ignored: Why it means nothing here; empty if it does.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    own: bool = False
    ignored: str = ""


def _own(name: str, kind: Kind, default: Any, text: str) -> Flag:
    return Flag(name, kind, default, text, own=True)


def _void(name: str, kind: Kind, default: Any, reason: str) -> Flag:
    return Flag(name, kind, default, "", ignored=reason)


FLAGS: tuple[Flag, ...] = (
    _own("host", "str", "127.0.0.1", "Address that both doors bind to; 0.0.0.0 opens them to the network."),
    Flag("port", "int", 8500, "Port of gRPC; 0 for none."),
    Flag("rest_api_port", "int", 8501, "Port of REST; 0 for none, which is the default without MODEL."),
    Flag("grpc_socket_path", "str", "", "UNIX socket that gRPC listens on besides."),
    Flag("rest_api_timeout_in_ms", "int", 30000, "Milliseconds that a REST request may take."),
    Flag("rest_api_enable_cors_support", "bool", False, "Let pages of other origins call REST."),
    _own("rest_api_body_timeout_in_ms", "int", 300_000, "Milliseconds that a whole body may take to come."),
    _own("rest_api_max_body_bytes", "int", 256 << 20, "Largest body of a REST request, also unpacked."),
    Flag("model_name", "str", "", "Name of the model: its folder's, or `default` without MODEL."),
    Flag("model_base_path", "str", "", "Folder of the model's numbered versions."),
    Flag("model_config_file", "str", "", "ModelServerConfig in text form: several models."),
    Flag("model_config_file_poll_wait_seconds", "int", 0, "Seconds between looks at that file; 0: never."),
    Flag("file_system_poll_wait_seconds", "int", 1, "Seconds between looks for new versions; 0: once."),
    Flag("max_num_load_retries", "int", 5, "How often a failed load is tried again."),
    Flag("load_retry_interval_micros", "int", 60_000_000, "Microseconds before a load is tried again."),
    Flag("num_load_threads", "int", 0, "Versions that are loaded at once; 0: 16."),
    Flag(
        "allow_version_labels_for_unavailable_models",
        "bool",
        False,
        "Let a new label name a version that is not loaded yet.",
    ),
    Flag("num_request_iterations_for_warmup", "int", 0, "How often each of them is run; 0 is once."),
    Flag("tensorflow_session_parallelism", "int", 0, "Threads of both kinds of a session; 0: one each."),
    Flag("tensorflow_intra_op_parallelism", "int", 0, "Threads within an operator; 0: one."),
    Flag("tensorflow_inter_op_parallelism", "int", 0, "Operators that run at once; 0: one."),
    Flag("ssl_config_file", "str", "", "SSLConfig in text form; for both doors here."),
    Flag("monitoring_config_file", "str", "", "MonitoringConfig in text form; metrics are on without."),
    Flag("grpc_channel_arguments", "str", "", "name=value,... for gRPC's server."),
    Flag("grpc_max_threads", "int", 0, "Most gRPC requests at once; 0: any number."),
    Flag("enable_grpc_healthcheck_service", "bool", True, "Serve grpc.health.v1 (upstream: false)."),
    Flag("enable_serialization_as_tensor_content", "bool", False, "Answer in tensor_content over gRPC."),
    Flag("enable_signature_method_name_check", "bool", False, "Refuse signatures of another API's method."),
    Flag("version", "bool", False, "Print versions and exit."),
    _own("access_log", "str", "", "File of one JSON line for each request; - is stderr."),
    _own("request_log", "str", "", "Prefix of TFRecord files of PredictionLog."),
    _own("request_log_sampling_rate", "float", 0.01, "Share of requests in them, 0 to 1."),
    _own("allow_ops", "str", "", "Operators that are refused, and pass at your own risk: A,B; security.md."),
    _own(
        "check_sums",
        "sums",
        "present",
        "What is asked of manifest.json: present (it must hold, if any), require, off.",
    ),
    _own("allow_reload_config", "bool", False, "Let clients of other machines choose the models."),
    _own("rehearse_loads", "bool", True, "Try a version in a process of its own before it is loaded here."),
    _own("max_load_seconds", "float", 600.0, "Seconds that such a try may take."),
    _own(
        "max_load_mib", "int", 0, "MiB of memory that it may take; 0: 4096 and ten times the folder's size."
    ),
    _own(
        "merge_requests",
        "bool",
        True,
        "Let requests that queue share a run, if a model's rows are independent.",
    ),
    _own("run_threads", "int", 0, "Runs at the same time; 0: one for each core."),
    _own("max_in_flight", "int", 1024, "Requests taken on at once; more get 503 or UNAVAILABLE."),
    Flag("busy_in_flight", "int", 32, "", own=True, ignored="there is one limit: --max_in_flight"),
    _own("drain_delay_seconds", "float", 0.0, "Seconds between not ready and closing, on SIGTERM."),
    _own("drain_seconds", "float", 30.0, "Seconds that requests in flight are given then."),
    _void("enable_model_warmup", "bool", True, "a version always has to answer before it is served"),
    _void("rest_api_num_threads", "int", 0, "one event loop answers"),
    _void("num_unload_threads", "int", 0, "a version is closed by its last request"),
    _void("flush_filesystem_caches", "bool", True, "the system keeps its own caches"),
    _void("platform_config_file", "str", "", "TensorFlow is the only platform"),
    _void("per_process_gpu_memory_fraction", "float", 0.0, _NO_DEVICE),
    _void("saved_model_tags", "str", "serve", "the tag is always serve"),
    _void("tensorflow_session_config_file", "str", "", _NO_DEVICE),
    _void("use_alts_credentials", "bool", False, "ALTS exists only in Google's cloud"),
    _void("remove_unused_fields_from_bundle_metagraph", "bool", True, "only signatures are kept anyway"),
    _void("prefer_tflite_model", "bool", False, _NO_LITE),
    _void("num_tflite_pools", "int", 0, _NO_LITE),
    _void("num_tflite_interpreters_per_pool", "int", 1, _NO_LITE),
    _void("xla_cpu_compilation_enabled", "bool", False, _NO_DEVICE),
    _void("enable_profiler", "bool", True, "there is no profiler service"),
    _void("thread_pool_factory_config_file", "str", "", "there is one pool: --run_threads"),
    _void("enable_batching", "bool", False, _NO_BATCHING),
    _void("batching_parameters_file", "str", "", _NO_BATCHING),
    _void("enable_per_model_batching_parameters", "bool", False, _NO_BATCHING),
    _void(
        "force_allow_any_version_labels_for_unavailable_models", "bool", False, "labels name what is there"
    ),
    _void("skip_initialize_tpu", "bool", False, _NO_DEVICE),
    _void("mixed_precision", "str", "", "a model is run as it was exported"),
)
"""Every flag that is read."""


@dataclass(frozen=True)
class FlagValues:
    """What a command line says.

    Attributes:
        values: Name -> value, defaults filled in.
        given: Names that it gives.
        rest: Arguments that are no flags.
        notes: A sentence for every given flag that means nothing here.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    rest: tuple[str, ...]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse_flags(arguments: Sequence[str]) -> FlagValues:
    """Read a command line: `--name=value`, `--name value`, and `--name` alone for true.

    Raises:
        ConfigError: If a flag is not known or its value is not of its type.
    """
    table = {flag.name: flag for flag in FLAGS}
    values = {flag.name: flag.default for flag in FLAGS}
    given: set[str] = set()
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--") or argument == "--":
            rest.append(argument)
            continue
        spelled, equals, text = argument[2:].partition("=")
        name = spelled.replace("-", "_")
        negated = name.startswith("no") and name not in table and name[2:] in table
        flag = table.get(name[2:] if negated else name)
        if flag is None or (negated and (flag.kind not in _NEGATED or equals)):
            raise _unknown(spelled, list(table))
        if not equals and (flag.kind == "bool" or negated):
            text = "false" if negated else "true"
        elif not equals:
            if not waiting:
                raise ConfigError(f"`--{flag.name}` must have a value. Received: none")
            text = waiting.pop(0)
        values[flag.name] = _value(flag, text)
        given.add(flag.name)
    notes = tuple(
        f"--{flag.name} means nothing here: {flag.ignored}"
        for flag in FLAGS
        if flag.ignored and flag.name in given
    )
    return FlagValues(values, frozenset(given), tuple(rest), notes)


def describe() -> str:
    """Return the flags as text, for help: upstream's, our own, and those that mean nothing here."""
    lines = []
    for title, chosen in (
        ("Flags of tensorflow_model_server:", [flag for flag in FLAGS if not flag.own and not flag.ignored]),
        ("Flags of headrace:", [flag for flag in FLAGS if flag.own and not flag.ignored]),
    ):
        lines.append(title)
        for flag in chosen:
            default = str(flag.default).lower() if flag.kind == "bool" else flag.default
            lines.append(f"  --{flag.name}={default}")
            lines.append(f"      {flag.help}")
        lines.append("")
    lines.append("Accepted, but without effect here:")
    lines += [f"  --{flag.name}: {flag.ignored}" for flag in FLAGS if flag.ignored]
    return "\n".join(lines)


def _value(flag: Flag, text: str) -> Any:
    if flag.kind == "str":
        return text
    try:
        if flag.kind == "sums":
            return text if text in CHECKS else _SUMS[text.lower()]
        if flag.kind == "bool":
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        return int(text) if flag.kind == "int" else float(text)
    except (KeyError, ValueError) as error:
        wanted = {
            "sums": ", ".join(CHECKS),
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
        }[flag.kind]
        raise ConfigError(f"`--{flag.name}` must be {wanted}. Received: {text}") from error


def _unknown(name: str, names: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name.replace("-", "_"), names, 1)
    hint = f"did you mean --{near[0]}?" if near else "headrace serve --help lists the flags"
    return ConfigError(f"a flag must be one that `headrace serve` knows. Received: --{name}", hint)
