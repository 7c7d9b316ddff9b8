"""Golden requests through a server's doors: the embedded one, and stand-ins for TensorFlow Serving."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from headrace.components.features.golden import encode_rows
from headrace.components.infra.child import run_child
from headrace.components.infra.doors import visit_doors
from headrace.components.infra.engine import find_tensorflow_serving, require_engine
from headrace.components.infra.golden import Golden
from headrace.components.infra.probe import ANSWERS, probe_session
from headrace.components.infra.visit import Visitor
from headrace.data.errors import ConfigError
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import RunSettings, entry_of_folder
from tests.serving.running import running

pytestmark = pytest.mark.long

ROWS: list[dict[str, Any]] = [
    {"n": 1.5, "s": "a"},
    {"n": None, "s": "unseen é"},
    {"n": -2.0, "s": None},
]
TYPES: dict[str, Any] = {"n": "float", "s": "string"}

STAND_IN = """#!{python}
# tensorflow_model_server's command line, answered by the embedded server; what it serves can be replaced.
import pathlib, sys
from headrace.serving.server.serve import serve
arguments = sys.argv[1:]
other = {other!r}
if other:
    kept = [a for a in arguments if not a.startswith("--model_base_path=")]
    arguments = [*kept, "--model_base_path=" + other]
pathlib.Path({log!r}).write_text("\\n".join(sys.argv[1:]))
sys.exit(serve(arguments, lambda line: print(line, flush=True)))
"""

DOCKER = """#!{python}
# docker's command line, as far as the gate uses it: the image is there, and `run` serves the mounted folder.
import os, pathlib, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(arguments) + "\\n")
if arguments[:2] == ["image", "inspect"] or arguments[:2] == ["rm", "--force"]:
    sys.exit(0)
given = dict(a.split("=", 1) for a in arguments if a.startswith("--") and a.count("=") == 1)
ports = {{a.rsplit(":", 1)[1]: a.split(":")[1] for a in arguments if a.startswith("--publish=")}}
name = next(a for a in arguments if a.startswith("--env=MODEL_NAME=")).rsplit("=", 1)[1]
folder = given["--volume"].split(":")[0]
base = pathlib.Path({log!r}).parent / "mounted"
base.mkdir()
(base / "1").symlink_to(folder)
from headrace.serving.server.serve import serve
flags = ["--port=" + ports["8500"], "--rest_api_port=" + ports["8501"], "--model_name=" + name]
sys.exit(serve([*flags, "--model_base_path=" + str(base)], lambda line: None))
"""


class Sums(tf.Module):
    """Answers with n (0 where missing) + the length of s + a shift, and the text that it saw."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = tf.Variable(shift)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="n"),
            tf.TensorSpec([None], tf.string, name="s"),
        ]
    )
    def raw(self, n: Any, s: Any) -> dict[str, Any]:
        known = tf.where(tf.math.is_nan(n), 0.0, n)
        return {"outputs": known + tf.cast(tf.strings.length(s), tf.float32) + self.shift, "text": s}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(self, examples: Any) -> dict[str, Any]:
        spec = {
            "n": tf.io.FixedLenFeature([], tf.float32, float("nan")),
            "s": tf.io.FixedLenFeature([], tf.string, ""),
        }
        return self.raw(**tf.io.parse_example(examples, spec))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def features(self, examples: Any) -> dict[str, Any]:
        return {"n": tf.io.parse_example(examples, {"n": tf.io.FixedLenFeature([], tf.float32, -1.0)})["n"]}


def save(path: Path, shift: float = 0.0) -> str:
    module = Sums(shift)
    signatures = {
        "serving_raw": module.raw,
        "serving_default": module.examples,
        "transform_features": module.features,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save(root / "right" / "1")
    save(root / "wrong" / "1", 0.001)
    return root


@pytest.fixture(scope="module")
def golden() -> Golden:
    numbers = [2.5, 8.0, -2.0]  # n or 0, plus the bytes of s
    outputs = {"outputs": numbers, "text": [row["s"] or "" for row in ROWS]}
    numbers[1] += len("é".encode()) - 1
    return Golden(ROWS, TYPES, encode_rows(ROWS, TYPES), {"serving_raw": outputs, "serving_default": outputs})


@pytest.fixture(scope="module")
def probed(models: Path, golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the right model answers in process."""
    folder = tmp_path_factory.mktemp("probed")
    request = request_of(models, golden)
    assert probe_session(request, folder)["max_golden_diff"] == 0
    return folder


def request_of(models: Path, golden: Golden) -> dict[str, Any]:
    return {
        "runtime": "tf",
        "path": str(models / "right" / "1"),
        "name": "float32",
        "rows": golden.rows,
        "types": golden.types,
        "examples": [base64.b64encode(example).decode() for example in golden.examples],
        "expected": golden.scores,
        "budget_s": 0.02,
    }


@pytest.fixture
def visited(models: Path, golden: Golden, probed: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """What a visit to a server finds, which serves the model named by the parameter."""
    answers = json.loads((probed / ANSWERS).read_text())
    settings = RunSettings(
        entries=(entry_of_folder(str(models / request.param / "1"), "float32"),),
        doors=(lambda core, listeners: RestDoor(core, RestSettings(port=0), listeners),),
    )
    with running(settings) as server:
        grpc_port, rest_port = (door.port for door in server.server.doors)
        yield visit_doors({"rest": rest_port, "grpc": grpc_port}, "float32", golden, answers, 0.02)


@pytest.mark.parametrize("visited", ["right"], indirect=True)
def test_every_signature_is_asked_through_both_doors(visited):
    for door in ("rest", "grpc"):
        found = visited[door]
        assert (found["reason"], found["max_golden_diff"], found["golden_rows"]) == ("", 0.0, 3)
        assert sorted(found["signatures"]) == ["serving_default", "serving_raw", "transform_features"]
        assert set(found["latency_us"]) == {"b1", "b100"}
        assert 0 < found["latency_us"]["b1"]["p50"] <= found["latency_us"]["b1"]["p99"]


@pytest.mark.parametrize("visited", ["wrong"], indirect=True)
def test_other_answers_show_as_a_difference(visited):
    for door in ("rest", "grpc"):
        assert visited[door]["max_golden_diff"] == pytest.approx(0.001 / 2, rel=0.01)  # of the row with -2


def test_a_server_that_is_not_there_is_a_finding(golden, probed):
    answers = json.loads((probed / ANSWERS).read_text())
    found = visit_doors({"rest": 1, "grpc": 1}, "float32", golden, answers, 0.02)
    assert "no answer: ConnectionRefusedError" in found["rest"]["reason"]
    assert "UNAVAILABLE" in found["grpc"]["reason"]
    assert {found[door]["max_golden_diff"] for door in found} == {None}


def test_the_probe_opens_doors_and_waits_for_its_visitor(models, golden, tmp_path):
    visitor = Visitor("float32", golden, tmp_path, 0.08)
    request = request_of(models, golden) | {"doors": True}
    found = run_child(request, tmp_path, 120, visit=visitor.embedded)
    assert found["max_golden_diff"] == 0, found
    assert visitor.found["by"] == "embedded"
    assert visitor.found["load_s"] == found["load_s"]
    for door in ("rest", "grpc"):
        assert (visitor.found[door]["reason"], visitor.found[door]["max_golden_diff"]) == ("", 0.0)


class TestTensorFlowServing:
    """With programs of the real one's command line on the PATH, and nothing else."""

    def install(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str, **words: Any
    ) -> Path:
        folder.mkdir(exist_ok=True)
        log = folder / "log"
        (folder / name).write_text(text.format(python=sys.executable, log=str(log), **words))
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return log

    def visit(
        self, models: Path, golden: Golden, probed: Path, tmp_path: Path, **bounds: Any
    ) -> dict[str, Any]:
        engine = find_tensorflow_serving()
        assert engine is not None
        (tmp_path / ANSWERS).write_text((probed / ANSWERS).read_text())
        visitor = Visitor("float32", golden, tmp_path, 0.08)
        path = str(models / "right" / "1")
        visitor.upstream(engine, path, bounds.get("timeout_s", 120), bounds.get("max_rss_bytes"))
        return visitor.found

    def test_the_program_is_started_as_upstream_documents(
        self, monkeypatch, models, golden, probed, tmp_path
    ):
        log = self.install(monkeypatch, tmp_path / "bin", "tensorflow_model_server", STAND_IN, other="")
        found = self.visit(models, golden, probed, tmp_path)
        assert found["by"] == "tensorflow_serving"
        for door in ("rest", "grpc"):
            assert (found[door]["reason"], found[door]["max_golden_diff"]) == ("", 0.0)
        assert 0 < found["load_s"] < 120
        assert found["rss_bytes"] > 100_000_000
        flags = dict(flag.split("=") for flag in log.read_text().splitlines())
        assert flags["--model_name"] == "float32"
        assert flags["--model_base_path"] == str(tmp_path / "served")
        assert flags["--port"] != flags["--rest_api_port"]

    def test_a_server_whose_answers_differ_fails(self, monkeypatch, models, golden, probed, tmp_path):
        wrong = str(models / "wrong")
        self.install(monkeypatch, tmp_path / "bin", "tensorflow_model_server", STAND_IN, other=wrong)
        found = self.visit(models, golden, probed, tmp_path)
        for door in ("rest", "grpc"):
            assert found[door]["max_golden_diff"] == pytest.approx(0.001 / 2, rel=0.01)

    @pytest.mark.parametrize(
        ("body", "bounds", "reason"),
        [
            ("import sys; sys.exit('no such flag')", {}, "its process ended with exit code 1: no such flag"),
            (
                "import time; time.sleep(60)",
                {"timeout_s": 1.0},
                "it did not finish within 1 s and was killed",
            ),
            (
                "import time; held = b'x' * 200_000_000; time.sleep(60)",
                {"max_rss_bytes": 100_000_000},
                "at most 100,000,000 are allowed",
            ),
        ],
    )
    def test_a_server_that_dies_hangs_or_grows(
        self, monkeypatch, models, golden, probed, tmp_path, body, bounds, reason
    ):
        text = "#!{python}\n" + body + "\n"
        self.install(monkeypatch, tmp_path / "bin", "tensorflow_model_server", text)
        found = self.visit(models, golden, probed, tmp_path, **bounds)
        for door in ("rest", "grpc"):
            assert reason in found[door]["reason"]
            assert found[door]["max_golden_diff"] is None

    def test_docker_is_used_where_only_the_image_is_there(
        self, monkeypatch, models, golden, probed, tmp_path
    ):
        log = self.install(monkeypatch, tmp_path / "bin", "docker", DOCKER)
        found = self.visit(models, golden, probed, tmp_path, max_rss_bytes=3_000_000_000)
        assert (found["rest"]["reason"], found["grpc"]["reason"]) == ("", "")
        assert (found["by"], found["rss_bytes"]) == ("tensorflow_serving", None)
        asked, ran, removed = log.read_text().splitlines()
        assert asked == "image inspect tensorflow/serving"
        assert {"--rm", "--memory=3000000000"} <= set(ran.split())
        assert f"--volume={(models / 'right' / '1').resolve()}:/models/float32/1:ro" in ran.split()
        assert removed.startswith("rm --force headrace-gate-")

    def test_without_it_the_config_is_at_fault(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        require_engine("embedded")
        with pytest.raises(
            ConfigError, match=r"Received: neither tensorflow_model_server on the PATH nor"
        ) as caught:
            require_engine("tensorflow_serving")
        assert "gates.serving.gate: embedded" in str(caught.value.hint)

    def test_a_docker_without_the_image_does_not_count(self, monkeypatch, tmp_path):
        self.install(monkeypatch, tmp_path / "bin", "docker", "#!{python}\nimport sys; sys.exit(1)\n")
        assert find_tensorflow_serving() is None
