"""Searches and cross-validation on their way through the pipeline: config, cache keys, summary, report."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from headrace.data.errors import ConfigError
from headrace.pipeline.config import RunConfig, column_plan, parse_config
from headrace.pipeline.graph import GRAPH, node
from headrace.pipeline.identity import node_config
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.local import NodeOutcome
from headrace.pipeline.report import build
from headrace.pipeline.report.charts.parallel import parallel
from headrace.pipeline.report.facts import collect
from headrace.pipeline.report.sections.crossval import crossval
from headrace.pipeline.report.sections.tuning import tuning
from headrace.pipeline.summary import build_evidence, build_summary

from .report_fixture import run
from .test_config import changed

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
GROUPED = {"enabled": True, "method": "grouped", "group": ["tail"]}

TRIALS: list[dict[str, Any]] = [
    {"trial": "0", "values": {"model.family": "mlp", "model.hidden": [8]}, "score": 0.71, "epochs": 2,
     "seconds": 1.5, "status": "completed", "curve": [0.69, 0.71], "reason": None},
    {"trial": "1", "values": {"model.family": "wide_deep", "model.wide_l2": 0.1, "model.hidden": [4]},
     "score": 0.74, "epochs": 2, "seconds": 1.2, "status": "completed", "curve": [0.74, 0.7], "reason": None},
    {"trial": "2", "values": {"model.family": "wide_deep", "model.wide_l2": 0.2, "model.hidden": [8]},
     "score": None, "epochs": None, "seconds": 0.4, "status": "failed", "curve": [], "reason": "lost <1>"},
    {"trial": "3", "values": {"model.family": "mlp", "model.hidden": [4]}, "score": 0.70, "epochs": 2,
     "seconds": 1.1, "status": "completed", "curve": [None, 0.70], "reason": None},
]  # fmt: skip
BEST = {"values": TRIALS[1]["values"], "score": 0.74, "objective": "val_auc"}


def folds(values: list[float], repeats: int = 1) -> dict[str, Any]:
    """Return crossval.json with an AUC a fold, and one fold that failed."""
    entries = [
        {
            "repeat": 1 + number % repeats, "fold": 1 + number // repeats,
            "rows": {"train": 80, "eval": 10, "held_out": 30}, "best_epoch": 2, "seconds": 3.5,
            "metrics": {"auc": value, "accuracy": value - 0.1, "example_count": 30.0},
        }
        for number, value in enumerate(values)
    ]  # fmt: skip
    spread = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
    lost = {"repeat": 1, "fold": len(values) + 1, "rows": {}, "seconds": 1.0, "failed": "<b>no loss</b>"}
    return {
        "method": "stratified",
        "folds": [*entries, lost],
        "metrics": {"auc": {**spread, "min": min(values), "max": max(values)}},
    }


class TestConfig:
    def test_columns_of_groups_reach_the_ingest_and_no_feature(self):
        config = parse_config(changed("cross_validation", GROUPED))
        plan = column_plan(config)
        assert plan.type_of("tail") == "string"
        assert "tail" not in plan.features
        assert node_config(config, node("ingest"))["evaluation.slices"] == [["tail"]]
        assert node_config(config, node("evaluation"))["evaluation"]["slices"] == []

    def test_columns_that_are_read_anyway_change_nothing(self):
        known = {**GROUPED, "group": ["carrier"]}
        config = parse_config(changed("cross_validation", known))
        off = parse_config(changed("cross_validation", {**known, "enabled": False}))
        assert node_config(config, node("ingest")) == node_config(off, node("ingest"))

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({"enabled": True, "method": "time"}, r"`cross_validation\.order` must name a column"),
            ({"enabled": True, "method": "grouped", "group": ["late"]}, "must not be cut by the label"),
            ({"enabled": True, "metod": "time"}, "Nearest valid key: `method`"),
            ({"enabled": True, "folds": 1}, r"`cross_validation\.folds` must be greater than or equal to 2"),
        ],
    )
    def test_mistakes_are_named(self, section: dict[str, Any], message: str):
        with pytest.raises(ConfigError, match=message):
            parse_config(changed("cross_validation", section))

    def test_a_number_that_orders_rows_is_declared(self):
        raw = changed("data.split", {"column": "step", "eval_from": 10, "test_from": 20})
        raw["cross_validation"] = {"enabled": True, "method": "time"}
        with pytest.raises(ConfigError, match=r"add `data\.columns\.step: float`"):
            parse_config(raw)
        raw["data"]["columns"] = {"step": "float"}
        assert column_plan(parse_config(raw)).type_of("step") == "float"

    def test_a_search_over_families_is_checked(self):
        space: dict[str, Any] = {
            "model.family": {"choice": ["mlp", "wide_deep"]},
            "model.wide_l2": {"float": [0, 1]},
        }
        with pytest.raises(ConfigError, match="must be a field of every family"):
            parse_config(changed("tuning", {"enabled": True, "search": space}))
        space["model.wide_l2"]["when"] = {"model.family": "wide_deep"}
        parse_config(changed("tuning", {"enabled": True, "search": space}))


class TestCacheKeys:
    @staticmethod
    def differ(one: RunConfig, other: RunConfig) -> set[str]:
        return {n.id for n in GRAPH if node_config(one, n) != node_config(other, n)} - {"push"}

    def test_while_it_is_off_nothing_reaches_it(self):
        base = parse_config(changed("seed", 42))
        for path, value in (("model.hidden", [3]), ("training.epochs", 9), ("cross_validation.folds", 3)):
            assert "crossval" not in self.differ(base, parse_config(changed(path, value)))

    def test_what_folds_use_reaches_it(self):
        def config(**parts: Any) -> RunConfig:
            return parse_config({**changed("cross_validation", {"enabled": True, "epochs": 2}), **parts})

        assert self.differ(config(), config(model={"hidden": [3]})) == {"trainer", "crossval"}
        assert self.differ(config(), config(evaluation={"threshold": 0.4})) == {"evaluation", "crossval"}
        assert self.differ(config(), config(training={"epochs": 9})) == {"trainer"}
        assert self.differ(config(), config(training={"tensorboard": False})) == {"trainer"}


class TestSummary:
    @staticmethod
    def outcomes(folder: Path, content: Any) -> list[NodeOutcome]:
        (folder / "crossval.json").write_text(json.dumps(content))
        return [
            NodeOutcome(
                n,
                LaunchResult(
                    "complete", outputs={"cross_validation": str(folder)} if n.id == "crossval" else {}
                ),
            )
            for n in GRAPH
        ]

    def test_it_tells_the_spread(self, tmp_path: Path):
        outcomes = self.outcomes(tmp_path, folds([0.8, 0.9]))
        config = parse_config(changed("seed", 1))
        summary = build_summary(config, "r1", outcomes, None)
        told = summary["cross_validation"]
        assert (told["method"], told["folds"], told["failed"]) == ("stratified", 3, 1)
        assert told["metrics"]["auc"] == pytest.approx(
            {"mean": 0.85, "std": 0.0707107, "min": 0.8, "max": 0.9}
        )
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        Draft202012Validator(schema["properties"]["cross_validation"]).validate(told)
        assert (
            build_evidence(config, outcomes, "headrace run")["crossval"]["folds"][0]["metrics"]["auc"] == 0.8
        )

    def test_off_is_null(self, tmp_path: Path):
        outcomes = self.outcomes(tmp_path, {"method": None, "folds": [], "metrics": {}})
        assert (
            build_summary(parse_config(changed("seed", 1)), "r1", outcomes, None)["cross_validation"] is None
        )


class TestReport:
    def test_folds_are_dots_with_mean_and_spread(self):
        summary, evidence = run("binary", "pushed", rows=300)
        found = crossval(collect(summary, {**evidence, "crossval": folds([0.8, 0.85, 0.9, 0.83], 2)}))
        assert found is not None
        drawn = str(found["svg"])
        assert drawn.count('class="dot"') == 4  # of the one metric whose spread is known
        assert "0.845" in drawn
        xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
        assert np.argsort(xs).tolist() == [0, 3, 1, 2]
        # The dots lie on one straight scale.
        assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(0.5, abs=0.01)
        assert (found["count"], found["repeats"], found["failed"]) == ("4", "2", "1")
        names = [str(row.cells[0].text) for row in found["table"].rows]
        assert names[:2] == ["fold 1 of repeat 1", "fold 1 of repeat 2"]

    def test_a_report_without_folds_has_no_section(self):
        summary, evidence = run("binary", "pushed", rows=300)
        off = {"method": None, "folds": [], "metrics": {}}
        assert 'id="crossval"' not in build(summary, {**evidence, "crossval": off})

    def test_the_page_tells_and_escapes(self):
        summary, evidence = run("regression", "pushed", rows=300)
        evidence = {**evidence, "crossval": folds([0.8, 0.85]), "trials": TRIALS, "best": BEST}
        page = build(summary, evidence)
        assert '<section id="crossval"' in page
        assert "<b>no loss</b>" not in page
        assert "&lt;b&gt;no loss" in page
        assert "lost &lt;1&gt;" in page
        assert page.count("<section id=") == len(set(re.findall(r'<section id="(\w+)"', page)))

    def test_fields_that_took_no_part_are_gaps(self):
        fields = ["model.family", "model.wide_l2", "model.hidden"]
        scored = [trial for trial in TRIALS if trial["score"] is not None]
        drawn = str(parallel(scored, fields, "1", "val_auc", "trials"))
        groups = re.findall(r'<g class="series mark (best|other)">(.*?)</g>', drawn)
        lines = {kind: body.count('class="line"') for kind, body in groups if kind == "best"}
        assert lines == {"best": 1}
        # Before the gap stands one axis, after it two: one line, and a dot on its own.
        assert [body.count('class="line"') for kind, body in groups if kind == "other"] == [1, 1]
        assert [body.count('class="dot"') for _, body in groups] == [3, 3, 4]

    def test_the_chosen_trial_is_marked_and_failures_say_why(self):
        summary, evidence = run("binary", "pushed", rows=300)
        found = tuning(collect(summary, {**evidence, "trials": TRIALS, "best": BEST}))
        assert found is not None
        assert (found["chosen"], found["count"], found["failed"], found["gaps"]) == ("1", "4", "1", True)
        rows = found["table"].rows
        assert [row.cells[0].note for row in rows] == ["", "chosen", "", ""]
        assert [row.cells[-1].hint for row in rows] == ["", "", "lost <1>", ""]
        gap = [column.title for column in found["table"].columns].index("wide l2")
        assert [str(row.cells[gap].text) for row in rows] == ["", "0.100", "0.200", ""]
        assert str(found["curves"]).count('class="series best"') == 1
        assert str(found["curves"]).count('class="series other"') == 2

    @pytest.mark.parametrize(
        ("objective", "longest"), [("val_auc", "1"), ("val_loss", "3"), ("val_rmse", "3")]
    )
    def test_the_longest_bar_is_the_best_score(self, objective: str, longest: str):
        summary, evidence = run("binary", "pushed", rows=300)
        found = tuning(
            collect(summary, {**evidence, "trials": TRIALS, "best": {**BEST, "objective": objective}})
        )
        assert found is not None
        column = [item.title for item in found["table"].columns].index(objective)
        widths = {
            str(row.cells[0].text): float(width[0])
            for row in found["table"].rows
            if (width := re.findall(r"width:([\d.]+)%", str(row.cells[column].note)))
        }
        assert max(widths, key=widths.__getitem__) == longest
