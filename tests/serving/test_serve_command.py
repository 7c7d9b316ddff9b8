"""`headrace serve`: what is told before anything is loaded, and a model that has no version yet."""

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.serving.server import command
from headrace.serving.server.addresses import check_free, read_addresses
from headrace.serving.server.command import run_command
from headrace.serving.server.flags import parse_flags
from headrace.serving.server.folders import check_model
from tests.serving import saved_models
from tests.serving.operated import answer, names, operated


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command end in an error that no test expects, if it goes on to TensorFlow."""

    def fail() -> None:
        raise AssertionError("TensorFlow would be imported")

    monkeypatch.setattr(command, "import_quietly", fail)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found.getsockname()[1]


def made(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("x")


@pytest.mark.parametrize(("flag", "other"), [("port", "rest_api_port"), ("rest_api_port", "port")])
def test_a_port_in_use_is_told_before_a_model_is_loaded(tmp_path, unloaded, taken, flag, other):
    said: list[str] = []
    with pytest.raises(EnvironmentProblem) as caught:
        run_command([str(tmp_path), f"--{flag}={taken}", f"--{other}=0"], said.append, said.append)
    assert caught.value.message == (
        f"`--{flag}` must be free. Received: {taken}, which another program has (127.0.0.1:{taken})"
    )
    assert f"--{flag}=N opens another, --{flag}=0 no " in caught.value.hint
    assert said == []


def test_a_port_that_somebody_has_on_every_address_is_in_use(taken):
    with pytest.raises(EnvironmentProblem, match="must be free"):
        check_free(
            read_addresses(parse_flags(["m", "--host=0.0.0.0", f"--port={taken}", "--rest_api_port=0"]))
        )


def test_a_port_that_was_just_closed_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # leaves the port in TIME_WAIT
    check_free(read_addresses(parse_flags(["m", f"--port={port}", "--rest_api_port=0"])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=70000"], "`--port` must be from 0 to 65535. Received: 70000"),
        (["--port=8501"], "`--port` and `--rest_api_port` must differ. Received: 8501 for both"),
        (["--port=0", "--rest_api_port=0"], "at least one door must be open"),
        (["--host=192.0.2.1"], "`--host` must be an address of this machine. Received: 192.0.2.1"),
        (["--host=no.such.host.invalid"], "`--host` must be an address of this machine"),
    ],
)
def test_addresses_that_cannot_be(tmp_path, unloaded, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run_command([str(tmp_path), *arguments], print, print)


@pytest.mark.parametrize("named", ["lite", "lite/m", "lite/m/1", "lite/m/1/model.tflite", "."])
def test_a_tf_lite_bundle_is_refused_with_what_can_use_it(tmp_path, monkeypatch, unloaded, named):
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "lite/m/1/model.tflite", "lite/m/1/labels.json")
    folder = named.removesuffix("/model.tflite")
    with pytest.raises(ConfigError) as caught:
        run_command([named], print, print)
    assert (
        caught.value.message == f"a served model must be a SavedModel. Received: {folder}, a TF Lite bundle"
    )
    assert f"headrace predict {folder} ROWS.csv, or headrace.serving.client.LiteClient" in caught.value.hint
    assert "serves its SavedModel" not in caught.value.hint


def test_the_saved_model_beside_a_bundle_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "push/lite/m/1/model.tflite", "push/serving/m/1/saved_model.pb")
    with pytest.raises(ConfigError) as caught:
        check_model(Path("push/lite/m"))
    assert caught.value.hint.startswith("headrace serve push/serving/m serves its SavedModel; ")
    for other in ("push", "push/serving", "push/serving/m", "push/serving/m/1"):
        check_model(Path(other))


@pytest.mark.parametrize(
    ("named", "message", "hint"),
    [
        (
            "runs/a",
            "must be a folder of versions. Received: runs/a, the folder of a run",
            "headrace serve push",
        ),
        ("m/1/saved_model.pb", "named by its folder. Received: m/1/saved_model.pb", "headrace serve m/1"),
        ("flights.yaml", "must be a ModelServerConfig. Received: .*flights.yaml", "headrace serve push"),
        ("absent", "must be a folder or a config file. Received: absent, which is not there", ""),
        ("--model_config_file=flights.yaml", "must be a ModelServerConfig. Received: .*flights.yaml", "push"),
        ("--model_base_path=runs/a", "a folder of versions. Received: runs/a", "headrace serve push"),
    ],
)
def test_what_is_no_model_is_told_at_once(tmp_path, monkeypatch, unloaded, named, message, hint):
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "runs/a/summary.json", "runs/a/report.html", "m/1/saved_model.pb", "flights.yaml")
    with pytest.raises(ConfigError, match=message) as caught:
        run_command([named], print, print)
    assert hint in caught.value.hint


def test_a_model_without_a_version_is_waited_for(tmp_path, monkeypatch):
    said: list[str] = []
    base = tmp_path / "half"
    base.mkdir()
    with operated(str(base), "--file_system_poll_wait_seconds=1") as server:
        command_module = sys.modules["headrace.serving.server.serve"]
        command_module._announce(server.server.server, parse_flags([str(base)]), said.append)
        assert said[0] == f"model half: waiting for a version: a numbered folder such as {base}/1"
        assert server.rest.get("/readyz").status == 503
        assert server.rest.predict("half", {"instances": [2.0]}).status == 404
        saved_models.half_plus_two(tmp_path / "made")
        (tmp_path / "made").rename(base / "1")
        end = time.monotonic() + 30
        while not names(server) and time.monotonic() < end:
            time.sleep(0.05)
        assert answer(server.rest) == 3.0
    with (
        pytest.raises(EnvironmentProblem, match=r"\{name: none\}: no version found"),
        operated(str(tmp_path), "--model_name=none", "--file_system_poll_wait_seconds=0"),
    ):
        pass
