"""Records of steps sum up to a run; what never started, or died, is never taken for success."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.data.errors import ConfigError
from headrace.pipeline.config import RunConfig, load_config
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.step import conclude_steps, run_step
from tests.e2e.project import Project


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    Project.make(tmp_path, rows=50)
    return load_config(tmp_path / "demo.yaml", root=tmp_path)


def record(config: RunConfig, node_id: str, result: dict[str, Any] | None, started: float = 100.0) -> None:
    path = Path(config.output.runs, "r1", "steps", f"{node_id}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"started": started, "result": result}))


def test_a_step_that_died_fails_the_run(config: RunConfig) -> None:
    record(config, "ingest", {"state": "complete", "finding": "50 rows", "wall_s": 2.0})
    record(config, "statistics", None, started=103.5)
    ended = conclude_steps(config, "r1")
    assert ended.verdict == "failed"
    assert ended.exit_code == 1
    nodes = {node["id"]: node for node in ended.summary["nodes"]}
    assert [nodes[name]["state"] for name in ("ingest", "statistics", "schema")] == [
        "complete",
        "failed",
        "skipped",
    ]
    assert nodes["statistics"]["start_s"] == 3.5
    assert "node statistics died" in ended.summary["error"]["message"]
    assert Path(config.output.runs, "r1", "report.html").stat().st_size > 10_000


def test_a_rejection_keeps_its_reason_and_its_code(config: RunConfig) -> None:
    for node in GRAPH:
        record(config, node.id, {"state": "complete"})
        if node.id == "verdict":
            break
    failed = LaunchResult("failed", error="1 gate rejected the model.\nauc 0.4 < 0.6", exit_code=3)
    record(config, "verdict", {"state": failed.state, "error": failed.error, "exit_code": 3})
    ended = conclude_steps(config, "r1")
    assert (ended.verdict, ended.exit_code) == ("rejected", 3)
    assert ended.summary["error"]["message"] == failed.error
    assert ended.summary["nodes"][-1]["state"] == "skipped"


def test_steps_that_never_started_are_no_success(config: RunConfig) -> None:
    for node in GRAPH[:-1]:
        record(config, node.id, {"state": "complete"})
    ended = conclude_steps(config, "r1")
    assert ended.verdict == "failed"
    assert "Received: none of push" in ended.summary["error"]["message"]


def test_wrong_columns_stop_the_first_step_before_anything_starts(config: RunConfig) -> None:
    Path(config.data.path).write_text("hour,late\n1,0\n")
    end = run_step(config, "ingest", "r1")
    assert end.error is not None
    assert end.error.exit_code == 2
    assert end.run is not None
    assert end.run.verdict == "failed"
    assert not Path(config.output.runs, ".store").exists()


def test_an_unknown_node_is_refused(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"node must be one of ingest, .*, or report\. Received: serve"):
        run_step(config, "serve", "r1")
