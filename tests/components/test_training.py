import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from headrace.components.features.signatures import FittedTransform
from headrace.components.models.config import MlpConfig
from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.training import run as trainer
from headrace.components.training.callbacks import Progress, RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import compile_model
from headrace.components.training.input import (
    batches,
    class_weight_table,
    label_counts,
    read_rows,
    split_files,
)
from headrace.components.training.settings import apply_values, resolve_monitor
from headrace.data.errors import ConfigError, HeadraceError
from headrace.serving.row_mark import ROW_MARK
from tests.components.tabular import (
    ALL_TASKS,
    CLASSES,
    draw_columns,
    draw_labels,
    features_of,
    write_examples,
    write_split,
)
from tests.components.trained_model import Trained, context, trained

pytestmark = pytest.mark.long

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 64,
    "early_stopping": None,
    "tensorboard": False,
    "backup": False,
}
BOUNCING: dict[str, Any] = {"epochs": 8, "learning_rate": 0.3, "reduce_on_plateau": None}
MODEL = MlpConfig(hidden=(8,))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("binary"))


def fit(examples: Path, root: Path, task: str = "binary", seed: int = 5, **training: Any) -> trainer.Trained:
    folders = RunFolders(root / "state", root / "logs", root / "history.csv")
    section = TrainingConfig.model_validate(QUICK | training)
    return trainer.train(str(examples), features_of(task), MODEL, section, folders, seed)


def eval_rows(task: str = "binary") -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what `write_examples` wrote as the eval split."""
    columns = draw_columns(200, seed=2)
    return columns, draw_labels(columns, task, seed=2)


def after_steps(steps: int = 2, **training: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return weights before and after some eager steps on the eval rows."""
    model = build_model(features_of(), MlpConfig(hidden=(8,), dropout=0.0), output_of(features_of()), seed=1)
    start = model.get_weights()
    compile_model(model, TrainingConfig.model_validate(training), output_of(features_of()))
    model.run_eagerly = True
    columns, labels = eval_rows()
    for _ in range(steps):
        model.train_on_batch(columns, labels[:, None])
    return start, model.get_weights()


class TestInput:
    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_rows_come_back_as_written(self, task: str, tmp_path: Path):
        weights = np.linspace(0.5, 2, 50).astype("f")
        columns, labels = write_split(tmp_path, "train", 50, task, weights=weights, files=3)
        found = read_rows(split_files(str(tmp_path), "train"), features_of(task, "w"))
        assert found is not None
        assert found.columns.keys() == columns.keys()
        for name, column in columns.items():
            np.testing.assert_array_equal(found.columns[name], column)
            assert found.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(found.labels, labels.reshape(50, -1))
        assert found.labels.dtype == (np.int64 if task == "multiclass" else np.float32)
        np.testing.assert_array_equal(found.weights, weights)

    def test_rows_beyond_the_limit_are_left_on_disk(self, examples: Path):
        files = split_files(str(examples), "train")
        row_bytes = 2 * 4 + (1 + 1 + 3 + 3) * 8 + 8  # dense float32; int64 inputs; int64 label
        assert read_rows(files, features_of(), limit_bytes=400 * row_bytes - 1) is None
        assert read_rows(files, features_of(), limit_bytes=400 * row_bytes) is not None

    def test_a_split_without_rows_is_empty(self, tmp_path: Path):
        write_split(tmp_path, "eval", 0, files=1)
        found = read_rows(split_files(str(tmp_path), "eval"), features_of())
        assert found is not None
        assert len(found) == 0
        assert found.columns["words"].shape == (0, 3)

    def test_a_split_without_files_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"must have TFRecord files.*Split-test"):
            split_files(str(tmp_path), "test")

    @pytest.mark.parametrize("source", ["memory", "stream"])
    def test_batches_hold_all_rows_in_order_with_a_short_last_one(self, source: str, tmp_path: Path):
        columns, labels = write_split(tmp_path, "eval", 100, files=1)
        made = batches(read_source(tmp_path, "eval", source), features_of(), TrainingConfig(batch_size=32))
        found = list(made.dataset.as_numpy_iterator())
        assert [len(batch[1]) for batch in found] == [32, 32, 32, 4]
        assert all(len(batch) == 2 for batch in found)
        np.testing.assert_array_equal(np.concatenate([batch[0]["tags"] for batch in found]), columns["tags"])
        np.testing.assert_array_equal(np.concatenate([batch[1] for batch in found])[:, 0], labels)
        assert (made.steps, made.rows) == ((4, 100) if source == "memory" else (None, None))

    @pytest.mark.parametrize("source", ["memory", "stream"])
    def test_order_follows_the_seed_and_differs_between_epochs(self, source: str, examples: Path):
        def epochs(seed: int) -> list[list[float]]:
            made = batches(
                read_source(examples, "train", source), features_of(), TrainingConfig(), shuffle_seed=seed
            )
            return [
                np.concatenate([batch[0]["amount"][:, 0] for batch in made.dataset]).tolist()
                for _ in range(2)
            ]

        first, same, other = epochs(1), epochs(1), epochs(2)
        assert first == same
        assert first[0] != first[1]
        assert first[0] != other[0]
        written = sorted(draw_columns(400, seed=1)["amount"][:, 0].tolist())
        assert all(sorted(order) == written for order in [*first, *other])

    @pytest.mark.parametrize("source", ["memory", "stream"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_class_weights_multiply_example_weights(self, source: str, weighted: bool, tmp_path: Path):
        weights = np.linspace(0.5, 2, 60).astype("f")
        _, labels = write_split(
            tmp_path, "train", 60, "multiclass", weights=weights if weighted else None, files=1
        )
        table = np.array([1.0, 3.0, 0.5], "f")
        features = features_of("multiclass", "w" if weighted else None)
        made = batches(
            read_source(tmp_path, "train", source, features), features, TrainingConfig(), class_weights=table
        )
        (batch,) = made.dataset.as_numpy_iterator()
        expected = table[labels] * (weights if weighted else 1)
        np.testing.assert_allclose(batch[2], expected, rtol=1e-6)


def read_source(examples: Path, split: str, source: str, features: Any = None) -> Any:
    files = split_files(str(examples), split)
    return files if source == "stream" else read_rows(files, features or features_of())


class TestClassWeights:
    @pytest.mark.parametrize("source", ["memory", "stream"])
    @pytest.mark.parametrize("task", ["binary", "multiclass"])
    def test_balanced_is_what_sklearn_computes(self, task: str, source: str, tmp_path: Path):
        _, labels = write_split(tmp_path, "train", 90, task)
        counts = label_counts(read_source(tmp_path, "train", source, features_of(task)), features_of(task))
        assert counts.tolist() == np.bincount(labels).tolist()
        assert len(set(counts.tolist())) > 1
        classes = tuple(CLASSES[task] or ())
        found = class_weight_table("balanced", classes, counts)
        expected = compute_class_weight("balanced", classes=np.arange(len(classes)), y=labels)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_classes_that_a_mapping_leaves_out_weigh_one(self):
        found = class_weight_table({"b": 2.5}, ("a", "b", "c"), None)
        assert found is not None
        assert found.tolist() == [1.0, 2.5, 1.0]

    def test_none_is_no_table(self):
        assert class_weight_table("none", ("a", "b"), None) is None

    def test_an_unknown_class_is_named_beside_those_there_are(self):
        with pytest.raises(ConfigError, match=r"classes of the label: no, yes\. Received: maybe"):
            class_weight_table({"maybe": 2.0}, ("no", "yes"), None)

    def test_regression_has_none(self):
        with pytest.raises(ConfigError, match=r"must be none for regression\. Received: balanced"):
            class_weight_table("balanced", (), None)

    def test_they_move_the_model_towards_the_rare_class(self, examples: Path, tmp_path: Path):
        def mean_logit(name: str, **training: Any) -> float:
            made = fit(examples, tmp_path / name, learning_rate=0.01, **training)
            return float(np.mean(made.model(eval_rows()[0])))

        # "yes" is the rarer class, so both raise its score.
        plain = mean_logit("plain")
        assert mean_logit("weighted", class_weights={"yes": 5.0}) > plain + 0.2
        assert mean_logit("balanced", class_weights="balanced") > plain + 0.02


class TestFit:
    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_logs_are_the_metrics_of_the_model_returned(self, task: str, tmp_path: Path):
        made = fit(write_examples(tmp_path / "examples", task), tmp_path, task, learning_rate=0.01)
        columns, labels = eval_rows(task)
        logits = np.asarray(made.model(columns)).astype(np.float64)
        logs = made.epochs[made.best_epoch - 1]["logs"]
        if task == "regression":
            seen = draw_labels(draw_columns(400, seed=1), task, seed=1).astype(np.float64)
            own = logits[:, 0] * seen.std() + seen.mean()
            expected = {
                "val_loss": mean_squared_error(labels, own) / seen.var(),
                "val_rmse": math.sqrt(mean_squared_error(labels, own)),
                "val_mae": mean_absolute_error(labels, own),
            }
        elif task == "binary":
            scores = 1 / (1 + np.exp(-logits[:, 0]))
            expected = {
                "val_loss": log_loss(labels, scores),
                "val_accuracy": accuracy_score(labels, scores >= 0.5),
            }
            assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=0.01)  # 200 thresholds
        elif task == "multilabel":
            scores = 1 / (1 + np.exp(-logits))
            expected = {
                "val_loss": log_loss(labels.ravel(), scores.ravel()),
                "val_accuracy": accuracy_score(labels.ravel(), scores.ravel() >= 0.5),
            }
            assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=0.01)
        else:
            scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            expected = {
                "val_loss": log_loss(labels, scores),
                "val_accuracy": accuracy_score(labels, logits.argmax(axis=1)),
            }
        assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-4)

    def test_weights_of_the_best_epoch_are_restored(self, examples: Path, tmp_path: Path):
        made = fit(examples, tmp_path, **BOUNCING, early_stopping={"monitor": "val_loss", "patience": 100})
        losses = [epoch["logs"]["val_loss"] for epoch in made.epochs]
        assert made.monitor == ("val_loss", "min")
        assert len(losses) == 8
        assert made.best_epoch == int(np.argmin(losses)) + 1 < 8
        columns, labels = eval_rows()
        scores = 1 / (1 + np.exp(-np.asarray(made.model(columns)).astype(np.float64)[:, 0]))
        assert log_loss(labels, scores) == pytest.approx(min(losses), rel=1e-4)
        assert log_loss(labels, scores) < losses[-1] - 1e-3

    def test_early_stopping_ends_the_fit(self, examples: Path, tmp_path: Path):
        made = fit(examples, tmp_path, **BOUNCING, early_stopping={"monitor": "val_loss", "patience": 1})
        assert len(made.epochs) == made.best_epoch + 1 < 8

    def test_plateaus_lower_the_learning_rate(self, examples: Path, tmp_path: Path):
        made = fit(
            examples,
            tmp_path,
            **BOUNCING | {"epochs": 4, "reduce_on_plateau": {"factor": 0.1, "patience": 0}},
        )
        rates = [epoch["logs"]["learning_rate"] for epoch in made.epochs]
        assert rates[0] == pytest.approx(0.3)
        assert rates[-1] <= 0.0301

    @pytest.mark.parametrize("cache", [True, False])
    def test_same_seed_gives_same_metrics(self, cache: bool, examples: Path, tmp_path: Path):
        def logs(name: str, seed: int) -> list[Any]:
            made = fit(examples, tmp_path / name, seed=seed, cache=cache, epochs=2)
            return [epoch["logs"] for epoch in made.epochs]

        first = logs("first", 1)
        assert logs("second", 1) == first
        assert not cache or logs("third", 2) != first

    @pytest.mark.parametrize(
        ("changes", "control"),
        [
            ({"optimizer": "sgd"}, {}),
            ({"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "sgd"}),
            ({"optimizer": "sgd", "weight_decay": 0.5}, {"optimizer": "sgd"}),
            ({"optimizer": "adamw", "weight_decay": 0.5}, {"optimizer": "adamw"}),
            ({"learning_rate": 0.1}, {}),
        ],
    )
    def test_settings_have_an_effect(self, changes: dict[str, Any], control: dict[str, Any]):
        first, second = after_steps(**changes)[1], after_steps(**control)[1]
        assert not all(np.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize("clip_norm", [0.01, 0.05])
    def test_clipping_bounds_the_norm_of_a_step(self, clip_norm: float):
        start, end = after_steps(1, optimizer="sgd", learning_rate=1.0, clip_norm=clip_norm)
        squares = sum(float(np.square(a - b).sum()) for a, b in zip(start, end, strict=True))
        # TensorFlow takes the norm of an embedding's gradient before rows of one index are added up.
        assert math.sqrt(squares) == pytest.approx(clip_norm, rel=0.03)

    def test_divergence_is_told_with_what_helps(self, examples: Path, tmp_path: Path):
        with pytest.raises(
            HeadraceError, match=r"must keep a finite loss\. Received: NaN or infinity"
        ) as error:
            fit(examples, tmp_path, learning_rate=1e30, optimizer="sgd")
        assert "training.learning_rate" in error.value.hint

    def test_divergence_is_told_again_by_a_second_try(self, examples: Path, tmp_path: Path):
        for _ in range(2):
            with pytest.raises(HeadraceError, match="must keep a finite loss"):
                fit(examples, tmp_path, epochs=1, learning_rate=1e30, optimizer="sgd", backup=True)

    def test_csv_and_tensorboard_hold_every_epoch(self, examples: Path, tmp_path: Path):
        made = fit(examples, tmp_path, tensorboard=True)
        with open(tmp_path / "history.csv", newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        expected = [epoch["logs"]["val_loss"] for epoch in made.epochs]
        assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
        assert [float(row["val_loss"]) for row in rows] == pytest.approx(expected)
        board = EventAccumulator(str(tmp_path / "logs" / "validation"), {"tensors": 0})
        board.Reload()
        found = [tf.make_ndarray(event.tensor_proto).item() for event in board.Tensors("epoch_loss")]
        assert found == pytest.approx(expected, rel=1e-6)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.components.test_training import fit
fit(Path(sys.argv[1]), Path(sys.argv[2]), epochs=100_000, backup=True)
"""


class TestResume:
    def test_a_killed_training_goes_on_from_its_backup(self, examples: Path, tmp_path: Path):
        log = tmp_path / "state" / "epochs.jsonl"
        place = str(Path(__file__).parents[2])
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(examples), str(tmp_path), place], stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 90
            while not log.exists() or len(log.read_text().splitlines()) < 3:
                assert child.poll() is None, "the training ended before it was killed"
                assert time.monotonic() < deadline, "the training made no progress"
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        before = [json.loads(line) for line in log.read_text().splitlines()]
        wanted = len(before) + 2
        made = fit(examples, tmp_path, epochs=wanted, backup=True)
        assert [epoch["epoch"] for epoch in made.epochs] == list(range(1, wanted + 1))
        # The backup may lag one epoch behind; all others are not done again, which their seconds prove.
        assert made.epochs[: len(before) - 1] == before[:-1]
        first_loss = before[0]["logs"]["loss"]
        assert all(epoch["logs"]["loss"] < first_loss for epoch in made.epochs[-3:])

    @pytest.mark.parametrize("cache", [True, False], ids=["memory", "stream"])
    def test_a_fit_in_two_parts_ends_as_one_in_one(self, examples: Path, tmp_path: Path, cache: bool):
        # Dropout, row order, a falling learning rate and early stopping all have to be taken up again.
        settings = {
            "learning_rate": 0.1,
            "reduce_on_plateau": {"patience": 1, "factor": 0.5},
            "early_stopping": {"monitor": "val_loss", "patience": 3},
            "cache": cache,
            "backup": True,
        }
        whole = fit(examples, tmp_path / "whole", epochs=20, **settings)
        assert len({epoch["logs"]["learning_rate"] for epoch in whole.epochs}) > 1
        assert len(whole.epochs) < 20
        fit(examples, tmp_path / "parts", epochs=whole.best_epoch + 1, **settings)
        parts = fit(examples, tmp_path / "parts", epochs=20, **settings)
        assert [epoch["logs"] for epoch in parts.epochs] == [epoch["logs"] for epoch in whole.epochs]
        for ours, theirs in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_a_finished_fit_is_not_done_again(self, examples: Path, tmp_path: Path):
        first = fit(examples, tmp_path, backup=True)
        second = fit(examples, tmp_path, backup=True)
        assert second.epochs == first.epochs
        assert all(
            np.array_equal(a, b)
            for a, b in zip(*(m.model.get_weights() for m in (first, second)), strict=True)
        )

    def test_a_fit_that_stopped_early_stays_stopped(self, examples: Path, tmp_path: Path):
        stopping = BOUNCING | {"early_stopping": {"monitor": "val_loss", "patience": 1}, "backup": True}
        first = fit(examples, tmp_path, **stopping)
        assert len(first.epochs) < 8
        assert fit(examples, tmp_path, **stopping).epochs == first.epochs

    def test_without_backup_a_fit_starts_anew(self, examples: Path, tmp_path: Path):
        first, second = (fit(examples, tmp_path, epochs=2) for _ in range(2))
        assert [epoch["epoch"] for epoch in second.epochs] == [1, 2]
        assert [epoch["logs"] for epoch in second.epochs] == [epoch["logs"] for epoch in first.epochs]


class TestProgress:
    def test_the_first_step_does_not_count_for_the_time_left(self):
        now = [0.0]
        sent: list[dict[str, Any]] = []
        progress = Progress(2, 10, lambda **values: sent.append(values), clock=lambda: now[0])
        progress.on_train_begin()
        for epoch in range(2):
            progress.on_epoch_begin(epoch)
            for step in range(10):
                # Graphs are built in the first step.
                now[0] += 30.0 if (epoch, step) == (0, 0) else 1.0
                progress.on_train_batch_end(step, {"loss": 0.5})
            progress.on_epoch_end(epoch, {"loss": 0.5})
        assert sent[0]["eta_s"] is None
        assert [event["eta_s"] for event in sent[1:11]] == [*range(18, 9, -1), 10.0]
        assert sent[-1]["eta_s"] == 0
        assert [sent[-1][name] for name in ("done", "total", "step", "steps")] == [2, 2, 10, 10]

    def test_events_come_at_most_twice_a_second(self):
        now = [0.0]
        sent: list[dict[str, Any]] = []
        progress = Progress(1, None, lambda **values: sent.append(values), clock=lambda: now[0])
        progress.on_train_begin()
        progress.on_epoch_begin(0)
        for step in range(100):
            now[0] += 0.01
            progress.on_train_batch_end(step, {"loss": float("nan")})
        assert len(sent) == 2
        assert sent[0]["logs"] == {"loss": None}
        assert sent[0]["eta_s"] is None


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "task", "expected"),
        [
            ("auto", "binary", ("val_auc", "max")),
            ("auto", "multiclass", ("val_accuracy", "max")),
            ("auto", "regression", ("val_loss", "min")),
            ("val_mae", "regression", ("val_mae", "min")),
            ("loss", "binary", ("loss", "min")),
        ],
    )
    def test_monitors(self, name: str, task: Any, expected: tuple[str, str]):
        assert resolve_monitor(name, task) == expected

    def test_a_monitor_of_another_task_is_refused(self):
        with pytest.raises(ConfigError, match=r"early_stopping\.monitor.*val_rmse.*Received: val_auc"):
            resolve_monitor("val_auc", "regression")

    def test_values_reach_parts_that_were_switched_off(self):
        sections = {"training": {"early_stopping": None, "epochs": 3}}
        found = apply_values(sections, {"training.early_stopping.patience": 4})
        assert found == {"training": {"early_stopping": {"patience": 4}, "epochs": 3}}
        assert sections["training"]["early_stopping"] is None


@pytest.fixture(scope="module")
def source() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def made(source: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    """Run the node with values from a search; return its folder, result and events."""
    root = tmp_path_factory.mktemp("trainer")
    values = {"model.hidden": [6], "training.learning_rate": 0.02}
    (root / "best.json").write_text(json.dumps({"values": values, "score": 0.7, "objective": "val_auc"}))
    training = {"epochs": 2, "batch_size": 256, "early_stopping": {"monitor": "val_loss"}}
    config = {"data": source.data, "model": {"family": "mlp"}, "training": training, "seed": 3}
    inputs = source.inputs() | {"best_hyperparameters": [str(root)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_EVENTS", str(root / "events"))
        result = trainer.run(context("trainer", root, inputs, ["model", "model_run"], config))
    return root, result, [json.loads(line) for line in (root / "events").read_text().splitlines()]


class TestNode:
    def test_history_holds_what_the_contract_says(self, made: Any):
        history = json.loads((made[0] / "model_run/history.json").read_text())
        assert history.keys() == {
            *("epochs", "best_epoch", "monitor", "steps_per_epoch", "device", "strategy", "precision"),
            "hint",
        }
        assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
        assert all(epoch.keys() == {"epoch", "seconds", "logs"} for epoch in history["epochs"])
        names = {"loss", "auc", "accuracy"}
        assert history["epochs"][0]["logs"].keys() == names | {f"val_{name}" for name in names} | {
            "learning_rate"
        }
        assert history["epochs"][0]["logs"]["learning_rate"] == pytest.approx(0.02)
        rows = sum(
            1
            for _ in tf.data.TFRecordDataset(
                split_files(str(trained().root / "transformed_examples"), "train"), "GZIP"
            )
        )
        assert history["steps_per_epoch"] == math.ceil(rows / 256)
        assert (history["monitor"], history["strategy"]) == ("val_loss", "none")
        assert history["best_epoch"] in (1, 2)

    def test_model_json_says_what_was_trained(self, made: Any, source: Trained):
        root, result, _ = made
        summary = json.loads((root / "model/model.json").read_text())
        spec = json.loads((root / "model/keras/model.json").read_text())
        assert summary["hyperparameters"] == {"model.hidden": [6], "training.learning_rate": 0.02}
        assert spec["model"]["hidden"] == [6]
        assert spec["training"]["learning_rate"] == 0.02
        assert spec["features"] == source.features()
        rebuilt = build_model(
            spec["features"], parse_model_config(spec["model"]), output_of(spec["features"])
        )
        assert summary["parameters"] == sum(weight.size for weight in rebuilt.get_weights())
        assert summary["parameter_bytes"] == 4 * summary["parameters"]
        assert result.properties["model"]["sha256"] == summary["sha256"]
        assert f"{summary['parameters']:,} parameters" in result.finding
        assert "of 2" in result.finding

    def test_the_stored_weights_answer_as_the_export(self, made: Any, source: Trained):
        folder = made[0] / "model"
        spec = json.loads((folder / "keras/model.json").read_text())
        rebuilt = build_model(
            spec["features"], parse_model_config(spec["model"]), output_of(spec["features"])
        )
        rebuilt.load_weights(str(folder / "keras/model.weights.h5"))
        raw = trained_raw(source)
        transformed = FittedTransform(str(source.root / "transform_graph")).from_raw(raw)
        expected = 1 / (
            1 + np.exp(-np.asarray(rebuilt(transformed, training=False)).astype(np.float64)[:, 0])
        )
        loaded = tf.saved_model.load(str(folder / "Format-Serving"))
        found = loaded.signatures["serving_raw"](**{name: tf.constant(v) for name, v in raw.items()})
        np.testing.assert_allclose(found["scores"][:, 1], expected, atol=1e-5)

    def test_run_artifact_holds_csv_and_tensorboard(self, made: Any):
        run = made[0] / "model_run"
        assert len((run / "history.csv").read_text().splitlines()) == 3
        assert {path.name for path in (run / "logs").iterdir()} == {"train", "validation"}

    def test_events_tell_loss_and_progress(self, made: Any):
        epochs = [event for event in made[2] if event["kind"] == "epoch"]
        assert epochs[-1]["done"] == epochs[-1]["total"] == 2
        assert epochs[-1]["eta_s"] == 0
        assert "loss" in epochs[-1]["logs"]
        assert "epoch 2/2" in epochs[-1]["text"]
        exporting, shared = [event["text"] for event in made[2] if event["kind"] == "phase"]
        assert exporting == "exporting"
        assert shared.startswith("requests to a server share no run: operator ")  # lists of any length
        assert not (made[0] / "model/Format-Serving" / ROW_MARK).exists()


def trained_raw(source: Trained) -> dict[str, Any]:
    """Return the golden rows as columns of `serving_raw`."""
    rows = source.golden_rows()
    columns: dict[str, Any] = {}
    for column in source.features()["raw"]:
        values = [row[column["name"]] for row in rows]
        if column["type"] == "string":
            columns[column["name"]] = np.array([value or "" for value in values])
        else:
            columns[column["name"]] = np.array([math.nan if v is None else v for v in values], "f")
    return columns
