"""What training tells of itself, callbacks, phases and parts, and that a seed decides everything."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headrace.components.models.config import EnsembleConfig, MlpConfig, ModelConfig
from headrace.components.models.registry import Phase, build_model
from headrace.components.training import train as trainer
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.curves import curve_hint
from headrace.components.training.diagnosis import first_not_finite
from headrace.components.training.fit import compile_model
from headrace.components.training.input import Rows
from headrace.components.training.lr_finder import suggest
from headrace.components.training.monitoring import (
    dead_shares,
    gradient_norms,
    layer_outputs,
    probe_rows,
    weight_spread,
)
from headrace.data.errors import ConfigError, HeadraceError
from tests.components.tabular import draw_columns, draw_labels, features_of, output, write_examples

pytestmark = pytest.mark.long

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.01,
    "early_stopping": None,
    "tensorboard": False,
    "backup": False,
}


def folders_of(root: Path) -> RunFolders:
    root.mkdir(parents=True, exist_ok=True)
    return RunFolders(root / "state", root / "logs", root / "history.csv")


def rows_of(seed: int, rows: int = 256, task: str = "binary") -> Rows:
    columns = draw_columns(rows, seed)
    labels = draw_labels(columns, task, seed).reshape(rows, -1)
    return Rows(columns, labels if task == "multiclass" else labels.astype("f"), None)


def fit(
    root: Path,
    model: ModelConfig | None = None,
    train: Rows | None = None,
    task: str = "binary",
    **values: Any,
) -> trainer.Trained:
    return trainer.train_on(
        train or rows_of(1, task=task),
        rows_of(2, 128, task),
        features_of(task),
        model or MlpConfig(hidden=(8,)),
        TrainingConfig.model_validate(QUICK | values),
        folders_of(root),
        5,
    )


class TestDeterminism:
    @pytest.mark.parametrize("sampling", ["over", "smote"])
    def test_two_runs_with_one_seed_are_equal(self, sampling: str, tmp_path: Path):
        settings: dict[str, Any] = {
            "sampling": sampling,
            "augment": {"tabular": {"noise": 0.2}, "mixup": 0.3},
            "ema_momentum": 0.9,
            "schedule": {"kind": "cosine", "warmup_epochs": 0.5},
            "monitoring": False,
        }
        first, second = (fit(tmp_path / name, task="multiclass", **settings) for name in "ab")
        for one, other in zip(first.epochs, second.epochs, strict=True):
            assert one["logs"] == pytest.approx(other["logs"], abs=1e-6)
        for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        plain = fit(tmp_path / "plain", task="multiclass", **settings | {"augment": None})
        assert plain.epochs[0]["logs"]["loss"] != pytest.approx(first.epochs[0]["logs"]["loss"], abs=1e-3)

    def test_streamed_augmented_runs_are_equal(self, tmp_path: Path):
        examples = str(write_examples(tmp_path / "examples"))
        training = TrainingConfig.model_validate(
            QUICK | {"cache": False, "sampling": "over", "augment": {"mixup": 0.3}, "monitoring": False}
        )
        first, second = (
            trainer.train(
                examples, features_of(), MlpConfig(hidden=(8,)), training, folders_of(tmp_path / name), 5
            )
            for name in "ab"
        )
        for one, other in zip(first.epochs, second.epochs, strict=True):
            assert one["logs"] == pytest.approx(other["logs"], abs=1e-6)


def compiled() -> tuple[Any, Any]:
    model = build_model(features_of(), MlpConfig(hidden=(8,), dropout=0.0), output(), seed=1)
    compile_model(model, TrainingConfig(), output())
    rows = rows_of(3, 32)
    return model, (dict(rows.tensors[0]), rows.tensors[1])


class TestMonitoring:
    def test_gradient_norms_are_those_of_differences(self):
        model, batch = compiled()
        norms = gradient_norms(model, batch)
        layer = next(
            layer
            for layer in model.layers
            if (layer.name in norms and "out" in layer.path) or layer is model.layers[-1]
        )
        steps = []
        for weight in layer.trainable_weights:
            value = weight.numpy()
            for place in np.ndindex(*value.shape):
                losses = []
                for sign in (1, -1):
                    moved = value.astype(np.float64)
                    moved[place] += sign * 1e-2
                    weight.assign(moved)
                    losses.append(float(model.compute_loss(y=batch[1], y_pred=model(batch[0]))))
                weight.assign(value)
                steps.append((losses[0] - losses[1]) / 2e-2)
        assert norms[layer.name] == pytest.approx(math.sqrt(sum(step**2 for step in steps)), rel=1e-2)

    def test_spread_is_what_numpy_says(self):
        model, _ = compiled()
        for entry in weight_spread(model):
            values = np.concatenate([w.numpy().ravel() for w in model.get_layer(entry["name"]).weights])
            assert entry["weights"] == values.size == sum(entry["histogram"])
            assert entry["mean"] == pytest.approx(values.mean(dtype=float), abs=1e-7)
            assert entry["std"] == pytest.approx(values.std(dtype=float))
            assert (entry["min"], entry["max"]) == (values.min(), values.max())
            assert entry["histogram"] == np.histogram(values, 16)[0].tolist() or values.std() == 0

    def test_dead_units_are_counted(self):
        inputs = {"x": keras.Input((3,), name="x")}
        hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inputs["x"])
        model = keras.Model(inputs, keras.layers.Dense(1, name="last")(hidden))
        kernel = np.ones((3, 4), "f") * [1, 1, -1, 0]
        model.get_layer("hidden").set_weights([kernel, np.array([0, 0, 0, -1], "f")])
        assert dead_shares(model, {"x": tf.ones([5, 3])}) == {"hidden": 0.5}

    def test_every_epoch_is_kept(self, tmp_path: Path):
        made = fit(tmp_path)
        entries = made.best.monitoring
        assert [entry["epoch"] for entry in entries] == [1, 2]
        assert all(entry["gradient_norm"] > 0 for entry in entries)
        assert entries[0]["layers"] != entries[1]["layers"]
        for entry in entries:
            squares = [layer["gradient_norm"] ** 2 for layer in entry["layers"] if layer["gradient_norm"]]
            assert math.sqrt(sum(squares)) == pytest.approx(entry["gradient_norm"])
        assert json.dumps(entries)

    def test_large_rows_are_looked_at_in_small_numbers(self):
        photo = {"name": "x", "role": "image", "width": 3 * 512**2, "shape": [512, 512, 3]}
        assert probe_rows({"features": [photo]}) == 1
        assert probe_rows(features_of()) == 256


class TestDiagnosis:
    def test_a_feature_that_is_not_finite_is_named(self, tmp_path: Path):
        rows = rows_of(1)
        rows.columns["amount"][70, 1] = np.inf
        with pytest.raises(HeadraceError, match=r"feature `amount` holds NaN or infinity, in batch [1-4]"):
            fit(tmp_path, train=rows)

    def test_a_step_too_large_is_found_again(self, tmp_path: Path):
        with pytest.raises(HeadraceError, match=r"was the first, in step \d+ from the last good weights"):
            fit(tmp_path, optimizer="sgd", learning_rate=1e20)

    def test_the_first_layer_that_is_not_finite_is_found(self):
        model, batch = compiled()
        assert first_not_finite(model, batch[0]) == ""
        names = [layer.name for layer in model.layers if layer.weights]
        last = model.get_layer(names[-1])
        last.set_weights([weight * np.nan for weight in last.get_weights()])
        assert first_not_finite(model, batch[0]) == names[-1]
        assert np.isnan(layer_outputs(model, [names[-1]])(batch[0])[names[-1]]).all()


def curve(train: list[float], judged: list[float]) -> list[dict[str, Any]]:
    return [
        {"epoch": place + 1, "logs": {"loss": one, "val_loss": other}}
        for place, (one, other) in enumerate(zip(train, judged, strict=True))
    ]


@pytest.mark.parametrize(
    ("train", "judged", "limit", "expected"),
    [
        (
            [0.7, 0.5, 0.3, 0.2],
            [0.7, 0.6, 0.7, 0.8],
            4,
            "Overfitting after epoch 2: the loss on eval rose by 33%",
        ),
        (
            [0.69, 0.69, 0.69],
            [0.69, 0.69, 0.691],
            3,
            "hardly moved, by 0.0% on train and 0.1% on eval: underfit",
        ),
        (
            [0.5, 0.6, 0.7],
            [0.5, 0.6, 0.75],
            3,
            "rose from the first epoch to the last, by 40% on train and 50% on",
        ),
        ([0.7, 0.6, 0.5], [0.7, 0.6, 0.5], 3, "Still improving at the last epoch, 3"),
        ([0.7, 0.3, 0.2], [0.7, 0.5, 0.5], 9, "At its best the loss on train is 40% below"),
        ([0.7, 0.5, 0.49], [0.7, 0.5, 0.5], 9, "no sign of over- or underfitting"),
        ([0.8, 0.37], [0.8, 0.5], 9, "At its best the loss on train is 26% below"),
        ([0.7, 0.5], [0.7, 0.6], 2, "Still improving at the last epoch, 2"),
        ([0.7], [0.7], 9, "Too few epochs"),
        ([0.7, float("nan")], [0.7, 0.6], 9, "Too few epochs"),
    ],
)
def test_curves_say(train: list[float], judged: list[float], limit: int, expected: str):
    assert expected in curve_hint(curve(train, judged), ("val_loss", "min"), limit)


@pytest.mark.parametrize(
    ("train", "judged", "limit"),
    [
        ([0.7, 0.6, 0.5], [0.7, 0.6, 0.5], 9),  # stopped while both fell
        ([0.5, 0.6, 0.7], [0.7, 0.6, 0.69], 9),  # train rose, eval fell
        ([0.7, 0.69, 0.6], [0.7, 0.75, 0.71], 9),  # eval is above where it began
        ([0.7, 0.7, 0.7], [0.7, 0.6, 0.6], 9),  # train stood still, eval fell
        ([0.7, 0.38], [0.7, 0.5], 9),  # train is 24 % below eval
        ([0.7, 0.5, 0.52], [0.7, 0.5, 0.6], 9),  # eval rose at the end, and so did train
    ],
)
def test_curves_of_no_known_kind_say_nothing(train: list[float], judged: list[float], limit: int):
    assert curve_hint(curve(train, judged), ("val_loss", "min"), limit) == ""


def test_curves_without_eval_say_nothing():
    assert curve_hint([{"epoch": 1, "logs": {"loss": 0.5}}], ("loss", "min"), 3) == ""


def test_no_sentence_on_curves_claims_what_they_do_not_show():
    """Every claim is checked against random curves with numpy."""
    rng = np.random.default_rng(5)
    said = set()
    for _ in range(3000):
        steps = int(rng.integers(2, 8))
        train, judged = (rng.uniform(0.2, 0.9) * np.exp(np.cumsum(rng.normal(m, 0.1, steps)))
                         for m in rng.choice([-0.2, -0.01, 0.0, 0.05], 2))  # fmt: skip
        found = curve_hint(
            curve(train.tolist(), judged.tolist()), ("val_loss", "min"), int(rng.integers(2, 9))
        )
        said.add(found.split(" ")[0])
        best = int(np.argmin(judged))
        if "Overfitting" in found:
            assert train[-1] < train[best]
            assert judged[-1] > judged[best]
        if "rose from the first" in found:
            assert train[-1] > train[0]
            assert judged[-1] > judged[0]
        if "hardly moved" in found:
            assert max(np.ptp(train) / train.min(), np.ptp(judged) / judged.min()) < 0.02
        if "levelled off" in found:
            assert train[-1] < train[0]
            assert judged[-1] < judged[0]
            assert abs(judged[-1] / judged[-2] - 1) < 0.021
        if "Still improving" in found:
            assert judged[-1] == judged.min()
        if "At its best" in found:
            assert train[best] < 0.75 * judged[best]
    assert said >= {"", "Overfitting", "The", "Still", "At"}


class TestLearningRateFinder:
    def test_the_steepest_fall_before_the_lowest_is_suggested(self):
        rates = np.geomspace(1e-5, 1, 61)
        # A logistic fall around 1e-3, then a rise.
        losses = 1 - 1 / (1 + np.exp(-3 * (np.log(rates) - math.log(1e-3)))) + np.maximum(rates - 0.1, 0) * 5
        assert suggest(rates.tolist(), losses.tolist()) == pytest.approx(1e-3, rel=0.15)

    def test_nothing_is_suggested_where_nothing_falls(self):
        assert suggest([1e-3, 1e-2, 1e-1], [1.0, 1.1, 2.0]) is None
        assert suggest([], []) is None

    def test_a_sweep_does_not_change_the_fit(self, tmp_path: Path):
        plain = fit(tmp_path / "plain", monitoring=False)
        made = fit(tmp_path / "found", monitoring=False, lr_finder=True, schedule=None)
        assert made.rates is not None
        rates, losses = made.rates["learning_rates"], made.rates["losses"]
        assert len(rates) == len(losses) > 20
        assert rates == sorted(rates)
        assert 1e-5 < made.rates["suggested"] < 10
        assert [epoch["logs"] for epoch in made.epochs] == [epoch["logs"] for epoch in plain.epochs]
        assert plain.rates is None


class Recorder(keras.callbacks.Callback):
    """Writes a line an epoch."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(f"{epoch} {sorted(logs or {})[0]}\n")


HERE = "tests.components.test_training_inside"


class TestCallbacks:
    def test_a_callback_of_your_own_is_called(self, tmp_path: Path):
        path = tmp_path / "seen"
        fit(tmp_path, callbacks=[{"use": f"{HERE}:Recorder", "options": {"path": str(path)}}])
        assert path.read_text().splitlines() == ["0 accuracy", "1 accuracy"]

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"use": f"{HERE}:Recorder"}, r"callbacks\.0\.options.*arguments of .*Recorder\. Received: none"),
            ({"use": f"{HERE}:folders_of", "options": {"root": Path("/tmp")}}, r"subclass of keras\.callb"),
            ({"use": f"{HERE}:Absent"}, r"callbacks\.0\.use.*Received: '.*Absent'"),
        ],
    )
    def test_what_is_no_callback_is_refused(self, entry: Any, message: str, tmp_path: Path):
        with pytest.raises(ConfigError, match=message):
            fit(tmp_path, callbacks=[entry])


def _only_last(model: Any) -> None:
    for layer in model.layers:
        layer.trainable = layer is model.layers[-1]


def _all(model: Any) -> None:
    for layer in model.layers:
        layer.trainable = True


PHASES = (Phase("frozen", 2, None, _only_last), Phase("fine_tune", None, 0.002, _all))


def fit_phases(root: Path, **values: Any) -> trainer.Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "phases", lambda config: PHASES)
        return fit(root, **values)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.components.test_training_inside import fit_phases
fit_phases(Path(sys.argv[1]), epochs=100_000, backup=True)
"""


class TestPhases:
    def test_they_follow_one_another(self, tmp_path: Path):
        made = fit_phases(tmp_path, epochs=3, reduce_on_plateau=None)
        assert [(entry["epoch"], entry["phase"]) for entry in made.epochs] == [
            *((1, "frozen"), (2, "frozen"), (3, "fine_tune"), (4, "fine_tune"), (5, "fine_tune"))
        ]
        assert [entry["logs"]["learning_rate"] for entry in made.epochs] == pytest.approx(
            [0.01, 0.01, 0.002, 0.002, 0.002]
        )
        spread = [
            {layer["name"]: layer["mean"] for layer in entry["layers"]} for entry in made.best.monitoring
        ]
        names = list(spread[0])
        assert [name for name in names if spread[0][name] != spread[1][name]] == names[-1:]
        assert all(spread[2][name] != spread[3][name] for name in names[:-1] if "norm" not in name)
        assert made.limit == 5
        lines = (tmp_path / "history.csv").read_text().splitlines()
        assert lines[0].startswith("epoch,phase,seconds,")
        assert len(lines) == 6

    def test_the_best_epoch_is_that_of_all_phases(self, tmp_path: Path):
        made = fit_phases(tmp_path, epochs=2, learning_rate=0.05, monitoring=False)
        values = [entry["logs"]["val_auc"] for entry in made.epochs]
        assert made.best_epoch == int(np.argmax(values)) + 1
        rows = rows_of(2, 128)
        logits = np.asarray(made.model(dict(rows.tensors[0])))[:, 0]
        positive, negative = logits[rows.labels[:, 0] == 1], logits[rows.labels[:, 0] == 0]
        area = (positive[:, None] > negative[None]).mean()
        assert max(values) == pytest.approx(area, abs=0.01)

    @pytest.mark.slow
    def test_one_killed_in_the_second_goes_on_there(self, tmp_path: Path):
        log = tmp_path / "state" / "epochs.jsonl"
        place = str(Path(__file__).parents[2])
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), place], stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 90
            while not log.exists() or len(log.read_text().splitlines()) < 5:
                assert child.poll() is None, "the training ended before it was killed"
                assert time.monotonic() < deadline, "the training made no progress"
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        before = [json.loads(line) for line in log.read_text().splitlines()]
        wanted = len(before) - 2 + 2  # epochs of the second phase
        made = fit_phases(tmp_path, epochs=wanted, backup=True)
        assert [entry["epoch"] for entry in made.epochs] == list(range(1, wanted + 3))
        assert [entry["phase"] for entry in made.epochs] == ["frozen"] * 2 + ["fine_tune"] * wanted
        assert made.epochs[: len(before) - 1] == before[:-1]
        assert [entry["epoch"] for entry in made.best.monitoring] == list(range(1, wanted + 3))

    def test_resumed_phases_end_as_undisturbed_ones(self, tmp_path: Path):
        settings: dict[str, Any] = {
            "backup": True,
            "monitoring": False,
            "sampling": "over",
            "augment": {"tabular": {"noise": 0.2}, "mixup": 0.3},
            "ema_momentum": 0.9,
        }
        whole = fit_phases(tmp_path / "whole", epochs=3, **settings)
        fit_phases(tmp_path / "parts", epochs=1, **settings)  # frozen, and one epoch of fine_tune
        resumed = fit_phases(tmp_path / "parts", epochs=3, **settings)
        for one, other in zip(whole.epochs, resumed.epochs, strict=True):
            assert one["logs"] == pytest.approx(other["logs"], abs=1e-6)

    def test_finished_phases_are_not_done_again(self, tmp_path: Path):
        first = fit_phases(tmp_path, backup=True)
        assert fit_phases(tmp_path, backup=True).epochs == first.epochs


ENSEMBLE = EnsembleConfig(family="ensemble", size=2, member=MlpConfig(hidden=(6,)))


class TestParts:
    def test_members_are_fitted_from_their_own_seeds_and_joined(self, tmp_path: Path):
        made = fit(tmp_path, ENSEMBLE, backup=True)
        assert [(entry["part"], entry["epoch"]) for entry in made.epochs] == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert made.parts[0].epochs[0]["logs"]["loss"] != made.parts[1].epochs[0]["logs"]["loss"]
        rows = rows_of(2, 128)
        columns = dict(rows.tensors[0])
        members = [layer for layer in made.model.layers if layer.name.startswith("member")]
        scores = [1 / (1 + np.exp(-np.asarray(member(columns)).astype(float))) for member in members]
        for part, found in zip(made.parts, scores, strict=True):
            right = np.where(rows.labels == 1, found, 1 - found)
            best = part.epochs[part.best_epoch - 1]["logs"]
            assert best["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
        whole = 1 / (1 + np.exp(-np.asarray(made.model(columns)).astype(float)))
        np.testing.assert_allclose(whole, np.mean(scores, axis=0), atol=1e-5)
        assert made.best_epoch == made.best.best_epoch
        assert made.best.value == max(part.value for part in made.parts)
        assert fit(tmp_path, ENSEMBLE, backup=True).epochs == made.epochs

    def test_progress_counts_all_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        fit(tmp_path, ENSEMBLE, monitoring=False)
        events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
        assert [events[-1][name] for name in ("done", "total", "eta_s")] == [4, 4, 0]
        assert "part 2/2" in events[-1]["text"]
        done = [event["done"] for event in events]
        assert done == sorted(done)


WORKER = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.components.test_training_inside import fit
made = fit(Path(sys.argv[1]), strategy="multi_worker")
print(json.dumps({
    "chief": made.hardware.is_chief, "replicas": made.hardware.replicas,
    "strategy": made.hardware.strategy_name, "logs": [entry["logs"] for entry in made.epochs],
    "weights": [weight.tolist() for weight in made.model.get_weights()],
}))
"""


class TestWorkers:
    @pytest.mark.slow
    def test_two_processes_fit_one_model(self, tmp_path: Path):
        with socket.socket() as one, socket.socket() as other:
            one.bind(("localhost", 0))
            other.bind(("localhost", 0))
            addresses = [f"localhost:{one.getsockname()[1]}", f"localhost:{other.getsockname()[1]}"]
        place = str(Path(__file__).parents[2])
        with contextlib.ExitStack() as stack:
            # Files, since a full pipe would hold one worker up and the other with it.
            outs = [stack.enter_context(open(tmp_path / f"out{index}", "w+")) for index in range(2)]
            errors = stack.enter_context(open(tmp_path / "errors", "w+"))
            children = []
            for index in range(2):
                cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                variables = os.environ | {"TF_CONFIG": json.dumps(cluster)}
                command = [sys.executable, "-c", WORKER, str(tmp_path), place]
                children.append(subprocess.Popen(command, env=variables, stdout=outs[index], stderr=errors))
            try:
                deadline = time.monotonic() + 100
                codes = [child.wait(deadline - time.monotonic()) for child in children]
            finally:
                for child in children:
                    child.kill()
                    child.wait()
        assert codes == [0, 0], (tmp_path / "errors").read_text()[-3000:]
        chief, second = (
            json.loads((tmp_path / f"out{index}").read_text().splitlines()[-1]) for index in range(2)
        )
        assert (chief["chief"], second["chief"]) == (True, False)
        assert (chief["replicas"], chief["strategy"]) == (2, "multi_worker")
        assert chief["logs"] == second["logs"]
        assert chief["weights"] == second["weights"]
        assert chief["logs"][1]["loss"] < chief["logs"][0]["loss"]
        # Metrics on eval are those of all its rows, not of one worker's share.
        model = build_model(features_of(), MlpConfig(hidden=(8,)), output(), seed=5)
        model.set_weights([np.array(weight, "f") for weight in chief["weights"]])
        rows = rows_of(2, 128)
        logits = np.asarray(model(dict(rows.tensors[0])))[:, 0]
        best = max(chief["logs"], key=lambda logs: float(logs["val_auc"]))
        assert best["val_accuracy"] == pytest.approx(((logits > 0) == rows.labels[:, 0]).mean(), abs=1e-6)
        assert (tmp_path / "history.csv").exists()

    def test_workers_must_be_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        with pytest.raises(ConfigError, match=r"multi_worker` needs the variable TF_CONFIG"):
            fit(tmp_path, strategy="multi_worker")
