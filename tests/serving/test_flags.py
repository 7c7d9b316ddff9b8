"""The command line of `headrace serve`: upstream's flags with their names and defaults, and what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.data.errors import ConfigError
from headrace.serving import server
from headrace.serving.deploy.config import DeployConfig
from headrace.serving.server.command import run_command, versions
from headrace.serving.server.flags import FLAGS, describe, parse_flags

# Name -> default, from main.cc and server.h; cores decide where upstream says so.
UPSTREAM = {
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_num_threads": 0,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0.0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": 0,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": False,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_pools": 0,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_flag_of_upstream_is_known_with_its_default(name):
    value = parse_flags([])[name]
    assert (value, type(value)) == (UPSTREAM[name], type(UPSTREAM[name]))


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=9000", "port", 9000),
        ("--rest-api-port=0", "rest_api_port", 0),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=true", "enable_batching", True),
        ("--enable_batching=1", "enable_batching", True),
        ("--enable_model_warmup=false", "enable_model_warmup", False),
        ("--noflush_filesystem_caches", "flush_filesystem_caches", False),
        ("--per_process_gpu_memory_fraction=0.5", "per_process_gpu_memory_fraction", 0.5),
        ("--model_name=a=b", "model_name", "a=b"),
        ("--model_name=", "model_name", ""),
        ("--file_system_poll_wait_seconds=-1", "file_system_poll_wait_seconds", -1),
        ("--check-sums=require", "check_sums", "require"),
        ("--check_sums=off", "check_sums", "off"),
        ("--check_sums=present", "check_sums", "present"),
        # Of release 0.1:
        ("--check_sums=true", "check_sums", "present"),
        ("--check_sums=False", "check_sums", "off"),
        ("--nocheck_sums", "check_sums", "off"),
    ],
)
def test_values_are_read_as_upstream_writes_them(argument, name, value):
    flags = parse_flags([argument])
    assert flags[name] == value
    assert flags.given == {name}


def test_a_value_may_stand_apart_and_the_last_one_counts():
    flags = parse_flags(["--port", "1", "model", "--port=2", "--model_name", "x"])
    assert (flags["port"], flags["model_name"], flags.rest) == (2, "x", ("model",))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port=http"], "`--port` must be a whole number. Received: http"),
        (["--port=8500.5"], "`--port` must be a whole number. Received: 8500.5"),
        (["--drain_seconds=soon"], "`--drain_seconds` must be a number. Received: soon"),
        (["--enable_batching=maybe"], "`--enable_batching` must be true or false. Received: maybe"),
        (["--model_name"], "`--model_name` must have a value. Received: none"),
        (["--modelname=x"], "a flag must be one that `headrace serve` knows. Received: --modelname"),
        (["--check_sums=always"], "`--check_sums` must be require, present, off. Received: always"),
        (["--nocheck_sums=off"], "a flag must be one that `headrace serve` knows. Received: --nocheck_sums"),
        (["--noport"], "a flag must be one that `headrace serve` knows. Received: --noport"),
    ],
)
def test_arguments_that_are_wrong(arguments, text):
    with pytest.raises(ConfigError) as caught:
        parse_flags(arguments)
    assert caught.value.message == text


def test_a_flag_that_is_nearly_right_is_named():
    with pytest.raises(ConfigError) as caught:
        parse_flags(["--rest_port=1"])
    assert caught.value.hint == "did you mean --rest_api_port?"


def test_a_flag_that_means_nothing_here_says_so():
    flags = parse_flags(["--use_alts_credentials", "--port=1", "--enable_profiler=false"])
    assert flags.notes == (
        "--use_alts_credentials means nothing here: ALTS exists only in Google's cloud",
        "--enable_profiler means nothing here: there is no profiler service",
    )


def test_help_lists_every_flag_with_its_default_or_why_it_means_nothing():
    text = describe()
    for flag in FLAGS:
        if flag.ignored:
            assert f"  --{flag.name}: {flag.ignored}" in text
        else:
            default = str(flag.default).lower() if flag.kind == "bool" else flag.default
            assert f"  --{flag.name}={default}\n      {flag.help}" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "a model folder or a config file must be named. Received: none"),
        (["absent"], "a model must be a folder or a config file. Received: absent, which is not there"),
        (
            ["--model_base_path=absent"],
            "`--model_base_path` must be a folder. Received: absent, which is not there",
        ),
        (
            ["--model_config_file=absent"],
            "`--model_config_file` must be a file. Received: absent, which is not there",
        ),
        (
            [".", "--ssl_config_file=absent"],
            "`--ssl_config_file` must be a file. Received: absent, which is not there",
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with pytest.raises(ConfigError) as caught:
        run_command(arguments, said.append, said.append)
    assert (caught.value.message, said) == (text, [])


def test_versions_are_shown():
    shown: list[str] = []
    assert run_command(["--version"], lambda text: None, shown.append) == 0
    assert shown == [versions()]
    assert "headrace ModelServer: " in shown[0]
    assert ", as TensorFlow Serving 2.20.0\n" in shown[0]
    assert DeployConfig().tag == server.UPSTREAM == "2.20.0"  # what docs/deploy.md runs
    assert "TensorFlow Library: 2." in shown[0]


def test_the_table_of_flags_and_mistakes_need_no_tensorflow():
    check = (
        "import sys; import headrace.serving.server.command, headrace.serving.server.flags\n"
        "heavy = {'tensorflow', 'numpy', 'grpc', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=Path.cwd())
    assert (found.returncode, found.stderr) == (0, "")
