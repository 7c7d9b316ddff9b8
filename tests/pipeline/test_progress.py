"""What a run leaves on a terminal: a line a node."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from headrace.pipeline.graph import node
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.progress import TerminalReporter


@pytest.mark.parametrize("folder", ["", "mine/deep"])
def test_paths_in_findings_work_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "mine/deep").mkdir(parents=True)
    written = tmp_path / folder / "churn.schema.pbtxt"
    written.write_text("feature {}", encoding="utf-8")
    elsewhere = tmp_path.parent / "churn.schema.pbtxt"
    monkeypatch.chdir(tmp_path)
    told = io.StringIO()
    reporter = TerminalReporter(Console(file=told, width=400))
    for path in (written, elsewhere):
        reporter.finish(node("schema"), LaunchResult("complete", finding=f"written to {path}"))
    shown = [line.split("written to ")[1].strip() for line in told.getvalue().splitlines()]
    assert shown == [str(Path(folder, "churn.schema.pbtxt")), str(elsewhere)]
    assert Path(shown[0]).samefile(written)
