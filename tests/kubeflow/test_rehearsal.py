"""What was compiled runs, and ends as `headrace run` does; short here, the whole DAG where slow tests run."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.kubeflow.rehearsal import Rehearsal, rehearse
from headrace.kubeflow.simulate import StepRun, Watcher
from tests.e2e.project import CONFIG, Project, Ran, snapshot

NODES_OUTSIDE_CACHE = {"data_verdict", "verdict", "push"}


def open_folder() -> Path:
    """Return a folder that every user can enter, as the containers' user must."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-kubeflow-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def project() -> Iterator[Project]:
    folder = open_folder()
    made = Project.make(folder, rows=60)
    made.write_config({**CONFIG, "kubeflow": {"defaults": {"retries": 0}}})
    yield made
    shutil.rmtree(folder)


def summary_of(done: Rehearsal) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.summary_path.read_text())
    return found


def edit(pipeline: Path, label: str, argument: str) -> None:
    """Add an argument to one executor of a compiled file."""
    documents = list(yaml.safe_load_all(pipeline.read_text()))
    documents[0]["deploymentSpec"]["executors"][label]["container"]["args"].insert(0, argument)
    pipeline.write_text(yaml.safe_dump_all(documents))


@pytest.mark.e2e
def test_a_wrong_column_fails_the_first_step_and_is_still_reported(project: Project) -> None:
    compiled = project.call("kubeflow", "compile", "demo.yaml", "-o", "p.yaml")
    assert compiled.exit_code == 0, compiled.stderr
    (project.folder / "rows.csv").write_text("hour,late\n1,0\n")
    (project.folder / "v").mkdir()
    (project.folder / "v" / "data").symlink_to(project.folder)
    ran = project.call("kubeflow", "simulate", "p.yaml", "--volume", "v", "--json")
    assert ran.exit_code == 2
    assert ran.result["verdict"] == "failed"
    assert "error: " in ran.stderr
    assert "no column 'distance'" in ran.stderr
    summary = json.loads((project.folder / ran.result["summary_path"]).read_text())
    assert [node["state"] for node in summary["nodes"]] == ["failed"] + ["skipped"] * 15
    assert (project.folder / ran.result["report_path"]).stat().st_size > 10_000


@pytest.mark.e2e
def test_an_edited_argument_of_the_file_changes_the_outcome(project: Project) -> None:
    volume = project.folder / "v"
    compiled = project.call("kubeflow", "compile", "demo.yaml", "-o", "p.yaml")
    assert compiled.exit_code == 0, compiled.stderr
    edit(project.folder / "p.yaml", "exec-ingest", "--set=data.label=nothing")
    volume.mkdir()
    (volume / "data").symlink_to(project.folder)
    summary = summary_of(rehearse(project.folder / "p.yaml", volume))
    assert summary["verdict"] == "failed"
    assert "nothing" in summary["error"]["message"]


class Killer(Watcher):
    """Kills the first try of a step, as the machine's out-of-memory killer would."""

    def __init__(self, name: str) -> None:
        self.name = name

    def started(self, name: str, number: int, pid: int) -> None:
        if name == self.name and number == 1:
            os.kill(pid, signal.SIGKILL)


class Spoiler(Watcher):
    """Appends a byte to every int8 model once a step has ended."""

    def __init__(self, name: str, volume: Path) -> None:
        self.name, self.volume = name, volume

    def ended(self, step: StepRun) -> None:
        if step.name == self.name:
            for model in self.volume.rglob("variants/*/tflite_int8/model.tflite"):
                with model.open("ab") as stream:
                    stream.write(b"x")


@pytest.fixture(scope="module")
def local() -> Iterator[tuple[Project, Ran]]:
    """A project and its run by `headrace run`, with a low bar that every model takes."""
    folder = open_folder()
    project = Project.make(folder, rows=2000)
    ran = project.run()
    assert ran.exit_code == 0, ran.stderr
    yield project, ran
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def simulated(local: tuple[Project, Ran]) -> Rehearsal:
    """The same, simulated, its schema step killed once."""
    project, _ = local
    (project.folder / "demo.schema.pbtxt").unlink()
    return rehearse(project.folder / "demo.yaml", project.folder / "v", watcher=Killer("schema"))


def comparable(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs of one config must agree on: all but times, places and latencies."""
    # A SavedModel holds the paths that it was written from, so its size differs by their length.
    timed = ("latency_us", "load_s", "pushed_to", "size_bytes")
    return {
        "content_id": summary["content_id"],
        "verdict": summary["verdict"],
        "data": summary["data"],
        "nodes": [node["id"] for node in summary["nodes"]],
        "variants": [{k: v for k, v in variant.items() if k not in timed} for variant in summary["variants"]],
        "pushed": [variant["name"] for variant in summary["variants"] if variant["pushed_to"]],
        "gates": [
            {key: gate[key] for key in ("kind", "variant", "slice", "metric", "bound", "state")}
            for gate in summary["gates"]
        ],
    }


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1500)
class TestWholeRun:
    def test_it_ends_as_a_local_run_does(self, local: tuple[Project, Ran], simulated: Rehearsal) -> None:
        project, ran = local
        assert comparable(summary_of(simulated)) == comparable(project.summary(ran))
        volume = project.folder / "v"
        here = {path for path in project.pushed() if not path.endswith("manifest.json")}
        there = {
            p.relative_to(volume / "push").as_posix() for p in (volume / "push").rglob("*") if p.is_file()
        }
        assert here <= there
        assert simulated.simulation.state == "SUCCEEDED"

    def test_the_killed_step_was_tried_again(self, simulated: Rehearsal) -> None:
        assert simulated.simulation.step("schema").tries == 2

    def test_the_ui_gets_numbers_matrix_and_report(self, simulated: Rehearsal) -> None:
        summary = summary_of(simulated)
        float32 = next(variant for variant in summary["variants"] if variant["name"] == "float32")
        shown = simulated.simulation.step("evaluation").artifacts
        assert shown["metrics"]["metadata"]["auc"] == float32["metrics"]["auc"]
        rows = [row["row"] for row in shown["classification"]["metadata"]["confusionMatrix"]["rows"]]
        assert rows == float32["confusion_matrix"]["matrix"]
        report = Path(simulated.simulation.step("report").artifacts["report"]["uri"])
        assert report.read_bytes() == simulated.report_path.read_bytes()

    def test_a_second_run_is_cached_and_pushes_nothing(
        self, local: tuple[Project, Ran], simulated: Rehearsal
    ) -> None:
        project, _ = local
        again = summary_of(rehearse(project.folder / "demo.yaml", project.folder / "v"))
        assert {n["id"] for n in again["nodes"] if n["state"] != "cached"} == NODES_OUTSIDE_CACHE
        versions = [p.name for p in (project.folder / "v/push/serving/demo").iterdir() if p.name.isdigit()]
        assert versions == ["1"]

    def test_a_gate_fails_the_verdict_with_its_reason(
        self, local: tuple[Project, Ran], simulated: Rehearsal
    ) -> None:
        project, _ = local
        strict = {**CONFIG, "gates": {**CONFIG["gates"], "quality": [{"metric": "auc", "min": 0.999}]}}
        project.write_config(strict)
        done = rehearse(project.folder / "demo.yaml", project.folder / "v")
        steps = {step.name: step for step in done.simulation.steps}
        assert (steps["gates"].state, steps["verdict"].state, steps["push"].state) == (
            "SUCCEEDED",
            "FAILED",
            "SKIPPED",
        )
        assert (steps["verdict"].tries, steps["verdict"].reason) == (1, "exit code 3")
        log = steps["verdict"].log
        assert log is not None
        assert "auc" in log.read_text()
        summary = summary_of(done)
        assert summary["verdict"] == "rejected"
        assert "rejected the model" in summary["error"]["message"]

    def test_what_is_altered_between_two_steps_is_refused_by_name(
        self, local: tuple[Project, Ran], simulated: Rehearsal
    ) -> None:
        project, _ = local
        volume = project.folder / "v"
        before = snapshot(volume / "push")
        done = rehearse(project.folder / "demo.yaml", volume, watcher=Spoiler("variants", volume))
        steps = {step.name: step.state for step in done.simulation.steps}
        assert (steps["variants"], steps["evaluation"], steps["push"]) == ("SUCCEEDED", "FAILED", "SKIPPED")
        error = summary_of(done)["error"]
        assert (
            "must be as its node left it. Received: tflite_int8/model.tflite is altered" in error["message"]
        )
        assert snapshot(volume / "push") == before


@pytest.mark.e2e
def test_a_node_that_is_told_to_stop_says_so_and_leaves_nothing_half_done(project: Project) -> None:
    process = project.start("node", "ingest", "--config", "demo.yaml", "--run-id", "r1", "--root", ".")
    store = project.folder / "runs" / ".store"
    deadline = time.monotonic() + 100
    while not (store / "metadata.sqlite").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    record = json.loads((project.folder / "runs/r1/steps/ingest.json").read_text())
    if process.returncode == 0:
        # It was done before the signal arrived.
        assert record["result"]["state"] == "complete"
        return
    assert process.returncode == 130, told
    assert "stopped by the scheduler" in told
    assert record["result"]["exit_code"] == 130
    assert not list(store.glob("artifacts/ingest/examples/*"))
