"""A run that is stopped has a summary, a report and a verdict of its own, and says how to go on."""

import json
import os
import signal
from pathlib import Path

import pytest

from .project import Project, caught

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_the_end_of_the_terminal_end_alike(number: signal.Signals, tmp_path: Path) -> None:
    project = Project.make(tmp_path, rows=200)
    process, _ = caught(project, "ingest", "written", "run", "demo.yaml")
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    (run,) = (path.parent for path in project.folder.glob("runs/*/request.json"))
    assert "interrupted in ingest" in stderr
    assert f"to go on: headrace resume {run.name}" in stderr
    assert "Traceback" not in stderr
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["verdict"] == "interrupted"
    assert summary["error"]["exit_code"] == 130
    assert "Interrupted" in (run / "report.html").read_text(encoding="utf-8")
    for command in ("why", "report"):
        asked = project.call(command)
        assert asked.exit_code == 2
        assert f"Received: {run.name}, which was interrupted" in asked.stderr
