"""Ctrl-C and kills in every node: no half-written output, and the next run goes on."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headrace.pipeline.graph import GRAPH

from .project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

QUICK = {"data_verdict", "verdict", "baseline", "schema", "validation", "gates", "tuner", "push"}
"""Nodes that take less than a poll; a signal may reach the next one instead."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.make(tmp_path_factory.mktemp("interrupts"), rows=2000)


def wait_for_log(project: Project, node: str, known: set[Path], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if set(project.folder.glob(f"runs/*/logs/{node}.log")) - known:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("node", [node.id for node in GRAPH])
def test_an_interrupt_leaves_nothing_half_written(project: Project, node: str) -> None:
    known = set(project.folder.glob(f"runs/*/logs/{node}.log"))
    before = project.pushed()
    process = project.start("run", "demo.yaml", "--force")
    try:
        wait_for_log(project, node, known, process)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130 or node in QUICK, stderr
    assert "Traceback" not in stderr
    whole = {name for name in project.pushed() if "/." not in f"/{name}"}
    manifests = {name.rpartition("/")[0] for name in whole if name.endswith("manifest.json")}
    assert all(any(name.startswith(f"{folder}/") for folder in manifests) for name in whole)
    if node != "push":
        assert project.pushed() == before


def test_a_killed_node_is_told_and_the_next_run_goes_on(project: Project) -> None:
    process = project.start("run", "demo.yaml", "--force")
    known = set(project.folder.glob("runs/*/logs/transform.log"))
    wait_for_log(project, "transform", known, process)
    children = subprocess.run(
        ["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    newest = max(int(pid) for pid in children)
    os.kill(newest, signal.SIGKILL)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 1, stderr
    assert "node transform died (SIGKILL)" in stderr
    after = project.run()
    assert after.exit_code == 0, after.stderr
