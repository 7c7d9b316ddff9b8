"""Ctrl-C and kill -9 in every node: nothing half-written, and going on ends as an undisturbed run does.

Each test takes one run through all nodes, stops it in each, and goes on from there.
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.graph import GRAPH

from .project import Project, caught

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

WORKS_LONG = {"transform", "trainer", "variants", "evaluation", "infra"}
"""Nodes that are caught at work. The others are over too soon: they are held once they have written."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one run that nothing stopped."""
    project = Project.make(tmp_path_factory.mktemp("undisturbed"), rows=2000)
    ran = project.run()
    assert ran.exit_code == 0, ran.stderr
    return project


@dataclass
class Caught:
    """A command whose node stands at the wanted point."""

    process: "subprocess.Popen[str]"
    node_pid: int

    def end(self) -> tuple[int, str]:
        """Wait for the command; return its exit code and stderr."""
        try:
            _, stderr = self.process.communicate(timeout=60)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        assert "Traceback" not in stderr
        return self.process.returncode, stderr


def catch(project: Project, node: str, point: str, *arguments: str) -> Caught:
    """Start a command and return once `node` reached `point`."""
    return Caught(*caught(project, node, point, *arguments))


def point_of(node: str) -> str:
    return "working" if node in WORKS_LONG else "written"


def latest(project: Project) -> str:
    return max(path.parent.name for path in project.folder.glob("runs/*/request.json"))


def unpublished(project: Project) -> list[str]:
    """Return output folders, and notes of TFX, that MLMD does not know as those of a finished node."""
    root = project.folder / "runs" / ".store"
    with sqlite3.connect(root / "metadata.sqlite") as store:
        # ml_metadata.Execution: COMPLETE = 3
        done = {str(row[0]) for row in store.execute("select id from Execution where last_known_state = 3")}
    patterns = [f"{node.id}/{output}/*" for node in GRAPH for output in node.outputs]
    patterns.append("*/.system/executor_execution/*")
    found = [path for pattern in patterns for path in (root / "artifacts").glob(pattern)]
    return sorted(path.relative_to(root).as_posix() for path in found if path.name not in done)


def scratch(project: Project) -> set[str]:
    """Return the nodes that left scratch files."""
    return {path.name.rpartition("-")[0] for path in (project.folder / "runs/.store/scratch").iterdir()}


def half_pushed(project: Project) -> list[str]:
    """Return version folders without a manifest, hidden ones too."""
    return [
        path.relative_to(project.folder).as_posix()
        for path in project.folder.glob("push/*/demo/*")
        if path.name.startswith(".") or not (path / "manifest.json").exists()
    ]


def processes(project: Project) -> list[str]:
    """Return the processes that work in the project's folder, but for the end of those just stopped."""
    found: list[str] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "cwd").resolve().is_relative_to(project.folder):
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
        if not found:
            break
        time.sleep(0.1)
    return found


def assert_equal_result(project: Project, undisturbed: Project) -> None:
    """Check that both folders hold the same models, judged the same."""
    first, second = (summary(p) for p in (undisturbed, project))
    assert second["verdict"] == "pushed"
    for key in ("content_id", "data"):
        assert second[key] == first[key]
    for ours, theirs in zip(second["variants"], first["variants"], strict=True):
        for key in ("name", "weight_bytes", "metrics", "slices", "confusion_matrix"):
            assert ours[key] == theirs[key], (ours["name"], key)
    states = {node["state"] for node in second["nodes"]}
    assert states <= {"complete", "cached"}
    ours, theirs = project.pushed(), undisturbed.pushed()
    assert set(ours) == set(theirs)
    # TensorFlow numbers functions as they come, and orders a map as it likes: these hold the same otherwise.
    loose = ("manifest.json", "saved_model.pb", "fingerprint.pb", "golden.json", "requests")
    assert {k: v for k, v in ours.items() if not k.endswith(loose)} == {
        k: v for k, v in theirs.items() if not k.endswith(loose)
    }
    golden = "push/lite/demo/1/golden.json"
    assert read(project.folder / golden) == read(undisturbed.folder / golden)


def summary(project: Project) -> dict[str, Any]:
    return dict(read(project.folder / "runs" / latest(project) / "summary.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_ctrl_c_in_every_node_and_resume(undisturbed: Project, tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    command = ["run", "demo.yaml"]
    for node in GRAPH:
        held = catch(project, node.id, point_of(node.id), *command)
        os.killpg(held.process.pid, signal.SIGINT)
        code, stderr = held.end()
        assert (code, f"interrupted in {node.id}" in stderr) == (130, True), stderr
        assert unpublished(project) == []
        assert half_pushed(project) == []
        assert scratch(project) <= ({node.id} if node.resumable else set())
        assert processes(project) == []
        assert summary(project)["verdict"] == "interrupted"
        command = ["resume", latest(project)]
    again = project.call(*command)
    assert again.exit_code == 0, again.stderr
    assert len(list(project.folder.glob("runs/*/request.json"))) == 1
    assert scratch(project) == set()
    assert_equal_result(project, undisturbed)


def test_kill_in_every_node_and_run_again(undisturbed: Project, tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    for node in GRAPH:
        held = catch(project, node.id, point_of(node.id), "run", "demo.yaml")
        os.kill(held.node_pid, signal.SIGKILL)
        code, stderr = held.end()
        assert (code, f"node {node.id} died (SIGKILL)" in stderr) == (1, True), stderr
        assert unpublished(project) == []
        assert half_pushed(project) == []
        assert processes(project) == []
    again = project.run()
    assert again.exit_code == 0, again.stderr
    assert scratch(project) == set()
    assert_equal_result(project, undisturbed)


def test_the_whole_run_dies_in_every_node_and_is_resumed(undisturbed: Project, tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    command = ["run", "demo.yaml"]
    for number, node in enumerate(GRAPH):
        # As at a power cut: nobody is left to clean up. For every other node MLMD has the results already.
        held = catch(project, node.id, "published" if number % 2 else point_of(node.id), *command)
        os.killpg(held.process.pid, signal.SIGKILL)
        assert held.end()[0] == -signal.SIGKILL
        assert half_pushed(project) == []
        assert processes(project) == []
        command = ["resume", latest(project)]
    again = project.call(*command)
    assert again.exit_code == 0, again.stderr
    assert unpublished(project) == []
    assert scratch(project) == set()
    assert_equal_result(project, undisturbed)


def test_ctrl_c_counts_where_the_node_ends_well_all_the_same(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    held = catch(project, "ingest", "deaf", "run", "demo.yaml")
    os.killpg(held.process.pid, signal.SIGINT)
    code, stderr = held.end()
    assert (code, "interrupted before statistics" in stderr) == (130, True), stderr
    assert {node["id"]: node["state"] for node in summary(project)["nodes"]}["ingest"] == "complete"
    assert unpublished(project) == []


def test_nodes_end_with_a_scheduler_that_is_killed(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    held = catch(project, "ingest", "written", "run", "demo.yaml")
    os.kill(held.process.pid, signal.SIGKILL)
    assert held.end()[0] == -signal.SIGKILL
    assert processes(project) == []
    assert unpublished(project) == []


def test_ctrl_c_while_the_first_process_starts(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    process = project.start("run", "demo.yaml")
    deadline = time.monotonic() + 60
    while not list(project.folder.glob("runs/*/logs/forkserver.log")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    code, stderr = Caught(process, 0).end()
    assert (code, "interrupted in ingest" in stderr) == (130, True), stderr
    assert processes(project) == []
