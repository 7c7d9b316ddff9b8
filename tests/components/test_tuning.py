import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from headrace.components.models.config import MlpConfig
from headrace.components.node import NodeContext, NodeResult
from headrace.components.training.config import TrainingConfig
from headrace.components.tuning.config import TuningConfig
from headrace.components.tuning.run import Trials, run
from headrace.components.tuning.search import Score, Search, search
from headrace.components.tuning.space import check_search, own_values, resolve_objective, searchable_fields
from headrace.data.errors import ConfigError, HeadraceError
from tests.components.tabular import features_of, write_examples

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
BOWL = {"training.learning_rate": {"float": [1e-4, 1.0], "log": True}, "model.dropout": {"float": [0, 0.9]}}


def bowl(values: dict[str, Any], epochs: int = 1) -> Score:
    """Score two fields: best (0) at a rate of 0.01 and a dropout of 0.3."""
    rate = math.log10(values["training.learning_rate"]) + 2
    return Score(rate**2 + (values["model.dropout"] - 0.3) ** 2, epochs)


def tuning_of(**section: Any) -> TuningConfig:
    return TuningConfig.model_validate({"enabled": True, "search": BOWL, **section})


def look(
    folder: Path,
    evaluate: Callable[[dict[str, Any], int], Score] = bowl,
    seed: int = 4,
    first: dict[str, Any] | None = None,
    **section: Any,
) -> Search:
    return search(tuning_of(**section), ("val_loss", "min"), evaluate, folder, seed, first=first)


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
        assert {trial["status"] for trial in found.trials} == {"completed"}
        assert found.hyperparameters["values"].keys() >= BOWL.keys()

    def test_hyperband_gives_the_better_half_more_epochs(self, tmp_path: Path):
        found = look(tmp_path, algorithm="hyperband", trials=40, epochs=9)
        few = [trial for trial in found.trials if trial["epochs"] < 9]
        many = [trial for trial in found.trials if trial["epochs"] == 9]
        assert few
        assert many
        assert max(trial["epochs"] for trial in found.trials) == 9
        assert min(trial["score"] for trial in many) == min(trial["score"] for trial in found.trials)

    @pytest.mark.parametrize("epochs", [1, 2])
    def test_hyperband_runs_with_few_epochs(self, epochs: int, tmp_path: Path):
        found = look(tmp_path, algorithm="hyperband", trials=3, epochs=epochs)
        assert 1 <= len(found.trials) <= 3
        assert {trial["epochs"] for trial in found.trials} == {epochs}

    def test_grid_goes_through_all_combinations(self, tmp_path: Path):
        space = {"training.batch_size": {"choice": [32, 64]}, "model.batch_norm": {"choice": [True, False]}}
        found = look(
            tmp_path, lambda values, epochs: Score(1.0, epochs), algorithm="grid", trials=99, search=space
        )
        pairs = {(t["values"]["training.batch_size"], t["values"]["model.batch_norm"]) for t in found.trials}
        assert pairs == {(32, True), (32, False), (64, True), (64, False)}
        assert len(found.trials) == 4

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("seed", [0, 7])
    def test_seed_decides_on_the_values(self, algorithm: str, seed: int, tmp_path: Path):
        first, same = (
            look(tmp_path / name, algorithm=algorithm, trials=5, seed=seed) for name in ("first", "same")
        )
        assert tried(first) == tried(same)
        if algorithm != "grid":
            assert tried(look(tmp_path / "other", algorithm=algorithm, trials=5, seed=seed + 1)) != tried(
                first
            )

    def test_higher_is_better_where_the_objective_says_so(self, tmp_path: Path):
        found = search(tuning_of(trials=6), ("val_auc", "max"), bowl, tmp_path, 1)
        assert found.score == max(trial["score"] for trial in found.trials)

    @pytest.mark.parametrize("algorithm", ["random", "bayesian"])
    def test_the_first_trial_takes_the_config_s_own_values(self, algorithm: str, tmp_path: Path):
        own = {"training.learning_rate": 0.01, "model.dropout": 0.3}
        found = look(tmp_path, algorithm=algorithm, trials=6, first=own)
        assert found.trials[0]["values"] == own
        assert found.score == pytest.approx(0.0, abs=1e-9)
        assert len(set(tried(found))) == 6

    def test_a_space_that_is_used_up_ends_the_search(self, tmp_path: Path):
        space = {"training.batch_size": {"choice": [32, 64]}}
        found = look(tmp_path, lambda values, epochs: Score(1.0, epochs), trials=9, search=space)
        assert sorted(trial["values"]["training.batch_size"] for trial in found.trials) == [32, 64]

    def test_nothing_is_printed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        look(tmp_path, trials=2)
        assert capsys.readouterr().out == ""


class TestRanges:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
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
        found = look(
            tmp_path,
            lambda values, epochs: Score(len(json.dumps(values)), epochs),
            algorithm=algorithm,
            trials=5,
            epochs=9,
            search={"model.x": limits},
        )
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
            ({"float": [0, 0.2]}, 0.3, False),
            ({"choice": [[8], [16]]}, [16], True),
            ({"choice": [[8], [16]]}, [4], False),
            ({"choice": [None, 0.5]}, None, True),
            ({"float": [0, 0.2]}, None, False),
        ],
    )
    def test_own_values_count_only_where_the_search_may_pick_them(self, limits: Any, value: Any, own: bool):
        ranges = tuning_of(search={"model.x": limits}).search
        assert own_values(ranges, {"model": {"x": value}}) == ({"model.x": value} if own else None)


class TestFailures:
    def test_trials_that_fail_do_not_end_the_search(self, tmp_path: Path):
        seen: list[int] = []

        def evaluate(values: dict[str, Any], epochs: int) -> Score:
            seen.append(1)
            if len(seen) <= 5:
                raise keras_tuner.errors.FailedTrialError("diverged")
            return bowl(values)

        found = look(tmp_path, evaluate, trials=7)
        assert [trial["status"] for trial in found.trials] == ["failed"] * 5 + ["completed"] * 2
        assert found.trials[0]["score"] is None
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
    def test_finished_trials_are_not_repeated(self, algorithm: str, tmp_path: Path):
        whole = look(tmp_path / "whole", algorithm=algorithm, trials=6, epochs=9)
        done: list[str] = []

        def dying(values: dict[str, Any], epochs: int) -> Score:
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(json.dumps(values))
            return bowl(values, epochs)

        with pytest.raises(KeyboardInterrupt):
            look(tmp_path / "cut", dying, algorithm=algorithm, trials=6, epochs=9)
        again: list[str] = []

        def going_on(values: dict[str, Any], epochs: int) -> Score:
            again.append(json.dumps(values))
            return bowl(values, epochs)

        found = look(tmp_path / "cut", going_on, algorithm=algorithm, trials=6, epochs=9)
        assert tried(found) == tried(whole)
        assert done + again == tried(whole)
        assert found.best == whole.best


class TestCheck:
    @pytest.mark.parametrize(
        ("space", "message", "hint"),
        [
            (
                {"model.droput": {"float": [0, 0.5]}},
                r"must name fields under model or training\. Received: model\.droput",
                r"Did you mean model\.dropout\?",
            ),
            (
                {"training.early_stoping.patience": {"int": [1, 3]}},
                "early_stoping",
                r"training\.early_stopping\.patience",
            ),
            ({"zzz": {"int": [1, 3]}}, "Received: zzz", r"Choose one of model\.hidden"),
            (
                {"model.dropout": {"float": [0, 1.5]}},
                r"search\.model\.dropout.*less than 1.*Received: 1\.5",
                "",
            ),
            ({"model.hidden": {"choice": [[8], [0]]}}, r"model\.hidden.*Received: \[0\]", ""),
            ({"training.batch_size": {"float": [8, 9]}}, r"batch_size.*valid integer", ""),
            ({"training.optimizer": {"choice": ["adam", "adm"]}}, 'optimizer.*Received: "adm"', ""),
            ({"training.epochs": {"int": [1, 3]}}, r"cannot be searched: trials take `tuning\.epochs`", ""),
            ({"model.dropout": {"float": [0, 0.5], "step": 0.7}}, "no wider than the range.*0.7", ""),
            ({"model.dropout": {"choice": [0.1, 0.1]}}, "distinct values", ""),
            ({}, "must name at least one field", ""),
        ],
    )
    def test_mistakes_are_named(self, space: Any, message: str, hint: str):
        with pytest.raises(ConfigError, match=message) as error:
            check_search(tuning_of(search=space), MlpConfig(), TrainingConfig())
        assert error.value.exit_code == 2
        assert re.search(hint, error.value.hint)

    @pytest.mark.parametrize(
        ("objective", "task", "message"),
        [
            ("val_acc", None, "val_auc"),
            ("val_auc", "regression", "val_rmse.*for regression tasks. Received: val_auc"),
        ],
    )
    def test_objectives(self, objective: str, task: Any, message: str):
        with pytest.raises(ConfigError, match=rf"tuning\.objective.*{message}"):
            check_search(tuning_of(objective=objective), MlpConfig(), TrainingConfig(), task)

    def test_every_searchable_field_exists_in_its_section(self):
        sections = {"model": MlpConfig(), "training": TrainingConfig()}
        fields = searchable_fields(sections)
        assert {"model.hidden", "training.learning_rate", "training.reduce_on_plateau.factor"} <= set(fields)
        assert "training.backup" not in fields

    def test_lists_and_nulls_are_choices(self):
        space = {"model.hidden": {"choice": [[8], [8, 4], []]}, "training.clip_norm": {"choice": [None, 1.0]}}
        check_search(tuning_of(search=space), MlpConfig(), TrainingConfig())

    @pytest.mark.parametrize(
        ("task", "expected"), [("binary", ("val_auc", "max")), ("regression", ("val_loss", "min"))]
    )
    def test_auto_is_the_task_s_main_metric(self, task: Any, expected: tuple[str, str]):
        assert resolve_objective("auto", task) == expected


SPACE = {
    "model.hidden": {"choice": [[4], [8]]},
    "training.learning_rate": {"float": [1e-3, 0.1], "log": True},
}


def run_node(root: Path, tuning: dict[str, Any], examples: Path | None = None, **training: Any) -> NodeResult:
    """Run the node into `root/out`; without examples its inputs do not exist."""
    graph = root / "graph" / "headrace"
    if examples is not None:
        graph.mkdir(parents=True)
        (graph / "features.json").write_text(json.dumps(features_of()))
    inputs = {
        "transformed_examples": [str(examples or root / "none")],
        "transform_graph": [str(root / "graph")],
    }
    config = {
        "data": {"task": "binary"},
        "model": {"family": "mlp", "hidden": [4]},
        "training": {"batch_size": 64, "learning_rate": 0.01, **training},
        "tuning": tuning,
        "seed": 3,
    }
    outputs = {"best_hyperparameters": str(root / "out")}
    return run(NodeContext("tuner", "run", inputs, outputs, config, str(root / "temp")))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("examples"))


class TestNode:
    def test_disabled_it_reads_nothing_and_writes_no_values(self, tmp_path: Path):
        started = time.monotonic()
        result = run_node(tmp_path, {"enabled": False, "search": BOWL})
        assert time.monotonic() - started < 1
        best = json.loads((tmp_path / "out/best.json").read_text())
        assert best == {"values": {}, "score": None, "objective": "val_auc"}
        assert json.loads((tmp_path / "out/trials.json").read_text()) == []
        stock = json.loads((tmp_path / "out/best_hyperparameters.txt").read_text())
        assert keras_tuner.HyperParameters.from_config(stock).values == {}
        assert result.finding.startswith("off")

    def test_it_fits_scores_and_writes(self, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        tuning = {"enabled": True, "trials": 2, "epochs": 2, "sample": 0.5, "search": SPACE}
        result = run_node(tmp_path, tuning, examples)
        best = json.loads((tmp_path / "out/best.json").read_text())
        trials = json.loads((tmp_path / "out/trials.json").read_text())
        assert [trial.keys() for trial in trials] == [
            {*("trial", "values", "score", "epochs", "seconds", "status")}
        ] * 2
        assert trials[0]["values"] == {"model.hidden": [4], "training.learning_rate": 0.01}
        winner = max(trials, key=lambda trial: trial["score"])
        assert best == {"values": winner["values"], "score": winner["score"], "objective": "val_auc"}
        assert 0.5 < best["score"] <= 1
        assert f"val_auc {best['score']:.4f}, best of 2 trials" in result.finding
        stock = json.loads((tmp_path / "out/best_hyperparameters.txt").read_text())
        rate = keras_tuner.HyperParameters.from_config(stock).get("training.learning_rate")
        assert rate == best["values"]["training.learning_rate"]
        events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
        assert [event["done"] for event in events if event["kind"] == "trial"] == [1, 2]

    def test_a_score_depends_on_values_and_seed_alone(self, examples: Path):
        tuning = tuning_of(search=SPACE, sample=0.3)
        sections = {"model": {"family": "mlp"}, "training": {"batch_size": 64}}
        trials = Trials(str(examples), features_of(), sections, tuning, ("val_loss", "min"), seed=2)
        values = {"model.hidden": [4], "training.learning_rate": 0.05}
        first, other, same = (
            trials.evaluate(given, 1)
            for given in (values, values | {"training.learning_rate": 0.001}, values)
        )
        assert first == same
        assert other.value > first.value  # one epoch at a low rate moves little

    def test_mistakes_end_before_data_is_read(self, tmp_path: Path):
        tuning = {"enabled": True, "search": {"model.hiden": {"choice": [[4]]}}}
        with pytest.raises(ConfigError, match=r"model\.hiden"):
            run_node(tmp_path, tuning)

    def test_an_unknown_class_is_named_as_such(self, examples: Path, tmp_path: Path):
        tuning = {"enabled": True, "trials": 2, "search": SPACE}
        with pytest.raises(ConfigError, match=r"classes of the label: no, yes\. Received: maybe"):
            run_node(tmp_path, tuning, examples, class_weights={"maybe": 2.0})

    def test_a_search_that_only_diverges_says_so(self, examples: Path, tmp_path: Path):
        space = {"training.learning_rate": {"float": [1e29, 1e30]}}
        tuning = {"enabled": True, "trials": 4, "search": space}
        with pytest.raises(HeadraceError, match=r"must reach a finite val_auc\. Received: none in 4"):
            run_node(tmp_path, tuning, examples, optimizer="sgd")
