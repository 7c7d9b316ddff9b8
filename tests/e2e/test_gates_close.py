"""Every kind of gate is driven to FAIL from the command line: exit code, reason, nothing pushed."""

import sqlite3
from pathlib import Path

import pytest

from .project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first run was pushed."""
    project = Project.make(tmp_path_factory.mktemp("gates"))
    first = project.run()
    assert first.exit_code == 0, first.stderr
    assert project.summary(first)["verdict"] == "pushed"
    return project


# A large test split: an int8 model changes few classes.
SPLIT = "data.split={method: hash, train: 0.4, eval: 0.1, test: 0.5}"

CASES = [
    ("quality", "absolute", ["gates.quality.0.min=0.999"], "auc"),
    ("quality", "a slice", ["gates.quality.0={metric: auc, min: 0.999, slice: {carrier: AA}}"], "AA"),
    (
        "quality",
        "every slice",
        ["gates.quality.0={metric: accuracy, min: 0.97, every_slice: true}"],
        "accuracy",
    ),
    ("variant", "drop", ["gates.variant={metric: log_loss, max_drop: 0}"], "log_loss"),
    (
        "variant",
        "flip rate",
        ["gates.variant.max_flip_rate=0", SPLIT],
        "flip",
    ),
    ("cost", "size", ["gates.cost.0={variant: tflite_int8, max_size_bytes: 100}"], "100"),
    ("cost", "latency", ["gates.cost.0={variant: tflite_int8, max_p99_us_b1: 0.001}"], "0.001"),
    ("serving", "tolerance", ["gates.serving.quantized_tolerance=0", "gates.serving.tolerance=0"], ""),
    ("serving", "time", ["gates.serving.timeout_s=0.05"], "0.05"),
]


@pytest.mark.parametrize(("kind", "name", "overrides", "words"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_closes(pushed: Project, kind: str, name: str, overrides: list[str], words: str) -> None:
    before = pushed.pushed()
    ran = pushed.run(*overrides)
    assert ran.exit_code == 3, ran.stderr
    summary = pushed.summary(ran)
    assert summary["verdict"] == "rejected"
    failed = [gate for gate in summary["gates"] if gate["state"] == "FAIL" and gate["kind"] == kind]
    assert failed
    assert any(words in f"{gate['reason']} {gate['metric']} {gate['slice']}" for gate in failed), failed
    assert any(gate["reason"] in ran.stderr for gate in failed), ran.stderr
    assert pushed.pushed() == before


def test_a_drop_against_the_baseline_closes(pushed: Project) -> None:
    before = pushed.pushed()
    ran = pushed.run("training.learning_rate=0.0000001", "training.epochs=1", "gates.quality.0.min=0.01")
    assert ran.exit_code == 3, ran.stderr
    failed = [gate for gate in pushed.summary(ran)["gates"] if gate["state"] == "FAIL"]
    assert any(gate["kind"] == "quality" and "baseline" in gate["reason"] for gate in failed), failed
    assert pushed.pushed() == before


def test_no_quality_bound_is_not_silent(pushed: Project) -> None:
    before = pushed.pushed()
    ran = pushed.run("gates.quality=[]")
    assert ran.exit_code == 3
    assert any(gate["state"] == "NO_THRESHOLD" for gate in pushed.summary(ran)["gates"])
    assert pushed.pushed() == before
    allowed = pushed.run("gates.quality=[]", "gates.allow_unbounded=true")
    assert allowed.exit_code == 0, allowed.stderr


def test_the_data_gate_closes_before_training(pushed: Project) -> None:
    before = pushed.pushed()
    rows = pushed.folder / "rows.csv"
    kept = rows.read_text(encoding="utf-8")
    try:
        # A carrier column that became numbers: values outside the schema's domain.
        rows.write_text(kept.replace("AA,", "7,").replace("BB,", "8,").replace("CC,", "9,"), encoding="utf-8")
        ran = pushed.run()
    finally:
        rows.write_text(kept, encoding="utf-8")
    assert ran.exit_code == 4, ran.stderr
    summary = pushed.summary(ran)
    assert summary["verdict"] == "data_rejected"
    assert {node["id"]: node["state"] for node in summary["nodes"]}["trainer"] == "skipped"
    assert "carrier" in ran.stderr
    assert pushed.pushed() == before


def test_the_verdict_fails_again_when_launched_again(pushed: Project) -> None:
    ran = pushed.run("gates.quality.0.min=0.999")
    assert ran.exit_code == 3
    arguments = [
        "--config",
        "demo.yaml",
        "--run-id",
        ran.result["run_id"],
        "--set",
        "gates.quality.0.min=0.999",
    ]
    for _ in range(2):
        again = pushed.call("node", "verdict", *arguments)
        assert again.exit_code == 3, again.stderr
    # And the push cannot be reached past it: its own check refuses too.
    assert pushed.call("node", "push", *arguments).exit_code == 3


def test_every_outcome_is_in_the_metadata_store(pushed: Project) -> None:
    store = Path(pushed.folder, "runs", ".store", "metadata.sqlite")
    with sqlite3.connect(store) as connection:
        (count,) = connection.execute("select count(*) from Artifact").fetchone()
    assert count > 10
