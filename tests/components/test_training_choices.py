"""Losses, optimizers, schedules, targets and metrics, against formulas in numpy."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.special import expit, log_softmax

from headrace.components.models.config import MlpConfig
from headrace.components.models.output import Output, TargetScale
from headrace.components.models.registry import build_model
from headrace.components.training.averaging import AveragedWeights
from headrace.components.training.config import Schedule, Target, TrainingConfig
from headrace.components.training.fit import compile_model, fit_model
from headrace.components.training.input import Batches
from headrace.components.training.losses import make_loss
from headrace.components.training.optimizers import PlannedSchedule
from headrace.components.training.settings import check_training
from headrace.components.training.target import fit_target, unscaled
from headrace.data.errors import ConfigError, HeadraceError
from tests.components.tabular import draw_columns, draw_labels, features_of, output
from tests.components.test_training import eval_rows, fit, write_examples

pytestmark = pytest.mark.long

RANDOM = np.random.default_rng(4)
LOGITS = RANDOM.normal(0, 2, (12, 3)).astype("f")
CLASSES = RANDOM.integers(0, 3, (12, 1))
BITS = RANDOM.integers(0, 2, (12, 3)).astype("f")
NUMBERS = RANDOM.normal(3, 2, (12, 1)).astype("f")
ONE_HOT = np.eye(3)[CLASSES[:, 0]]


def training(**values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(values)


def loss_of(task: Any, labels: np.ndarray, outputs: np.ndarray, weights: Any = None, **loss: Any) -> float:
    classes = () if task == "regression" else ("a", "b", "c") if task != "binary" else ("a", "b")
    scale = TargetScale(False, 3.0, 2.0) if task == "regression" else TargetScale()
    made = make_loss(training(loss=loss), Output(task, classes, scale))
    return float(made(tf.constant(labels), tf.constant(outputs), weights))


def my_loss(labels: Any, outputs: Any, power: float = 2.0) -> Any:
    """Return a loss of the tests' own."""
    return tf.abs(labels - outputs)[:, 0] ** power


class TestLosses:
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    @pytest.mark.parametrize("alpha", [None, 0.25])
    def test_focal_of_two_classes(self, gamma: float, alpha: float | None):
        labels, logits = BITS[:, :1], LOGITS[:, :1]
        right = np.where(labels == 1, expit(logits), 1 - expit(logits))
        weight = 1.0 if alpha is None else np.where(labels == 1, alpha, 1 - alpha)
        expected = (-weight * (1 - right) ** gamma * np.log(right)).mean()
        found = loss_of("binary", labels, logits, kind="focal", gamma=gamma, alpha=alpha)
        assert found == pytest.approx(expected, rel=1e-5)

    def test_focal_of_many_classes(self):
        logs = (log_softmax(LOGITS, axis=1) * ONE_HOT).sum(1)
        expected = (-((1 - np.exp(logs)) ** 1.5) * logs).mean()
        assert loss_of("multiclass", CLASSES, LOGITS, kind="focal", gamma=1.5) == pytest.approx(
            expected, rel=1e-4
        )

    def test_smoothed_cross_entropies(self):
        smooth = ONE_HOT * 0.9 + 0.1 / 3
        expected = -(smooth * log_softmax(LOGITS, axis=1)).sum(1).mean()
        assert loss_of("multiclass", CLASSES, LOGITS, label_smoothing=0.1) == pytest.approx(
            expected, rel=1e-5
        )
        bits = BITS * 0.9 + 0.05
        expected = -(bits * np.log(expit(LOGITS)) + (1 - bits) * np.log(expit(-LOGITS))).mean()
        assert loss_of("multilabel", BITS, LOGITS, label_smoothing=0.1) == pytest.approx(expected, rel=1e-5)

    def test_shares_of_classes_are_mixed_losses(self):
        one, two = np.eye(3)[[0]], np.eye(3)[[2]]
        parts = [loss_of("multiclass", share.astype("f"), LOGITS[:1]) for share in (one, two)]
        mixed = loss_of("multiclass", (0.3 * one + 0.7 * two).astype("f"), LOGITS[:1])
        assert mixed == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], rel=1e-5)

    def test_hinges(self):
        signs = 2 * BITS - 1
        expected = np.maximum(0, 1 - signs * LOGITS).mean()
        assert loss_of("multilabel", BITS, LOGITS, kind="hinge") == pytest.approx(expected, rel=1e-5)
        right = (LOGITS * ONE_HOT).sum(1)
        other = np.where(ONE_HOT == 1, -np.inf, LOGITS).max(1)
        expected = np.maximum(0, 1 + other - right).mean()
        assert loss_of("multiclass", CLASSES, LOGITS, kind="hinge") == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            ({"kind": "auto"}, lambda e: e**2),
            ({"kind": "mae"}, np.abs),
            (
                {"kind": "huber", "delta": 0.5},
                lambda e: np.where(abs(e) < 0.5, e * e / 2, abs(e) / 2 - 0.125),
            ),
            ({"kind": "quantile", "quantile": 0.9}, lambda e: np.where(e > 0, 0.9 * e, -0.1 * e)),
        ],
    )
    def test_losses_of_numbers_are_on_the_scaled_target(self, loss: Any, expected: Callable[[Any], Any]):
        errors = (NUMBERS - 3) / 2 - LOGITS[:, :1]
        found = loss_of("regression", NUMBERS, LOGITS[:, :1], **loss)
        assert found == pytest.approx(expected(errors).mean(), rel=1e-5)

    def test_msle_is_in_the_labels_units(self):
        labels, outputs = np.abs(NUMBERS), np.abs(LOGITS[:, :1])
        expected = ((np.log1p(labels) - np.log1p(outputs * 2 + 3)) ** 2).mean()
        assert loss_of("regression", labels, outputs, kind="msle") == pytest.approx(expected, rel=1e-5)

    def test_a_quantile_loss_finds_the_quantile(self):
        grid = np.linspace(-2, 8, 2001)
        labels = RANDOM.normal(3, 2, (400, 1)).astype("f")
        losses = [
            loss_of("regression", labels, np.full_like(labels, (y - 3) / 2), kind="quantile", quantile=0.8)
            for y in grid[::40]
        ]
        assert grid[::40][int(np.argmin(losses))] == pytest.approx(np.quantile(labels, 0.8), abs=0.25)

    def test_a_loss_of_your_own(self):
        found = loss_of(
            "regression",
            NUMBERS,
            LOGITS[:, :1],
            kind="custom",
            use="tests.components.test_training_choices:my_loss",
            options={"power": 3.0},
        )
        assert found == pytest.approx((np.abs((NUMBERS - 3) / 2 - LOGITS[:, :1]) ** 3).mean(), rel=1e-5)

    def test_labels_are_weighed_one_by_one(self):
        weights = RANDOM.uniform(0, 2, (12, 3)).astype("f")
        each = -(BITS * np.log(expit(LOGITS)) + (1 - BITS) * np.log(expit(-LOGITS)))
        assert loss_of("multilabel", BITS, LOGITS, weights) == pytest.approx(
            (each * weights).mean(), rel=1e-5
        )


class TestRules:
    @pytest.mark.parametrize(
        ("task", "values", "message"),
        [
            ("binary", {"loss": {"kind": "mae"}}, r"loss\.kind.*cross_entropy, focal.*Received: mae"),
            ("regression", {"loss": {"kind": "hinge"}}, r"mse, mae, huber.*Received: hinge"),
            ("multiclass", {"loss": {"kind": "focal", "alpha": 0.3}}, r"alpha.*Received: a multiclass"),
            ("regression", {"loss": {"label_smoothing": 0.1}}, r"label_smoothing.*Received: a regression"),
            ("binary", {"target": {"log": True}}, r"target\.log.*Received: a binary task"),
            ("multilabel", {"sampling": "over"}, r"sampling.*multilabel tasks\. Received: over"),
            ("regression", {"class_weights": "balanced"}, r"class_weights.*none for regression"),
            ("binary", {"loss": {"kind": "hinge"}, "augment": {"mixup": 0.2}}, r"mixup.*Received: hinge"),
            ("binary", {"early_stopping": {"monitor": "val_rmse"}}, r"monitor.*Received: val_rmse"),
            ("binary", {"augment": {"image": {"rotate": 5}}}, r"augment\.image.*kind image.*numeric"),
        ],
    )
    def test_what_does_not_suit_the_task_is_refused(self, task: Any, values: Any, message: str):
        with pytest.raises(ConfigError, match=message):
            check_training(training(**values), task, {"numeric", "categorical"})

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"loss": {"gamma": 2}}, r"`gamma` goes with `kind: focal`\. Received: kind auto"),
            ({"loss": {"kind": "quantile"}}, r"`kind: quantile` needs `quantile`"),
            ({"loss": {"kind": "custom"}}, r"`kind: custom` needs `use`"),
            ({"schedule": {"kind": "cosine", "factor": 0.5}}, r"`factor` goes with `kind: step or exp"),
            ({"schedule": {}, "reduce_on_plateau": {}}, r"at most one of `schedule` and `reduce_on_plateau`"),
            ({"clip_norm": 1, "clip_value": 1}, r"at most one of.*Received: clip_norm, clip_value"),
            ({"sampling": "over", "class_weights": "balanced"}, r"`sampling: over` balances classes already"),
            ({"tensorboard": False, "tensorboard_histograms": True}, r"needs `tensorboard: true`"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, values: Any, message: str):
        with pytest.raises(ValidationError, match=message):
            training(**values)

    def test_a_schedule_replaces_the_plateau_that_nobody_asked_for(self):
        found = training(schedule={"kind": "cosine"})
        assert found.reduce_on_plateau is None
        assert TrainingConfig.model_validate(found.model_dump(mode="json")) == found

    def test_a_loss_that_cannot_be_imported_is_named(self):
        with pytest.raises(ConfigError, match=r"training\.loss\.use.*Received: 'no\.such:thing'"):
            loss_of("binary", BITS, LOGITS, kind="custom", use="no.such:thing")


class TestTarget:
    @pytest.mark.parametrize("log", [False, True])
    def test_it_is_fitted_in_parts(self, log: bool):
        labels = RANDOM.gamma(2, 30, 1000)
        found = fit_target(Target(log=log), np.array_split(labels, 7))
        values = np.log1p(labels) if log else labels
        assert (found.subtract, found.divide) == pytest.approx((values.mean(), values.std()), rel=1e-9)

    def test_answers_on_a_logarithm_stay_finite(self):
        scale = fit_target(Target(log=True), np.array_split(np.array([3.0, 7.0, 99.0]), 2))
        found = unscaled(tf.constant([0.0, 50.0, 1e30]), scale).numpy()
        assert found[0] == pytest.approx(np.expm1(np.log1p([3, 7, 99]).mean()), rel=1e-5)
        assert found[1] == found[2] == pytest.approx(np.e * 100 - 1, rel=1e-5)

    def test_a_constant_label_keeps_its_size(self):
        assert fit_target(Target(), [np.full(9, 4.0)]) == TargetScale(False, 4.0, 1.0)

    def test_none_is_the_label_itself(self):
        assert fit_target(Target(scale="none"), [NUMBERS]) == TargetScale()

    def test_labels_without_a_logarithm_are_refused(self):
        with pytest.raises(HeadraceError, match=r"needs labels > -1\. Received: -2"):
            fit_target(Target(log=True), [np.array([1.0, -2.0])])

    def test_it_may_be_left_as_it_is(self, tmp_path: Path):
        examples = write_examples(tmp_path / "examples", "regression")
        made = fit(examples, tmp_path, "regression", epochs=1, target={"log": False, "scale": "none"})
        columns, labels = (
            draw_columns(200, seed=2),
            draw_labels(draw_columns(200, seed=2), "regression", seed=2),
        )
        answers = np.asarray(made.model(columns))[:, 0]
        assert made.output.target == TargetScale()
        assert made.epochs[0]["logs"]["val_mae"] == pytest.approx(np.abs(answers - labels).mean(), rel=1e-4)


def rates(schedule: dict[str, Any], steps: int, epochs: int) -> list[float]:
    planned = PlannedSchedule(0.8, Schedule.model_validate(schedule))
    planned.plan(steps, epochs)
    return np.asarray(planned(tf.range(steps * epochs, dtype=tf.int64))).tolist()


class TestSchedules:
    @pytest.mark.parametrize(
        ("schedule", "share"),
        [
            ({"kind": "constant"}, lambda t: 1.0),
            ({"kind": "step", "every_epochs": 2, "factor": 0.1}, lambda t: 0.1 ** (t // 2)),
            ({"kind": "step"}, lambda t: 0.5 ** math.floor(t)),
            ({"kind": "exponential", "every_epochs": 1.5, "factor": 0.3}, lambda t: 0.3 ** (t / 1.5)),
            ({"kind": "cosine"}, lambda t: (1 + math.cos(math.pi * t / 6)) / 2),
            (
                {"kind": "cosine", "cycles": 3, "floor": 0.1},
                lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * (t % 2) / 2)) / 2,
            ),
        ],
    )
    def test_they_follow_their_formula(self, schedule: Any, share: Callable[[float], float]):
        steps, epochs = 5, 6
        expected = [0.8 * share(step / steps) for step in range(steps * epochs)]
        assert rates(schedule, steps, epochs) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("steps", [3, 7, 1000])
    def test_a_step_comes_at_the_first_batch_of_an_epoch(self, steps: int):
        found = rates({"kind": "step", "factor": 0.5}, steps, 4)
        assert found == pytest.approx([0.8 * 0.5 ** (step // steps) for step in range(4 * steps)])

    def test_a_warm_up_rises_in_even_steps_to_the_full_rate(self):
        found = rates({"kind": "cosine", "warmup_epochs": 2}, 5, 6)
        assert found[:10] == pytest.approx([0.08 * (step + 1) for step in range(10)], rel=1e-5)
        assert found[10] == pytest.approx(0.8)
        assert found[20] == pytest.approx(0.4, rel=1e-4)  # half way down from epoch 2 to epoch 6

    def test_a_fit_follows_it_and_logs_it(self, tmp_path: Path):
        examples = write_examples(tmp_path / "examples")
        for cache in (True, False):
            made = fit(
                examples,
                tmp_path / str(cache),
                epochs=3,
                cache=cache,
                learning_rate=0.1,
                schedule={"kind": "step", "factor": 0.5},
            )
            found = [entry["logs"]["learning_rate"] for entry in made.epochs]
            assert found == pytest.approx([0.1, 0.05, 0.025])


def model_and_rows(**values: Any) -> tuple[Any, Any, Any]:
    model = build_model(features_of(), MlpConfig(hidden=(8,), dropout=0.0), output(), seed=1)
    compile_model(model, training(**values), output())
    columns = draw_columns(64, seed=3)
    return model, columns, draw_labels(columns, "binary", 3)[:, None].astype("f")


def distance(first: list[Any], second: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


class TestOptimizers:
    @pytest.mark.parametrize(
        "values",
        [
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
            {"optimizer": "rmsprop", "momentum": 0.5},
            {"optimizer": "adagrad", "clip_value": 0.05},
            {"optimizer": "adam", "accumulate_steps": 2, "ema_momentum": 0.9},
            {"optimizer": "adamw", "weight_decay": 0.01, "clip_each_norm": 0.1},
            {"optimizer": "lion", "learning_rate": 0.003},
        ],
    )
    def test_each_lowers_the_loss(self, values: dict[str, Any]):
        model, columns, labels = model_and_rows(**{"learning_rate": 0.03} | values)
        losses = [
            model.train_on_batch(columns, labels, return_dict=True)["loss"]
            if not model.reset_metrics()
            else None
            for _ in range(12)
        ]
        assert losses[-1] < losses[0] - 0.01

    def test_two_accumulated_halves_are_one_step(self):
        whole, columns, labels = model_and_rows(optimizer="sgd", learning_rate=0.5)
        parts, *_ = model_and_rows(optimizer="sgd", learning_rate=0.5, accumulate_steps=2)
        start = parts.get_weights()
        whole.train_on_batch(columns, labels)
        for place in (slice(0, 32), slice(32, 64)):
            assert distance(parts.get_weights(), start) == 0
            parts.train_on_batch({name: value[place] for name, value in columns.items()}, labels[place])
        assert distance(whole.get_weights(), start) > 1e-3
        assert distance(parts.get_weights(), whole.get_weights()) < 1e-6

    @pytest.mark.parametrize("clip", ["clip_each_norm", "clip_value"])
    def test_clips_bound_a_step(self, clip: str):
        model, columns, labels = model_and_rows(optimizer="sgd", learning_rate=1.0, **{clip: 0.01})
        start = model.get_weights()
        model.train_on_batch(columns, labels)
        steps = [b - a for a, b in zip(start, model.get_weights(), strict=True)]
        # Rows of an embedding that a batch names several times are clipped before they are added up.
        pairs = zip(steps, model.weights, strict=True)
        dense = [np.ravel(step) for step, weight in pairs if "dense" in weight.path]
        sizes = [float(np.linalg.norm(step, 2 if clip == "clip_each_norm" else np.inf)) for step in dense]
        assert max(sizes) == pytest.approx(0.01, rel=1e-4)

    def test_averaged_weights_follow_the_formula_and_are_those_judged(self):
        model, columns, labels = model_and_rows(optimizer="sgd", learning_rate=0.5, ema_momentum=0.8)
        seen: list[list[Any]] = []
        judged: list[list[Any]] = []

        class Look(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                seen.append([weight.numpy() for weight in self.model.trainable_weights])

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                judged.append([weight.numpy() for weight in self.model.trainable_weights])

        dataset = tf.data.Dataset.from_tensor_slices((columns, labels)).batch(16)
        rows = Batches(dataset, 4, 64)
        fit_model(model, rows, rows, 2, [Look(), AveragedWeights()])
        average = seen[0]
        for step, weights in enumerate(seen):
            if step:
                average = [0.8 * a + 0.2 * w for a, w in zip(average, weights, strict=True)]
            if step == 3:
                assert distance(judged[0], average) < 1e-6
        assert distance(judged[1], average) < 1e-6
        assert distance(judged[0], seen[3]) > 1e-3
        # The second epoch went on from the weights themselves, not from their average.
        assert distance(seen[4], seen[3]) < distance(seen[4], judged[0])

    def test_averaged_weights_are_kept_and_resumed(self, tmp_path: Path):
        examples = write_examples(tmp_path / "examples")
        values: dict[str, Any] = {"ema_momentum": 0.9, "learning_rate": 0.05, "backup": True}
        whole = fit(examples, tmp_path / "whole", epochs=3, **values)
        columns, labels = eval_rows()
        scores = expit(np.asarray(whole.model(columns)).astype(np.float64)[:, 0])
        best = whole.epochs[whole.best_epoch - 1]["logs"]
        expected = -np.log(np.where(labels == 1, scores, 1 - scores)).mean()
        assert best["val_loss"] == pytest.approx(expected, rel=1e-4)
        plain = fit(examples, tmp_path / "plain", epochs=3, **values | {"ema_momentum": None})
        assert [e["logs"]["loss"] for e in plain.epochs] == pytest.approx(
            [e["logs"]["loss"] for e in whole.epochs], rel=1e-5
        )
        assert plain.epochs[0]["logs"]["val_loss"] != pytest.approx(whole.epochs[0]["logs"]["val_loss"])
        # One epoch, then two more from the backup: it holds the weights themselves, not their average.
        fit(examples, tmp_path / "parts", epochs=1, **values)
        resumed = fit(examples, tmp_path / "parts", epochs=2, **values)
        assert resumed.epochs[1]["logs"]["loss"] < resumed.epochs[0]["logs"]["loss"]
        assert resumed.epochs[1]["logs"]["loss"] == pytest.approx(whole.epochs[1]["logs"]["loss"], rel=0.1)

    def test_xla_gives_the_same_losses(self):
        def losses(xla: bool) -> list[float]:
            model, columns, labels = model_and_rows(xla=xla, learning_rate=0.05)
            assert model.jit_compile == xla
            return [float(model.train_on_batch(columns, labels)[0]) for _ in range(3)]

        assert losses(True) == pytest.approx(losses(False), rel=1e-4)
