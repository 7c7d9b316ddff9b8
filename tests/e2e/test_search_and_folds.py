"""A run with a search in two processes over two families, and grouped cross-validation."""

import json
from pathlib import Path

import pytest

from .project import CONFIG, Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

SEARCH = {
    "enabled": True,
    "trials": 3,
    "workers": 2,
    "sample": 0.5,
    "search": {
        "model.family": {"choice": ["mlp", "wide_deep"]},
        "model.wide_l2": {"float": [1e-6, 1e-2], "log": True, "when": {"model.family": "wide_deep"}},
        "training.learning_rate": {"float": [1e-3, 1e-1], "log": True},
    },
}
FOLDS = {
    "enabled": True,
    "method": "grouped",
    "group": ["carrier", "origin", "tail"],
    "folds": 2,
    "epochs": 2,
}


def test_the_winner_is_trained_and_judged_fold_by_fold(tmp_path: Path) -> None:
    project = Project.make(tmp_path, rows=2000)
    header, *lines = (tmp_path / "rows.csv").read_text().splitlines()
    tagged = [f"{line},N{number % 9}" for number, line in enumerate(lines)]
    (tmp_path / "rows.csv").write_text("\n".join([f"{header},tail", *tagged]) + "\n")
    gates = {"quality": [{"metric": "auc", "min": 0.55}]}
    project.write_config({**CONFIG, "tuning": SEARCH, "cross_validation": FOLDS, "gates": gates})
    first = project.run()
    assert first.exit_code == 0, first.stderr
    summary = project.summary(first)
    told = summary["cross_validation"]
    assert (told["method"], told["folds"], told["failed"]) == ("grouped", 2, 0)
    auc = told["metrics"]["auc"]
    assert 0.5 < auc["min"] <= auc["mean"] <= auc["max"] < 1
    (float32,) = (item for item in summary["variants"] if item["name"] == "float32")
    assert abs(float32["metrics"]["auc"] - auc["mean"]) < 0.15
    (crossval,) = tmp_path.glob("runs/**/crossval.json")
    folds = json.loads(crossval.read_text())["folds"]
    splits = summary["data"]["splits"]
    assert sum(fold["rows"]["held_out"] for fold in folds) == splits["train"] + splits["eval"]
    (best,) = tmp_path.glob("runs/**/best.json")
    (model,) = tmp_path.glob("runs/**/Format-Serving/../model.json")
    values = json.loads(best.read_text())["values"]
    assert json.loads(model.read_text())["family"] == values["model.family"]
    assert json.loads(model.read_text())["hyperparameters"] == values
    report = (tmp_path / first.result["report_path"]).read_text()
    assert '<section id="crossval"' in report
    assert '<section id="tuning"' in report
    again = project.run()
    states = {item["id"]: item["state"] for item in project.summary(again)["nodes"]}
    assert states["crossval"] == states["tuner"] == "cached"
