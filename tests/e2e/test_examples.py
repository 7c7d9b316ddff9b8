"""Every example on a part of its real data, with small settings: from `data fetch` to answers."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from .project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = 1500


@dataclass(frozen=True)
class Case:
    """An example made small.

    Attributes:
        model: Replaces settings of the model.
        training: Replaces settings of the training.
        metric: What is asked of the test split: its name, and a bound that guessing does not reach.
        bound: See `metric`; a maximum for rmse.
    """

    metric: str
    bound: float
    model: Mapping[str, Any]
    training: Mapping[str, Any]


TWO_SMALL = {"size": 2, "member": {"family": "resnet_tabular", "blocks": 1, "width": 16}}
MANY_STEPS = {"epochs": 16, "batch_size": 64, "learning_rate": 0.005, "schedule": None}
CASES = {
    "taxi": Case("auc", 0.75, TWO_SMALL, {"epochs": 4, "learning_rate": 0.01}),
    "diamonds": Case("r2", 0.7, {"blocks": 1, "width": 32}, MANY_STEPS),
    "digits": Case("accuracy", 0.5, {"filters": [8], "hidden": [32]}, {"epochs": 5, "learning_rate": 0.005}),
    "tweets": Case("accuracy", 0.45, {"hidden": [8]}, {"epochs": 4, "learning_rate": 0.01}),
    "vowels": Case("accuracy", 0.6, {"filters": [16]}, {"epochs": 8, "learning_rate": 0.005}),
}


NOT_TAXI = [name for name in CASES if name != "taxi"]


def make_small(name: str, folder: Path) -> Project:
    """Fetch the sample, keep about `ROWS` rows spread over the file, and write the example as demo.yaml."""
    project = Project(folder)
    fetched = project.call("data", "fetch", name, str(folder))
    assert fetched.exit_code == 0, fetched.stderr
    config = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    data = folder / Path(config["data"]["path"]).name
    assert fetched.stdout.strip() == str(data)
    if data.suffix == ".csv":
        encoding = config["data"].get("csv", {}).get("encoding", "utf-8")
        with data.open(encoding=encoding, newline="") as stream:
            header, *rows = csv.reader(stream)
        with data.open("w", encoding=encoding, newline="") as stream:
            # Every so many rows, since sources are sorted by class.
            csv.writer(stream).writerows([header, *rows[:: max(1, len(rows) // ROWS)]])
    case = CASES[name]
    config["data"]["path"] = data.name
    config["model"].update(case.model)
    config["training"].update(case.training)
    config.setdefault("evaluation", {}).update(slices=[], bootstrap_samples=20)
    bound = {"metric": case.metric, "min": case.bound}
    config["gates"] = {
        "quality": [bound],
        # Of some seventy test rows each that flips is more than a per cent.
        "variant": {"metric": case.metric, "max_drop": 0.05, "max_flip_rate": 0.1},
        "serving": {"latency_s": 0.02},
    }
    project.write_config(config)
    return project


def first_row(project: Project, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the file as a client would send it."""
    data = project.folder / config["data"]["path"]
    if data.suffix == ".parquet":
        import pyarrow.parquet as pq

        row: dict[str, Any] = pq.read_table(data).slice(0, 1).to_pylist()[0]
        return {name: value for name, value in row.items() if name.startswith("channel")}
    encoding = config["data"].get("csv", {}).get("encoding", "utf-8")
    with data.open(encoding=encoding, newline="") as stream:
        cells = next(csv.DictReader(stream))
    if "pack" in config["data"]:
        return {"image": [float(cells[f"pixel_{number}"]) for number in range(784)]}
    numbers = {
        feature.get("column", name)
        for name, feature in config["features"].items()
        if feature["kind"] == "numeric"
    }
    numbers |= {name for name, kind in config["data"].get("columns", {}).items() if kind in ("int", "float")}
    used = {feature.get("column", name) for name, feature in config["features"].items()}
    return {
        name: None if cells[name] == "" else float(cells[name]) if name in numbers else cells[name]
        for name in used
    }


# The other whole runs of the suite are of a table with two classes, as taxi is.
@pytest.mark.parametrize("name", [pytest.param("taxi", marks=pytest.mark.slow), *NOT_TAXI])
def test_an_example_ends_in_models_that_answer(name: str, tmp_path: Path) -> None:
    project = make_small(name, tmp_path)
    ran = project.run()
    assert ran.exit_code == 0, ran.stderr
    summary = project.summary(ran)
    case = CASES[name]
    pushed = {variant["name"]: variant for variant in summary["variants"] if variant["pushed_to"]}
    config = yaml.safe_load((tmp_path / "demo.yaml").read_text(encoding="utf-8"))
    assert set(pushed) == {config["push"]["serving"], config["push"]["lite"]}
    for variant in pushed.values():
        assert variant["metrics"][case.metric] >= case.bound
    assert not [gate for gate in summary["gates"] if gate["state"] in ("FAIL", "SKIPPED")]
    report = (tmp_path / ran.result["report_path"]).read_text(encoding="utf-8")
    assert ('id="residuals"' in report) == (config["data"]["task"] == "regression")
    (tmp_path / "row.jsonl").write_text(json.dumps(first_row(project, config)) + "\n", encoding="utf-8")
    asked = project.call("predict", f"push/lite/{config['name']}", "row.jsonl")
    assert asked.exit_code == 0, asked.stderr
    answer = json.loads(asked.stdout)
    if config["data"]["task"] == "regression":
        assert 100 < next(iter(answer.values())) < 30_000
    else:
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert answer["class"] in answer["scores"]


@pytest.mark.slow
def test_two_runs_with_one_seed_give_equal_metrics(tmp_path: Path) -> None:
    metrics = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        project = make_small("vowels", tmp_path / place)
        ran = project.run("training.epochs=3", "gates.quality=[]", "gates.allow_unbounded=true")
        assert ran.exit_code == 0, ran.stderr
        variants = project.summary(ran)["variants"]
        metrics.append({variant["name"]: variant["metrics"] for variant in variants})
    first, second = metrics
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.keys() == second[name].keys()
        for metric, value in values.items():
            np.testing.assert_allclose(second[name][metric], value, rtol=0, atol=1e-6, err_msg=metric)
