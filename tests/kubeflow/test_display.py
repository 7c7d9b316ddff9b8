"""What the UI shows: in the forms that kfp's own artifact classes write, from files as nodes write them."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp import dsl
from kfp.pipeline_spec import pipeline_spec_pb2

from headrace.data.errors import ConfigError
from headrace.kubeflow.display import show
from headrace.pipeline.config import RunConfig, load_config
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.runs import RunResult
from headrace.pipeline.step import StepEnd
from tests.e2e.project import Project

FLOAT32 = {
    "name": "float32",
    "metrics": {"auc": 0.75, "r2": None},
    "confusion_matrix": {"labels": ["no", "yes"], "matrix": [[3, 1], [0, 4]], "axis": "rows are true labels"},
    "thresholds": [
        {"threshold": 0.0, "tp": 4, "fp": 4, "tn": 0, "fn": 0},
        {"threshold": 0.5, "tp": 4, "fp": 1, "tn": 3, "fn": 0},
        {"threshold": 1.0, "tp": 0, "fp": 0, "tn": 4, "fn": 4},
    ],
}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    Project.make(tmp_path, rows=50)
    return load_config(tmp_path / "demo.yaml", root=tmp_path)


def shown(folder: Path, end: StepEnd, node: str, config: RunConfig, **kinds: str) -> dict[str, Any]:
    """Show a step; return its artifacts as Kubeflow would read them from the executor's output."""
    artifacts = {
        name: {
            "artifacts": [
                {"name": name, "type": {"schemaTitle": kind}, "uri": str(folder / name), "metadata": {}}
            ]
        }
        for name, kind in kinds.items()
    }
    output_file = folder / "output.json"
    executor_input = {"inputs": {}, "outputs": {"artifacts": artifacts, "outputFile": str(output_file)}}
    show(json.dumps(executor_input), node, end, config)
    parsed = json_format.Parse(output_file.read_text(), pipeline_spec_pb2.ExecutorOutput())
    return {
        name: json_format.MessageToDict(entry.artifacts[0].metadata)
        for name, entry in parsed.artifacts.items()
    }


def evaluated(folder: Path) -> StepEnd:
    (folder / "e").mkdir()
    (folder / "e" / "evaluation.json").write_text(
        json.dumps({"variants": [FLOAT32, {"name": "bad", "failed": "x"}]})
    )
    return StepEnd(LaunchResult("complete", "auc 0.75", {"evaluation": str(folder / "e")}))


def test_matrix_and_curve_are_as_kfps_own_class_logs_them(tmp_path: Path, config: RunConfig) -> None:
    found = shown(
        tmp_path, evaluated(tmp_path), "evaluation", config,
        metrics="system.Metrics", classification="system.ClassificationMetrics", result="system.Markdown",
    )  # fmt: skip
    expected = dsl.ClassificationMetrics()
    expected.log_confusion_matrix(["no", "yes"], [[3, 1], [0, 4]])
    expected.log_roc_curve([0.0, 0.25, 1.0], [0.0, 1.0, 1.0], [1.0, 0.5, 0.0])
    assert found["classification"] == expected.metadata
    assert found["metrics"] == {"auc": 0.75}
    text = (tmp_path / "result").read_text()
    assert "| float32 | 0.7500 |" in text
    assert "**evaluation complete**: auc 0.75" in text


def test_gates_are_a_table_with_those_that_fail_first(tmp_path: Path, config: RunConfig) -> None:
    gate = {"kind": "quality", "variant": "float32", "metric": "auc", "reason": "a | b"}
    (tmp_path / "g").mkdir()
    rows = [{**gate, "state": "PASS"}, {**gate, "state": "FAIL"}]
    (tmp_path / "g" / "gates.json").write_text(json.dumps(rows))
    end = StepEnd(LaunchResult("complete", "reject", {"gates": str(tmp_path / "g")}))
    shown(tmp_path, end, "gates", config, result="system.Markdown")
    lines = (tmp_path / "result").read_text().splitlines()
    assert lines[-2:] == [
        "| FAIL | quality | float32 | auc | a \\| b |",
        "| PASS | quality | float32 | auc | a \\| b |",
    ]


def test_a_failed_step_shows_its_reason(tmp_path: Path, config: RunConfig) -> None:
    end = StepEnd(LaunchResult("failed", error="1 gate rejected.\nauc 0.4", exit_code=3))
    shown(tmp_path, end, "verdict", config, result="system.Markdown")
    text = (tmp_path / "result").read_text()
    assert "exit code 3" in text
    assert "    auc 0.4" in text


def test_the_report_is_the_runs_own_page(tmp_path: Path, config: RunConfig) -> None:
    (tmp_path / "report.html").write_text("<p>é")
    summary = {
        "verdict": "rejected",
        "run_id": "r1",
        "error": {"message": "no"},
        "nodes": [{"id": "ingest", "state": "complete", "wall_s": 1.25, "finding": "50 rows"}],
    }
    run = RunResult("r1", "rejected", 3, summary, "s", str(tmp_path / "report.html"), None)
    kinds = {"report": "system.HTML", "result": "system.Markdown"}
    (tmp_path / "ui").mkdir()
    shown(tmp_path / "ui", StepEnd(None, run), "report", config, **kinds)
    assert (tmp_path / "ui" / "report").read_text() == "<p>é"
    assert "| ingest | complete | 1.2 | 50 rows |" in (tmp_path / "ui" / "result").read_text()


def test_a_place_that_cannot_be_written_fails_no_step(
    tmp_path: Path, config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    artifact = {"name": "result", "uri": str(tmp_path / "file" / "result")}
    executor_input = {"outputs": {"artifacts": {"result": {"artifacts": [artifact]}}}}
    show(json.dumps(executor_input), "ingest", StepEnd(LaunchResult("complete")), config)
    assert "the result of ingest cannot be shown" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"outputs": {"artifacts": {"a": {}}}}'])
def test_what_is_no_executor_input_is_refused(text: str, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"must be what Kubeflow gives a step"):
        show(text, "ingest", StepEnd(LaunchResult("complete")), config)
