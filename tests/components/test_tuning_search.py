"""Searches over made-up scores: what each algorithm tries, goes on from and never repeats."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from headrace.components.models.config import MlpConfig
from headrace.components.training.config import TrainingConfig
from headrace.components.training.settings import apply_values
from headrace.components.tuning.conditions import active_fields, switches
from headrace.components.tuning.config import SearchRange, TuningConfig
from headrace.components.tuning.search import Score, Search, search
from headrace.components.tuning.space import check_search, own_values, searchable_fields
from headrace.data.errors import ConfigError

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
BOWL = {"training.learning_rate": {"float": [1e-4, 1.0], "log": True}, "model.dropout": {"float": [0, 0.9]}}
FAMILIES = {
    "model.family": {"choice": ["mlp", "wide_deep", "resnet_tabular"]},
    "model.hidden": {"choice": [[4], [8]]},
    "model.wide_l2": {"float": [0.0, 0.5], "step": 0.25, "when": {"model.family": "wide_deep"}},
    "model.batch_norm": {"choice": [True, False], "when": {"model.family": ["mlp", "wide_deep"]}},
    "training.optimizer": {"choice": ["adam", "sgd"]},
    "training.momentum": {
        "choice": [0.5, 0.9],
        "when": {"training.optimizer": ["sgd"], "model.batch_norm": [True]},
    },
}


def bowl(values: dict[str, Any], epochs: int = 1) -> Score:
    """Score two fields: best (0) at a rate of 0.01 and a dropout of 0.3."""
    rate = math.log10(values["training.learning_rate"]) + 2
    return Score(rate**2 + (values["model.dropout"] - 0.3) ** 2, epochs)


def any_score(values: dict[str, Any], epochs: int = 1) -> Score:
    """Score whatever there is; other values, another score."""
    return Score(sum(json.dumps(values).encode()) / 1000, epochs)


def tuning_of(**section: Any) -> TuningConfig:
    return TuningConfig.model_validate({"enabled": True, "search": BOWL, **section})


def look(
    folder: Path, evaluate: Callable[[dict[str, Any], int], Score] = bowl, seed: int = 4, **section: Any
) -> Search:
    return search(tuning_of(**section), ("val_loss", "min"), evaluate, folder, seed)


def tried(found: Search) -> list[str]:
    return [json.dumps(trial["values"]) for trial in found.trials]


class TestAlgorithms:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_each_runs_distinct_trials_and_returns_the_best(self, algorithm: str, tmp_path: Path):
        found = look(tmp_path, algorithm=algorithm, trials=8, epochs=9)
        scores = [trial["score"] for trial in found.trials]
        assert len(scores) == 8
        assert scores == [pytest.approx(bowl(trial["values"]).value) for trial in found.trials]
        assert found.score == min(scores) < scores[0]
        assert found.best == found.trials[scores.index(found.score)]["values"]
        if algorithm != "hyperband":  # which gives good values more epochs
            assert len(set(tried(found))) == 8
        assert found.hyperparameters["values"] == pytest.approx(found.best)

    def test_hyperband_gives_the_better_half_more_epochs(self, tmp_path: Path):
        found = look(tmp_path, algorithm="hyperband", trials=40, epochs=9)
        few = [trial for trial in found.trials if trial["epochs"] < 9]
        many = [trial for trial in found.trials if trial["epochs"] == 9]
        assert few
        assert max(trial["epochs"] for trial in found.trials) == 9
        assert min(trial["score"] for trial in many) == min(trial["score"] for trial in found.trials)

    @pytest.mark.parametrize("epochs", [1, 2])
    def test_hyperband_runs_with_few_epochs(self, epochs: int, tmp_path: Path):
        found = look(tmp_path, algorithm="hyperband", trials=3, epochs=epochs)
        assert 1 <= len(found.trials) <= 3
        assert {trial["epochs"] for trial in found.trials} == {epochs}

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_seed_of_zero_is_a_seed(self, algorithm: str, tmp_path: Path):
        first, same, other = (
            look(tmp_path / str(number), algorithm=algorithm, trials=4, seed=seed)
            for number, seed in enumerate((0, 0, 1))
        )
        assert tried(first) == tried(same)
        if algorithm != "grid":
            assert tried(first) != tried(other)

    def test_a_space_that_is_used_up_ends_the_search(self, tmp_path: Path):
        found = look(tmp_path, any_score, trials=9, search={"training.batch_size": {"choice": [32, 64]}})
        assert sorted(trial["values"]["training.batch_size"] for trial in found.trials) == [32, 64]

    def test_nothing_is_printed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        look(tmp_path, trials=2)
        assert capsys.readouterr().out == ""


class TestRanges:
    @pytest.mark.parametrize("algorithm", ["random", "hyperband", "grid"])
    @pytest.mark.parametrize(
        ("limits", "valid"),
        [
            ({"int": [2, 5]}, lambda v: isinstance(v, int) and v in (2, 3, 4, 5)),
            ({"int": [8, 32], "step": 8}, lambda v: isinstance(v, int) and v in (8, 16, 24, 32)),
            ({"int": [1, 1000], "log": True}, lambda v: isinstance(v, int) and 1 <= v <= 1000),
            ({"int": [4, 64], "log": True, "step": 2}, lambda v: v in (4, 8, 16, 32, 64)),
            ({"float": [0.5, 0.75]}, lambda v: isinstance(v, float) and 0.5 <= v <= 0.75),
            ({"float": [0, 1], "step": 0.25}, lambda v: v in (0, 0.25, 0.5, 0.75, 1)),
            ({"float": [1e-5, 1], "log": True}, lambda v: 1e-5 <= v <= 1),
            ({"choice": [1, 4, 9]}, lambda v: isinstance(v, int) and v in (1, 4, 9)),
            ({"choice": [[64, 32], [16], []]}, lambda v: v in ([64, 32], [16], [])),
            ({"choice": [None, 1.5, True, "a"]}, lambda v: v is None or v in (1.5, True, "a")),
        ],
    )
    def test_values_keep_to_the_range(self, algorithm: str, limits: Any, valid: Any, tmp_path: Path):
        found = look(tmp_path, any_score, algorithm=algorithm, trials=5, epochs=9, search={"model.x": limits})
        values = [trial["values"]["model.x"] for trial in found.trials]
        assert len({json.dumps(value) for value in values}) >= 3
        assert all(valid(value) for value in values), values

    def test_log_spreads_over_the_orders_of_magnitude(self, tmp_path: Path):
        space = {"model.x": {"float": [1e-6, 1.0], "log": True}}
        found = look(tmp_path, lambda values, epochs: Score(0.0, epochs), trials=40, search=space)
        small = sum(trial["values"]["model.x"] < 1e-3 for trial in found.trials)
        assert 10 <= small <= 30  # about half; on a linear scale there would be none

    @pytest.mark.parametrize(
        ("limits", "value", "own"),
        [
            ({"int": [8, 32], "step": 8}, 24, True),
            ({"int": [8, 32], "step": 8}, 20, False),
            ({"int": [4, 64], "step": 2, "log": True}, 32, True),
            ({"int": [4, 64], "step": 2, "log": True}, 33, False),
            ({"float": [0, 1], "step": 0.1}, 0.3, True),
            ({"choice": [[8], [16]]}, [16], True),
            ({"choice": [[8], [16]]}, [4], False),
            ({"choice": [None, 0.5]}, None, True),
            ({"float": [0, 0.2]}, None, False),
        ],
    )
    def test_own_values_count_only_where_the_search_may_pick_them(self, limits: Any, value: Any, own: bool):
        ranges = tuning_of(search={"model.x": limits}).search
        assert own_values(ranges, {"model": {"x": value}}) == ({"model.x": value} if own else None)


class TestConditions:
    RANGES = tuning_of(search=FAMILIES).search

    def valid(self, values: dict[str, Any]) -> bool:
        """Say whether just the fields that `FAMILIES` tells take part."""
        wanted = {"model.family", "model.hidden", "training.optimizer"}
        if values["model.family"] == "wide_deep":
            wanted.add("model.wide_l2")
        if values["model.family"] != "resnet_tabular":
            wanted.add("model.batch_norm")
            if values["training.optimizer"] == "sgd" and values["model.batch_norm"]:
                wanted.add("training.momentum")
        return set(values) == wanted

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_trials_have_the_fields_that_take_part(self, algorithm: str, tmp_path: Path):
        seen: list[dict[str, Any]] = []

        def evaluate(values: dict[str, Any], epochs: int) -> Score:
            seen.append(values)
            return any_score(values, epochs)

        trials = 19 if algorithm == "bayesian" else 22  # it models from the 19th on
        found = look(tmp_path, evaluate, algorithm=algorithm, trials=trials, epochs=3, search=FAMILIES)
        assert seen == [trial["values"] for trial in found.trials]
        assert all(self.valid(values) for values in seen)
        assert len({len(values) for values in seen}) > 1
        assert found.best in seen

    def test_a_grid_goes_through_every_combination_once(self, tmp_path: Path):
        found = look(tmp_path, any_score, algorithm="grid", trials=99, search=FAMILIES)
        # mlp: 2 hidden x (norm: adam, sgd x 2; no norm: adam, sgd); wide_deep: the same x 3; resnet: 2 x 2
        assert len(set(tried(found))) == len(found.trials) == 2 * 5 + 2 * 5 * 3 + 2 * 2

    def test_what_a_search_finds_makes_valid_sections(self):
        plain = {name: section().model_dump(mode="json") for name, section in SECTIONS.items()}
        changed = apply_values(plain, {"model.wide_l2": 0.5, "model.family": "wide_deep"})
        assert changed["model"] == {"family": "wide_deep", "wide_l2": 0.5}
        same = apply_values(plain, {"model.family": "mlp", "model.dropout": 0.5})
        assert same["model"] == plain["model"] | {"dropout": 0.5}

    def test_own_values_leave_out_what_takes_no_part(self):
        plain = {
            "model": {"family": "mlp", "hidden": [8], "batch_norm": False},
            "training": {"optimizer": "sgd"},
        }
        assert own_values(self.RANGES, plain) == {
            "model.family": "mlp",
            "model.hidden": [8],
            "model.batch_norm": False,
            "training.optimizer": "sgd",
        }

    def test_the_order_of_the_config_does_not_matter(self):
        turned = dict(reversed(self.RANGES.items()))
        values = {"model.family": "mlp", "training.optimizer": "sgd", "model.batch_norm": True}
        assert set(active_fields(turned, values)) == set(active_fields(self.RANGES, values))
        assert "training.momentum" in active_fields(turned, values)

    def test_true_is_not_one(self):
        ranges = tuning_of(
            search={"model.a": {"choice": [1, True]}, "model.b": {"choice": [0], "when": {"model.a": True}}}
        ).search
        assert active_fields(ranges, {"model.a": True}) == ["model.a", "model.b"]
        assert active_fields(ranges, {"model.a": 1}) == ["model.a"]

    def test_switches_are_the_choices_that_others_depend_on(self):
        found = list(switches(self.RANGES))
        assert {frozenset(setting) for setting in found} == {
            frozenset({"model.family", "training.optimizer"}),
            frozenset({"model.family", "training.optimizer", "model.batch_norm"}),
        }
        assert len(found) == 2 + 2 * 2 * 2


SECTIONS = {"model": MlpConfig, "training": TrainingConfig}


class TestCheck:
    def test_families_and_their_fields_may_be_searched(self):
        check_search(tuning_of(search=FAMILIES), MlpConfig(), TrainingConfig(), "binary")
        own = searchable_fields({"model": MlpConfig()})
        every = searchable_fields({"model": MlpConfig()}, every_family=True)
        assert "model.wide_l2" not in own
        assert {"model.wide_l2", *own} < set(every)

    @pytest.mark.parametrize(
        ("space", "message", "hint"),
        [
            ({"model.wide_l2": {"float": [0, 1]}}, r"Received: model\.wide_l2", "Did you mean"),
            (
                {
                    "model.family": {"choice": ["mlp", "wide_deep"]},
                    "model.wide_l2": {"float": [0, 1]},
                },
                r"model\.wide_l2` must be a field of every family.*Received: mlp, which has none",
                r"when: \{model\.family",
            ),
            ({"model.family": {"choice": ["mlp", "wide"]}}, r"model\.family.*Received: \"wide\"", ""),
            (
                {"model.dropout": {"float": [0, 0.5], "when": {"model.activatoin": ["relu"]}}},
                r"model\.dropout\.when` must name another field that is searched.*model\.activatoin",
                "",
            ),
            (
                {
                    "model.activation": {"choice": ["relu", "tanh"]},
                    "model.dropout": {"float": [0, 0.5], "when": {"model.activation": "gelu"}},
                },
                r'when\.model\.activation` must hold values.*"relu", "tanh"\. Received: "gelu"',
                "",
            ),
            (
                {
                    "model.batch_norm": {"choice": [True, False], "when": {"model.linear_terms": True}},
                    "model.linear_terms": {"choice": [True, False], "when": {"model.batch_norm": True}},
                },
                r"round in a circle. Received: model\.batch_norm, model\.linear_terms",
                "",
            ),
            (
                {
                    "training.loss.kind": {"choice": ["focal", "cross_entropy"]},
                    "training.loss.gamma": {"float": [1, 3]},
                },
                r"loss\.gamma.*goes with `kind: focal`.*with training\.loss\.kind \"cross_entropy\"",
                "add `when: {training.loss.kind: [...]}` to it",
            ),
            ({"training.epochs": {"int": [1, 3]}}, r"cannot be searched: trials take `tuning\.epochs`", ""),
            ({"model.dropout": {"float": [0, 0.5], "step": 0.7}}, "no wider than the range.*0.7", ""),
            ({}, "must name at least one field", ""),
        ],
    )
    def test_mistakes_are_named(self, space: Any, message: str, hint: str):
        with pytest.raises(ConfigError, match=message) as error:
            check_search(tuning_of(search=space, objective="val_auc"), MlpConfig(), TrainingConfig())
        assert error.value.exit_code == 2
        assert hint.replace("\\", "") in error.value.hint

    def test_options_are_checked_beside_their_kind(self):
        space = {
            "training.loss.kind": {"choice": ["focal", "cross_entropy"]},
            "training.loss.gamma": {"float": [1, 3], "when": {"training.loss.kind": "focal"}},
        }
        check_search(tuning_of(search=space), MlpConfig(), TrainingConfig(), "binary")

    def test_a_loss_that_changes_is_no_objective(self):
        space = {"training.loss.kind": {"choice": ["mse", "mae"]}}
        with pytest.raises(
            ConfigError, match=r"Received: val_loss with `tuning\.search\.training\.loss\.kind"
        ):
            check_search(tuning_of(search=space), MlpConfig(), TrainingConfig(), "regression")
        named = tuning_of(search=space, objective="val_rmse")
        check_search(named, MlpConfig(), TrainingConfig(), "regression")

    def test_conditions_take_one_value_or_several(self):
        assert SearchRange.model_validate({"choice": [1], "when": {"a.b": "x"}}).when == {"a.b": ("x",)}
        with pytest.raises(ValueError, match="at least 1 item"):
            SearchRange.model_validate({"choice": [1], "when": {"a.b": []}})


class TestFailures:
    def test_trials_that_fail_in_a_row_do_not_end_the_search(self, tmp_path: Path):
        seen: list[int] = []

        def evaluate(values: dict[str, Any], epochs: int) -> Score:
            seen.append(1)
            if len(seen) <= 5:
                raise keras_tuner.errors.FailedTrialError("diverged")
            return bowl(values)

        found = look(tmp_path, evaluate, trials=7)
        assert [trial["status"] for trial in found.trials] == ["failed"] * 5 + ["completed"] * 2
        assert found.trials[0]["score"] is None
        assert [trial["reason"] for trial in found.trials[4:6]] == ["diverged", None]
        assert found.score == min(trial["score"] for trial in found.trials[5:])

    def test_no_success_is_no_best(self, tmp_path: Path):
        def evaluate(values: dict[str, Any], epochs: int) -> Score:
            raise keras_tuner.errors.FailedTrialError("diverged")

        found = look(tmp_path, evaluate, trials=4)
        assert found.best is None
        assert len(found.trials) == 4

    def test_what_is_not_the_values_fault_ends_the_search_at_once(self, tmp_path: Path):
        seen: list[int] = []

        def evaluate(values: dict[str, Any], epochs: int) -> Score:
            seen.append(1)
            raise ConfigError("`training.class_weights` must name classes")

        with pytest.raises(ConfigError, match="must name classes"):
            look(tmp_path, evaluate, trials=4)
        assert len(seen) == 1


class TestResume:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("space", [BOWL, FAMILIES], ids=["plain", "conditions"])
    def test_finished_trials_are_not_repeated(self, algorithm: str, space: Any, tmp_path: Path):
        section = {"algorithm": algorithm, "trials": 6, "epochs": 9, "search": space}
        whole = look(tmp_path / "whole", any_score, **section)
        done: list[str] = []

        def dying(values: dict[str, Any], epochs: int) -> Score:
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(json.dumps(values))
            return any_score(values, epochs)

        with pytest.raises(KeyboardInterrupt):
            look(tmp_path / "cut", dying, **section)
        again: list[str] = []

        def going_on(values: dict[str, Any], epochs: int) -> Score:
            again.append(json.dumps(values))
            return any_score(values, epochs)

        found = look(tmp_path / "cut", going_on, **section)
        assert tried(found) == tried(whole)
        assert done + again == tried(whole)
        assert found.best == whole.best
        assert [trial["epochs"] for trial in found.trials] == [trial["epochs"] for trial in whole.trials]


class TestMinutes:
    def test_no_trial_starts_after_the_time(self, tmp_path: Path):
        def slow(values: dict[str, Any], epochs: int) -> Score:
            time.sleep(0.15)
            return bowl(values)

        found = look(tmp_path, slow, trials=50, minutes=0.5 / 60)
        assert 2 <= len(found.trials) <= 5
        assert found.best is not None

    def test_the_first_always_runs(self, tmp_path: Path):
        assert len(look(tmp_path, trials=50, minutes=1e-9).trials) == 1

    def test_earlier_tries_count(self, tmp_path: Path):
        def dying(values: dict[str, Any], epochs: int) -> Score:
            if (tmp_path / "notes").exists():
                time.sleep(0.3)
            if len(list((tmp_path / "notes").glob("*"))) == 2:
                raise KeyboardInterrupt
            return bowl(values)

        with pytest.raises(KeyboardInterrupt):
            look(tmp_path, dying, trials=50, minutes=0.5 / 60)
        again: list[int] = []

        def going_on(values: dict[str, Any], epochs: int) -> Score:
            again.append(1)
            time.sleep(0.3)
            return bowl(values)

        look(tmp_path, going_on, trials=50, minutes=0.5 / 60)
        assert len(again) <= 2  # the one cut short, and one at most in what was left
