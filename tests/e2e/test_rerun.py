"""A second run takes what did not change; a changed one runs from there on; versions only rise."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first run was pushed."""
    made = Project.make(tmp_path_factory.mktemp("rerun"))
    first = made.run()
    assert first.exit_code == 0, first.stderr
    return made


def states(summary: dict[str, Any]) -> dict[str, str]:
    return {node["id"]: node["state"] for node in summary["nodes"]}


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def versions(project: Project, side: str) -> list[int]:
    return sorted(int(name) for name in os.listdir(project.folder / "push" / side / "demo") if name.isdigit())


def test_stdout_is_one_json_object(project: Project) -> None:
    ran = project.run()
    assert set(ran.result) == {"run_id", "verdict", "summary_path", "report_path"}
    assert (project.folder / ran.result["report_path"]).stat().st_size > 20_000


def test_an_unchanged_rerun_is_cached_and_adds_no_version(project: Project) -> None:
    before = project.pushed()
    ran = project.run()
    assert ran.exit_code == 0, ran.stderr
    summary = project.summary(ran)
    uncached = {"data_verdict", "verdict", "push"}
    assert {name for name, state in states(summary).items() if state != "cached"} == uncached
    assert summary["verdict"] == "pushed"
    assert project.pushed() == before
    assert any(variant["pushed_to"] for variant in summary["variants"])


def test_a_training_edit_runs_from_the_trainer_on_and_meets_a_baseline(project: Project) -> None:
    ran = project.run("training.learning_rate=0.02")
    assert ran.exit_code == 0, ran.stderr
    summary = project.summary(ran)
    found = states(summary)
    assert {
        n for n in ("ingest", "statistics", "schema", "validation", "transform") if found[n] != "cached"
    } == set()
    assert found["trainer"] == "complete"
    against = [
        gate for gate in summary["gates"] if "baseline" in gate["reason"] or gate["metric"].endswith("drop")
    ]
    assert not [gate for gate in against if gate["state"] == "NO_BASELINE"]
    assert versions(project, "serving")[-1] == versions(project, "lite")[-1]
    assert len(versions(project, "serving")) == 2


def test_manifests_sum_up(project: Project) -> None:
    for manifest in (project.folder / "push").rglob("manifest.json"):
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        entries = (
            {e["path"]: e["sha256"] for e in listed}
            if isinstance(listed, list)
            else {k: v["sha256"] for k, v in listed.items()}
        )
        found = {
            p.relative_to(manifest.parent).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in manifest.parent.rglob("*")
            if p.is_file() and p.name != "manifest.json"
        }
        assert entries == found


def test_an_interrupted_run_leaves_no_half_and_the_next_goes_on(project: Project) -> None:
    before = project.pushed()
    overrides = ("training.epochs=400", "training.early_stopping=null")
    process = project.start("run", "demo.yaml", *(part for o in overrides for part in ("--set", o)))
    try:
        deadline = time.monotonic() + 120
        logs = project.folder / "runs"
        while time.monotonic() < deadline and not any(
            '"epoch"' in file.read_text(encoding="utf-8") for file in logs.glob("*/logs/trainer.events.jsonl")
        ):
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, stderr
    assert "interrupted in trainer" in stderr
    assert "to go on: headrace resume 2" in stderr
    assert "Traceback" not in stderr
    assert project.pushed() == before
    again = project.run()
    assert again.exit_code == 0, again.stderr


def test_one_flipped_byte_of_a_cached_model_is_made_again_and_never_pushed(project: Project) -> None:
    models = list(
        (project.folder / "runs/.store/artifacts/variants/variants").glob("*/tflite_int8/model.tflite")
    )
    for model in models:
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 0xFF
        model.write_bytes(content)
    altered = {digest(model) for model in models}
    ran = project.run()
    assert ran.exit_code == 0, ran.stderr
    nodes = {node["id"]: node for node in project.summary(ran)["nodes"]}
    found = {name: nodes[name]["state"] for name in ("trainer", "variants", "evaluation", "infra")}
    assert found == {"trainer": "cached"} | dict.fromkeys(("variants", "evaluation", "infra"), "complete")
    why = "made again, since in the cached result tflite_int8/model.tflite is altered"
    assert nodes["variants"]["finding"].endswith(why)
    assert why in ran.stderr
    assert not altered & set(project.pushed().values())
    again = states(project.summary(project.run()))
    assert again["variants"] == again["infra"] == "cached"
