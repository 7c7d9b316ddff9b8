"""summary.json and the report's evidence, from artifacts as the nodes write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from headrace.data.errors import GateRejected
from headrace.pipeline.config import RunConfig, parse_config
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.local import NodeOutcome
from headrace.pipeline.outcome import print_outcome
from headrace.pipeline.report import build
from headrace.pipeline.summary import build_evidence, build_summary

from . import report_tasks
from .report_fixture import run

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"


def config(task: str) -> RunConfig:
    return parse_config(
        {
            "schema_version": 1,
            "name": "demo",
            "data": {"path": "rows.csv", "label": "y", "task": task},
            "features": {"x": {"kind": "numeric"}},
        }
    )


def artifacts(folder: Path, task: str) -> list[NodeOutcome]:
    """Write what the nodes of a run would have written, and return their outcomes."""
    summary, evidence = run(task, "pushed", rows=300)
    variants = [
        {key: item.get(key) for key in ("name", "runtime", "size_bytes", "weight_bytes")}
        | {"state": "built", "reason": "", "path": None}
        for item in summary["variants"]
    ]
    files: dict[tuple[str, str], dict[str, Any]] = {
        ("ingest", "examples"): {"ingest.json": evidence["ingest"]},
        ("variants", "variants"): {"variants.json": variants},
        ("evaluation", "evaluation"): {
            "evaluation.json": evidence["evaluation"],
            "mistakes.json": evidence["mistakes"],
        },
        ("infra", "infra"): {"infra.json": evidence["infra"]},
        ("gates", "gates"): {"gates.json": summary["gates"]},
        ("trainer", "model_run"): {
            "history.json": evidence["history"],
            "monitoring.json": evidence["monitoring"],
            "lr_finder.json": evidence["lr_finder"],
        },
    }
    outcomes = []
    for node in GRAPH:
        outputs = {}
        for (owner, output), documents in files.items():
            if owner == node.id:
                place = folder / owner / output
                place.mkdir(parents=True)
                outputs[output] = str(place)
                for name, content in documents.items():
                    (place / name).write_text(json.dumps(content), encoding="utf-8")
        outcomes.append(NodeOutcome(node, LaunchResult("complete", outputs=outputs), 1.0))
    return outcomes


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_the_summary_of_every_task_keeps_the_published_schema(task: str, tmp_path: Path) -> None:
    outcomes = artifacts(tmp_path, task)
    summary = json.loads(json.dumps(build_summary(config(task), "r1", outcomes, None)))
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(summary)
    first = summary["variants"][0]
    if task == "multilabel":
        assert [held["label"] for held in first["label_matrices"]] == list(report_tasks.LABELS)
        total = np.array([held["matrix"] for held in first["label_matrices"]]).sum(axis=(1, 2))
        assert total.tolist() == [300] * 6
        assert first["confusion_matrix"] is None
    assert (first["per_class"] is not None) == (task in ("multiclass", "multilabel"))
    large = max(first["slices"][1:], key=lambda part: part["rows"])
    assert large["intervals"]
    evidence = build_evidence(config(task), outcomes, "headrace run demo.yaml")
    for key in ("mistakes", "monitoring", "lr_finder", "history"):
        assert evidence[key]
    text = build(summary, evidence)
    assert '<section id="mistakes"' in text
    assert '<section id="monitoring"' in text


def test_what_a_run_did_not_reach_is_left_out(tmp_path: Path) -> None:
    outcomes = [NodeOutcome(node, LaunchResult("skipped")) for node in GRAPH]
    failure = GateRejected("1 gate rejected the model")
    summary = build_summary(config("binary"), "r1", outcomes, failure)
    assert (summary["verdict"], summary["variants"], summary["gates"]) == ("rejected", [], [])
    assert summary["error"]["exit_code"] == 3
    evidence = build_evidence(config("binary"), outcomes, "headrace run")
    assert not {"mistakes", "evaluation", "monitoring"} & evidence.keys()


@pytest.mark.parametrize(
    ("task", "shown", "hidden"),
    [
        ("multilabel", ["subset_accuracy", "macro_f1"], [" f1"]),
        ("regression", ["rmse", "mae", "r2"], ["accuracy"]),
        ("multiclass", ["accuracy", "macro_f1"], ["subset", " f1"]),
    ],
)
def test_the_outcome_shows_the_metrics_of_the_task(
    task: str, shown: list[str], hidden: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Result:
        summary = build_summary(config(task), "r1", artifacts(tmp_path, task), None)
        report_path = summary_path = "x"

    print_outcome(Result())
    header = capsys.readouterr().out.splitlines()[0]
    assert all(name in header for name in shown)
    assert not any(name in header for name in hidden)
