import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import keras_tuner
import pytest

from headrace.components.models.config import MlpConfig
from headrace.components.node import NodeContext
from headrace.components.training.config import TrainingConfig
from headrace.components.tuning import run as tuner
from headrace.components.tuning.config import SearchRange, TuningConfig
from headrace.components.tuning.encoding import decode_values, make_space
from headrace.components.tuning.search import Score, search
from headrace.components.tuning.space import check_search, own_values, searchable_fields
from headrace.components.tuning.trials import Trials
from headrace.data.errors import ConfigError, HeadraceError
from tests.components.tabular import features_of, write_examples

pytestmark = pytest.mark.long

SECTIONS = {"model": MlpConfig(), "training": TrainingConfig()}
DROPOUT = {"model.dropout": {"choice": [0.0, 0.1, 0.2]}}


def tuning(ranges: dict[str, Any], **fields: Any) -> TuningConfig:
    return TuningConfig.model_validate({"enabled": True, "search": ranges, **fields})


def check(ranges: dict[str, Any], task: Any = "binary", **fields: Any) -> None:
    check_search(tuning(ranges, **fields), SECTIONS["model"], SECTIONS["training"], task)


class TestSpace:
    @pytest.mark.parametrize(
        ("ranges", "message"),
        [
            ({}, "must name at least one field"),
            ({"training.learning_rat": {"float": [0.1, 1]}}, "Received: training.learning_rat"),
            ({"model.dropout": {"float": [0.0, 1.5]}}, r"model.dropout.*less than 1. Received: 1.5"),
            ({"model.hidden": {"choice": [[8], [0]]}}, r"Received: \[0\]"),
            ({"training.optimizer": {"choice": ["adam", "adm"]}}, 'Received: "adm"'),
            ({"training.batch_size": {"float": [1.0, 9.0]}}, "training.batch_size"),
            ({"training.epochs": {"int": [1, 3]}}, "trials take `tuning.epochs`"),
            ({"model.dropout": {"choice": [0.1, 0.1]}}, "distinct values"),
            ({"model.dropout": {"float": [0.0, 0.2], "step": 0.5}}, "no wider than the range"),
            ({"training.learning_rate": {"float": [0.1, 1], "log": True, "step": 0.5}}, "a factor above 1"),
        ],
    )
    def test_what_no_trial_could_run_is_refused(self, ranges: dict[str, Any], message: str):
        with pytest.raises(ConfigError, match=message):
            check(ranges)

    def test_the_nearest_field_is_named(self):
        with pytest.raises(ConfigError) as caught:
            check({"training.learning_rat": {"float": [0.1, 1]}})
        assert caught.value.hint == "Did you mean training.learning_rate?"

    @pytest.mark.parametrize(("task", "passes"), [("binary", True), ("regression", False), (None, True)])
    def test_the_objective_must_be_a_log_of_the_task(self, task: Any, passes: bool):
        if passes:
            check(DROPOUT, task, objective="val_auc")
        else:
            with pytest.raises(ConfigError, match=r"tuning.objective.*Received: val_auc"):
                check(DROPOUT, task, objective="val_auc")

    def test_a_search_that_is_off_is_not_checked(self):
        off = TuningConfig.model_validate({"search": {"nowhere": {"choice": [1]}}})
        check_search(off, SECTIONS["model"], SECTIONS["training"])

    def test_fields_of_optional_parts_are_searchable(self):
        assert "training.early_stopping.patience" in searchable_fields(SECTIONS)
        check(
            {
                "training.early_stopping.patience": {"int": [0, 3]},
                "training.clip_norm": {"choice": [None, 1.0]},
            }
        )

    def test_own_values_are_those_of_the_config_if_in_range(self):
        plain = {name: section.model_dump(mode="json") for name, section in SECTIONS.items()}
        ranges = tuning({**DROPOUT, "training.learning_rate": {"float": [1e-4, 1e-2]}}).search
        assert own_values(ranges, plain) == {"model.dropout": 0.1, "training.learning_rate": 1e-3}
        ranges = tuning({"training.learning_rate": {"float": [1e-2, 1e-1]}}).search
        assert own_values(ranges, plain) is None

    def test_lists_and_null_come_back_from_keras_tuner_as_given(self):
        choices = [[64, 32], [8], None, "text", True]
        ranges = {"x": SearchRange(choice=tuple(choices))}
        space = make_space(ranges)
        given = space.space[0].values
        assert [decode_values(ranges, {"x": value})["x"] for value in given] == choices


class TestSearch:
    RANGES: ClassVar[dict[str, Any]] = {
        "model.dropout": {"choice": [0.0, 0.1, 0.2]},
        "model.l2": {"choice": [0.0, 0.5]},
    }

    @staticmethod
    def score(values: dict[str, Any], epochs: int) -> Score:
        return Score(-abs(values["model.dropout"] - 0.2) - values["model.l2"], epochs)

    def run(self, folder: Path, evaluate: Callable[..., Score] | None = None, **fields: Any) -> Any:
        settings = {"trials": 6, **fields}
        return search(tuning(self.RANGES, **settings), ("val_auc", "max"), evaluate or self.score, folder, 3)

    def test_grid_tries_every_combination_and_finds_the_best(self, tmp_path: Path):
        found = self.run(tmp_path, algorithm="grid")
        tried = {tuple(trial["values"].values()) for trial in found.trials}
        assert tried == set(product([0.0, 0.1, 0.2], [0.0, 0.5]))
        assert found.best == {"model.dropout": 0.2, "model.l2": 0.0}
        assert found.score == 0.0

    @pytest.mark.parametrize("algorithm", ["random", "bayesian", "hyperband", "grid"])
    def test_trials_are_bounded_and_scored(self, algorithm: str, tmp_path: Path):
        found = self.run(tmp_path, algorithm=algorithm, trials=3, epochs=4)
        assert 1 <= len(found.trials) <= 3
        assert found.score == max(trial["score"] for trial in found.trials)
        assert {trial["status"] for trial in found.trials} == {"completed"}

    def test_the_direction_is_followed(self, tmp_path: Path):
        ranges = tuning(self.RANGES, algorithm="grid", trials=6)
        found = search(ranges, ("val_loss", "min"), self.score, tmp_path, 3)
        assert found.best == {"model.dropout": 0.0, "model.l2": 0.5}

    @pytest.mark.parametrize("algorithm", ["random", "bayesian"])
    def test_the_configs_own_values_come_first(self, algorithm: str, tmp_path: Path):
        first = {"model.dropout": 0.1, "model.l2": 0.0}
        settings = tuning(self.RANGES, algorithm=algorithm, trials=3)
        found = search(settings, ("val_auc", "max"), self.score, tmp_path, 3, first=first)
        assert found.trials[0]["values"] == first

    def test_the_seed_decides_on_the_values(self, tmp_path: Path):
        one, two = (self.run(tmp_path / name, trials=4) for name in ("one", "two"))
        assert [t["values"] for t in one.trials] == [t["values"] for t in two.trials]

    def test_failed_trials_are_kept_and_never_the_best(self, tmp_path: Path):
        def fails_at_best(values: dict[str, Any], epochs: int) -> Score:
            if values == {"model.dropout": 0.2, "model.l2": 0.0}:
                raise keras_tuner.errors.FailedTrialError("diverged")
            return self.score(values, epochs)

        found = self.run(tmp_path, fails_at_best, algorithm="grid")
        assert found.best == {"model.dropout": 0.1, "model.l2": 0.0}
        assert sorted(trial["status"] for trial in found.trials) == ["completed"] * 5 + ["failed"]

    def test_a_killed_search_goes_on(self, tmp_path: Path):
        seen: list[dict[str, Any]] = []

        def killed(values: dict[str, Any], epochs: int) -> Score:
            if len(seen) == 3:
                raise KeyboardInterrupt
            seen.append(values)
            return self.score(values, epochs)

        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed, algorithm="grid")
        again: list[dict[str, Any]] = []

        def counted(values: dict[str, Any], epochs: int) -> Score:
            again.append(values)
            return self.score(values, epochs)

        found = self.run(tmp_path, counted, algorithm="grid")
        assert len(again) == 3
        assert len(found.trials) == 6
        assert all(values not in seen for values in again)


def node(root: Path, search_ranges: dict[str, Any], **fields: Any) -> NodeContext:
    write_examples(root / "examples")
    (root / "graph/headrace").mkdir(parents=True)
    (root / "graph/headrace/features.json").write_text(json.dumps(features_of()), encoding="utf-8")
    sections = {name: section.model_dump(mode="json") for name, section in SECTIONS.items()}
    sections["training"] |= {"batch_size": 64}
    tuning_section = {"enabled": True, "trials": 2, "search": search_ranges, **fields}
    (root / "temp").mkdir()
    return NodeContext(
        "tuner",
        "run",
        {"transformed_examples": [str(root / "examples")], "transform_graph": [str(root / "graph")]},
        {"best_hyperparameters": str(root / "best")},
        {"data": {"task": "binary"}, **sections, "tuning": tuning_section, "seed": 4},
        str(root / "temp"),
    )


class TestNode:
    def test_writes_what_the_contract_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any):
        events = tmp_path / "events.jsonl"
        monkeypatch.setenv("HEADRACE_EVENTS", str(events))
        result = tuner.run(node(tmp_path, {"training.learning_rate": {"float": [1e-4, 1e-1], "log": True}}))
        best = json.loads((tmp_path / "best/best.json").read_text())
        trials = json.loads((tmp_path / "best/trials.json").read_text())
        assert best["objective"] == "val_auc"
        assert best["score"] == max(trial["score"] for trial in trials)
        assert best["values"] in [trial["values"] for trial in trials]
        assert trials[0]["values"] == {"training.learning_rate": 1e-3}  # the config's own
        stored = json.loads((tmp_path / "best/best_hyperparameters.txt").read_text())
        restored = keras_tuner.HyperParameters.from_config(stored)
        assert restored.get("training.learning_rate") == best["values"]["training.learning_rate"]
        told = [json.loads(line) for line in events.read_text().splitlines()]
        assert [(event["kind"], event["done"], event["total"]) for event in told] == [
            ("trial", 1, 2),
            ("trial", 2, 2),
        ]
        assert "best of 2 trials" in result.finding
        assert capfd.readouterr().out == ""

    def test_scores_follow_from_the_seed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events.jsonl"))
        scores = []
        for name in ("one", "two"):
            tuner.run(node(tmp_path / name, DROPOUT))
            scores.append(
                [t["score"] for t in json.loads((tmp_path / name / "best/trials.json").read_text())]
            )
        assert scores[0] == scores[1]

    def test_off_writes_empty_values(self, tmp_path: Path):
        result = tuner.run(node(tmp_path, {}, enabled=False))
        assert json.loads((tmp_path / "best/best.json").read_text())["values"] == {}
        assert json.loads((tmp_path / "best/trials.json").read_text()) == []
        assert "off" in result.finding

    def test_a_search_without_a_finite_score_says_what_helps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events.jsonl"))
        ranges = {
            "training.learning_rate": {"float": [1e35, 1e38]},
            "training.optimizer": {"choice": ["sgd"]},
        }
        with pytest.raises(HeadraceError, match=r"finite val_auc. Received: none in 2"):
            tuner.run(node(tmp_path, ranges))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("trials"))


class TestTrials:
    def trials(self, examples: Path, **fields: Any) -> Trials:
        sections = {"model": {"family": "mlp", "hidden": [4]}, "training": {"batch_size": 64}}
        settings = tuning(DROPOUT, **fields)
        return Trials(str(examples), features_of(), sections, settings, ("val_loss", "min"), seed=2)

    def test_a_score_depends_on_values_and_seed_alone(self, examples: Path):
        trials = self.trials(examples, sample=0.3)
        values = {"training.learning_rate": 0.05}
        first, other, same = (
            trials.evaluate(given, 2) for given in (values, {"training.learning_rate": 1e-4}, values)
        )
        assert first == same
        assert other.value > first.value  # two epochs at a low rate move little
        assert first.value == min(value for value in first.curve if value is not None)
        assert first.epochs == len(first.curve) == 2

    def test_executions_are_averaged_over_seeds(self, examples: Path):
        values = {"training.learning_rate": 0.05}
        both = self.trials(examples, executions_per_trial=2).evaluate(values, 1)
        one = self.trials(examples)
        sections = {"model": {"family": "mlp", "hidden": [4]}, "training": {"batch_size": 64}}
        two = Trials(str(examples), features_of(), sections, tuning(DROPOUT), ("val_loss", "min"), seed=3)
        alone = [one.evaluate(values, 1).value, two.evaluate(values, 1).value]
        assert alone[0] != alone[1]
        assert both.value == pytest.approx(sum(alone) / 2)

    def test_any_family_may_be_tried(self, examples: Path):
        trials = self.trials(examples)
        found = trials.evaluate({"model.family": "ensemble", "model.size": 2}, 1)
        assert found.epochs == 1
        assert 0 < found.value < 2

    def test_what_stops_the_first_trial_ends_the_search_and_a_later_one_fails(self, examples: Path):
        trials = self.trials(examples)
        pictures = {"model.family": "cnn"}
        with pytest.raises(ConfigError, match="cnn"):
            trials.evaluate(pictures, 1)
        trials.evaluate({}, 1)
        with pytest.raises(keras_tuner.errors.FailedTrialError, match="cnn"):
            trials.evaluate(pictures, 1)

    def test_values_that_exclude_each_other_are_a_failed_trial(self, examples: Path):
        values = {"training.clip_norm": 1.0, "training.clip_value": 1.0}
        with pytest.raises(keras_tuner.errors.FailedTrialError, match="at most one"):
            self.trials(examples).evaluate(values, 1)

    def test_a_fit_that_diverges_is_a_failed_trial(self, examples: Path):
        values = {"training.learning_rate": 1e30, "training.optimizer": "sgd"}
        with pytest.raises(keras_tuner.errors.FailedTrialError, match="finite loss"):
            self.trials(examples).evaluate(values, 1)
