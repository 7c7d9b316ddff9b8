"""Running the server by its flags: config files, refusals, and the process from start to end."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.serving.server.flags import parse_flags
from headrace.serving.server.serve import run_settings
from tests.serving import saved_models
from tests.serving.operated import answer, free_port, names, operated
from tests.serving.rest_calls import Rest

CODES = grpc.StatusCode


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A push target: half (version 123) and three (versions 1 and 2)."""
    root = tmp_path_factory.mktemp("operating") / "serving"
    saved_models.half_plus_two(root / "half" / "00000123")
    saved_models.half_plus_two(root / "three" / "1", add=3.0)
    saved_models.half_plus_two(root / "three" / "2", add=4.0)
    (root / "half" / "notes").mkdir()
    (root / ".hidden").mkdir()
    return root


@pytest.mark.parametrize(
    ("arguments", "served"),
    [
        (["{}"], {"half": [123], "three": [2]}),
        (["{}/.."], {"half": [123], "three": [2]}),
        (["{}/half"], {"half": [123]}),
        (["{}/half", "--model_name=other"], {"other": [123]}),
        (["{}/three/1"], {"three": [1]}),
        (["--model_base_path={}/half"], {"default": [123]}),
        (["--model_base_path={}/half", "--model_name=m"], {"m": [123]}),
    ],
)
def test_what_a_folder_serves(models, arguments, served):
    with operated(*(argument.format(models) for argument in arguments)) as server:
        assert names(server) == served


def test_a_config_file_serves_several_models_with_versions_and_labels(models, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(f"""
        model_config_list {{
          config {{ name: "half" base_path: "{models}/half" model_platform: "tensorflow" }}
          config {{
            name: "three" base_path: "{models}/three" model_platform: "tensorflow"
            model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
        }}
    """)
    for arguments in ([f"--model_config_file={config}", "--model_name=ignored"], [str(config)]):
        with operated(*arguments, "--allow_version_labels_for_unavailable_models") as server:
            assert names(server) == {"half": [123], "three": [2, 1]}
            assert answer(server.rest, "three/labels/stable") == 4.0
            assert answer(server.rest, "three") == 5.0


def test_a_config_file_that_changes_is_read_again_if_it_is_polled(models, tmp_path):
    config = tmp_path / "models.config"
    text = (
        'model_config_list {{ config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" }} }}'
    )
    config.write_text(text.format("half", models))
    with operated(str(config), "--model_config_file_poll_wait_seconds=1") as server:
        config.write_text("nonsense")
        time.sleep(1.5)
        assert answer(server.rest, "half") == 3.0
        config.write_text(text.format("three", models))
        deadline = time.monotonic() + 60
        row = {"instances": [[2.0]]}
        while server.rest.predict("three", row).status != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answer(server.rest, "three") == 5.0


def test_the_flags_of_a_whole_command_line_of_upstream(models, tmp_path):
    batching = tmp_path / "batching.config"
    batching.write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 1000 } num_batch_threads { value: 2 }\n"
        "max_enqueued_batches { value: 10 } allowed_batch_sizes: 2 allowed_batch_sizes: 4\n"
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    path = tmp_path / "grpc.sock"
    with operated(
        f"--model_base_path={models / 'half'}",
        "--model_name=half",
        "--enable_batching=true",
        f"--batching_parameters_file={batching}",
        f"--monitoring_config_file={monitoring}",
        f"--grpc_socket_path={path}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
        "--enable_serialization_as_tensor_content=true",
        "--enable_grpc_healthcheck_service=false",
        "--enable_signature_method_name_check=true",
        "--rest_api_enable_cors_support=true",
        "--rest_api_timeout_in_ms=10000",
        "--tensorflow_session_parallelism=2",
    ) as server:
        assert answer(server.rest) == 3.0
        page = server.rest.get("/metrics")
        assert b'request_count{model_name="half",status="OK"} 1' in page.body
        assert page.headers["access-control-allow-origin"] == "*"
        for target in (f"127.0.0.1:{server.port}", f"unix:{path}"):
            with grpc.insecure_channel(target) as channel:
                found = server.predict(channel)
                assert found.outputs["y"].tensor_content == b"\x00\x00\x40\x40"
                with pytest.raises(grpc.RpcError) as caught:
                    server.predict(channel, signature="odd_method")
                assert caught.value.code() is CODES.INTERNAL
                with pytest.raises(grpc.RpcError) as caught:
                    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
                assert caught.value.code() is CODES.UNIMPLEMENTED


@pytest.mark.parametrize("text", ["prometheus_config { enable: false }", ""])
def test_metrics_are_off_if_the_monitoring_file_says_so(models, tmp_path, text):
    (tmp_path / "monitoring").write_text(text)
    with operated(str(models / "half"), f"--monitoring_config_file={tmp_path / 'monitoring'}") as server:
        assert server.rest.get("/monitoring/prometheus/metrics").status == 404


def test_a_body_may_be_as_large_as_the_flag_says(models):
    with operated(str(models / "half"), "--rest_api_max_body_bytes=100") as server:
        assert server.rest.predict("half", b'{"instances": [[2.0]]}' + b" " * 78).status == 200
        assert server.rest.predict("half", b'{"instances": [[2.0]]}' + b" " * 79).status == 413


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{}", "--port=99999"], "`--port` must be from 0 to 65535. Received: 99999"),
        (
            ["{}", "--port=7", "--rest_api_port=7"],
            "`--port` and `--rest_api_port` must differ. Received: 7 for",
        ),
        (["{}", "--port=0", "--rest_api_port=0"], "at least one door must be open. Received: --port=0 and"),
        (["{}", "{}"], "exactly one model folder or config file must be named. Received: "),
        (["{}", "--monitoring_config_file={}/y"], "the file must be a MonitoringConfig text. Received: 1:1"),
        (["{}", "--ssl_config_file={}/z"], "an SSL config must have server_key and server_cert. Received: "),
        (["{}", "--ssl_config_file={}/w"], "an SSL config must hold PEM that fits together. Received: "),
        (
            ["{}", "--grpc_channel_arguments=x"],
            "`--grpc_channel_arguments` must be name=value,... Received: x",
        ),
        (
            ["{}", "--request_log_sampling_rate=2"],
            "`--request_log_sampling_rate` must be from 0 to 1. Received: 2",
        ),
        (
            ["{}", "--request_log=/no/where/x"],
            "`--request_log` must be a prefix in a folder. Received: /no/where/x",
        ),
        (["{}", "--access_log=/no/where/x"], "an access log must be a writable file. Received: "),
    ],
)
def test_values_that_are_wrong(tmp_path, arguments, text):
    (tmp_path / "1").mkdir()
    (tmp_path / "y").write_text("no such field")
    (tmp_path / "z").write_text('server_key: "only"')
    (tmp_path / "w").write_text('server_key: "none" server_cert: "none"')
    logs: list[Any] = []
    with pytest.raises(ConfigError) as caught:
        run_settings(parse_flags([argument.format(tmp_path) for argument in arguments]), logs)
    assert caught.value.message.startswith(text)
    for log in logs:
        log.close()


def listening(port: int) -> set[str]:
    """The IPv4 addresses, as the kernel writes them, that a port is open at."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    places = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address[-8:] for address, number in places if int(number, 16) == port}


@pytest.mark.parametrize(
    ("arguments", "address"), [([], "0100007F"), (["--host=0.0.0.0"], "00000000")], ids=["default", "all"]
)
def test_both_doors_are_open_to_this_machine_alone_unless_told_otherwise(models, arguments, address):
    with operated(str(models / "half"), *arguments) as server:
        assert listening(server.port) == listening(server.rest.port) == {address}


def test_a_taken_port_is_named(models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(EnvironmentProblem, match=rf"a port must be free. Received: .*{port}"),
            operated(str(models / "half"), f"--rest_api_port={port}"),
        ):
            pass


def save(path: Path, function: Callable[[Any], Any]) -> None:
    module = tf.Module()
    signature = [tf.TensorSpec([None], tf.string, name="x")]
    tf.saved_model.save(
        module, str(path), signatures=tf.function(function, input_signature=signature, autograph=False)
    )


def printed(stream: Any) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        with tf.control_dependencies([tf.print("row", output_stream=stream)]):
            return {"y": tf.identity(x)}

    return function


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: {"y": tf.map_fn(tf.io.read_file, x)}, "ReadFile"),
        (lambda x: {"y": tf.io.matching_files(x)}, "MatchingFiles"),
        (lambda x: {"y": tf.numpy_function(lambda v: v, [x], tf.string)}, "PyFunc"),
        (printed("file:///tmp/absent/x"), "PrintV2.output_stream"),
    ],
)
def test_models_that_touch_files_or_run_python_are_refused_by_name(tmp_path, function, op):
    save(tmp_path / "m" / "1", function)
    # By default a load is tried again for minutes, but not what is refused.
    with pytest.raises(EnvironmentProblem) as caught, operated(str(tmp_path / "m")):
        pass
    text = "must hold only operators that are known to keep to its folder and process. Received: "
    assert f"{text}{op} (" in caught.value.message
    assert "allow_ops names operators that pass at your own risk" in caught.value.message
    if op == "MatchingFiles":
        with operated(
            str(tmp_path / "m"), "--max_num_load_retries=0", f"--allow_ops=ReadFile,{op}"
        ) as server:
            assert names(server) == {"m": [1]}


def test_models_that_write_to_the_log_are_served(tmp_path):
    save(tmp_path / "m" / "1", printed(tf.compat.v1.logging.info))
    with operated(str(tmp_path / "m")) as server:
        assert names(server) == {"m": [1]}


def test_files_that_are_not_what_the_manifest_says_are_refused(models, tmp_path):
    saved_models.half_plus_two(tmp_path / "m" / "1")
    files = [{"path": "saved_model.pb", "size": 3, "sha256": "0" * 64}]
    (tmp_path / "m" / "1" / "manifest.json").write_text(json.dumps({"files": files}))
    text = "every file must have the size and sum of the manifest. Received: saved_model.pb"
    with (
        pytest.raises(EnvironmentProblem, match=text),
        operated(str(tmp_path / "m"), "--max_num_load_retries=0"),
    ):
        pass
    with operated(str(tmp_path / "m"), "--check_sums=off") as server:
        assert answer(server.rest, "m") == 3.0
    (tmp_path / "m" / "1" / "manifest.json").unlink()
    with (
        pytest.raises(EnvironmentProblem, match=r"a version must have a manifest\.json"),
        operated(str(tmp_path / "m"), "--max_num_load_retries=0", "--check-sums", "require"),
    ):
        pass


def test_the_command_from_start_to_end(models, tmp_path):
    """What people see: every line of a start, of a request and of an end."""
    port, rest_port = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("headrace")), "serve", str(models)]
    flags = [f"--port={port}", f"--rest_api_port={rest_port}", "--access_log=-", "--num_tflite_pools=2"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *flags], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            while not lines or not lines[-1].startswith("REST"):
                lines.append(process.stderr.readline().rstrip("\n"))
                assert lines[-1], lines
            rest = Rest(rest_port)
            assert answer(rest, "three") == 5.0
            assert rest.predict("three", {"instances": [["x"]]}).status == 400
            process.send_signal(signal.SIGTERM)
            out, rest_of_errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "")
    assert lines[0] == f"loading {models}"
    assert lines[1].startswith("--num_tflite_pools means nothing here: ")
    assert all("INFO Successfully loaded servable version" in line for line in lines[2:-4])
    assert lines[-4:] == [
        "model half: version 123",
        "model three: version 2",
        f"gRPC 127.0.0.1:{port}",
        f"REST http://127.0.0.1:{rest_port}/v1/models",
    ]
    *requests, last = rest_of_errors.splitlines()
    assert last == "stopped"
    assert [json.loads(line)["status"] for line in requests] == [200, 400]
