"""Strategies and precision without a GPU: two logical CPUs, and mixed_float16 forced on one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.models.config import MlpConfig
from headrace.components.models.output import output_of
from headrace.components.training import run as trainer
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.export import export_model, held_variables, verify_exports
from headrace.components.training.hardware import prepare
from headrace.components.training.signatures import save_module, transformed_module
from tests.components.tabular import draw_columns, features_of, write_examples
from tests.components.trained_model import trained

pytestmark = pytest.mark.long

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 64, "tensorboard": False, "early_stopping": None}

# Two logical CPUs must be made before TensorFlow is first used, so in a process of its own.
TWO_CPUS = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from headrace.components.models.config import MlpConfig
from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model
from headrace.components.training import run as trainer
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import compile_model, fit_model
from headrace.components.training.hardware import prepare
from headrace.components.training.input import batches, read_rows, split_files
from tests.components.tabular import features_of

examples, root, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
features, config = features_of(), MlpConfig(hidden=(8,), dropout=0.0)

def in_order(strategy):
    training = TrainingConfig.model_validate(settings | {"strategy": strategy})
    hardware = prepare(training)
    with hardware.scope():
        model = build_model(features, config, output_of(features), seed=5)
        compile_model(model, training, output_of(features))
    rows = (read_rows(split_files(examples, split), features) for split in ("train", "eval"))
    fit_model(model, *(batches(part, features, training) for part in rows), 2, [])
    return hardware.replicas, model.get_weights()

def shuffled(name):
    training = TrainingConfig.model_validate(settings | {"strategy": "mirrored"})
    folder = root / name
    folder.mkdir(parents=True)
    folders = RunFolders(folder / "state", folder / "logs", folder / "history.csv")
    found = trainer.train(examples, features, config, training, folders, 5)
    return found.hardware, [entry["logs"]["loss"] for entry in found.epochs]

(one, first), (two, second) = in_order("none"), in_order("mirrored")
(hardware, losses), (_, again) = shuffled("a"), shuffled("b")
print(json.dumps({
    "replicas": [one, two, hardware.replicas], "strategy": hardware.strategy_name,
    "difference": max(float(np.abs(x - y).max()) for x, y in zip(first, second)),
    "losses": losses, "again": again,
}))
"""


@pytest.fixture(scope="module")
def two_cpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("mirrored")
    examples = write_examples(root / "examples", rows=512)  # whole batches, so that replicas share evenly
    command = [sys.executable, "-c", TWO_CPUS, str(examples), str(root / "runs"), json.dumps(SETTINGS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


class TestMirrored:
    def test_all_logical_devices_are_used(self, two_cpus: dict[str, Any]):
        assert two_cpus["replicas"] == [1, 2, 2]
        assert two_cpus["strategy"] == "mirrored"

    def test_two_replicas_train_as_one_on_rows_in_order(self, two_cpus: dict[str, Any]):
        # In a fixed order: `tf.distribute` rewrites the input and so draws another shuffle from the same
        # seed. What is left is the order of summation.
        assert two_cpus["difference"] < 1e-5

    def test_a_shuffled_fit_repeats_itself_and_learns(self, two_cpus: dict[str, Any]):
        assert two_cpus["losses"] == pytest.approx(two_cpus["again"], abs=1e-6)
        assert two_cpus["losses"][-1] < two_cpus["losses"][0]


class TestMixedPrecision:
    @pytest.fixture(scope="module")
    @staticmethod
    def half(tmp_path_factory: pytest.TempPathFactory) -> trainer.Trained:
        root = tmp_path_factory.mktemp("half")
        folders = RunFolders(root / "state", root / "logs", root / "history.csv")
        training = TrainingConfig.model_validate({**SETTINGS, "mixed_precision": "on"})
        examples = str(write_examples(root / "examples"))
        return trainer.train(examples, features_of(), MlpConfig(hidden=(8,)), training, folders, 5)

    def test_the_model_comes_back_in_float32(self, half: trainer.Trained):
        assert half.hardware.precision == "mixed_float16"
        assert {layer.dtype_policy.name for layer in half.model.layers} == {"float32"}
        assert {weight.dtype for weight in half.model.weights} == {"float32"}
        assert half.epochs[-1]["logs"]["loss"] < half.epochs[0]["logs"]["loss"]

    def test_it_converts_to_tf_lite_and_answers_the_same(self, half: trainer.Trained, tmp_path: Path):
        from ai_edge_litert.interpreter import Interpreter

        held = held_variables(half.model)
        module = transformed_module(half.model, features_of(), output_of(features_of()), held)
        save_module(module, str(tmp_path / "saved"))
        content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
        columns = draw_columns(20, 9)
        runner = Interpreter(model_content=content).get_signature_runner()
        scores = runner(**columns)["scores"]
        logits = half.model.predict(columns, verbose=0).astype(np.float64)[:, 0]
        np.testing.assert_allclose(scores[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-5)

    def test_it_passes_the_export_and_its_check(self, tmp_path: Path):
        made = trained()
        transform = FittedTransform(str(made.root / "transform_graph"))
        output = output_of(transform.features)
        folders = RunFolders(tmp_path / "state", tmp_path / "logs", tmp_path / "history.csv")
        training = TrainingConfig.model_validate({**SETTINGS, "epochs": 1, "mixed_precision": "on"})
        examples = str(made.root / "transformed_examples")
        found = trainer.train(examples, transform.features, MlpConfig(hidden=(8,)), training, folders, 5)
        export_model(found.model, transform, output, str(tmp_path / "model"))
        graph = str(made.root / "transform_graph")
        assert verify_exports(found.model, transform, output, str(tmp_path / "model"), graph) <= 1e-5


@pytest.mark.parametrize(("setting", "precision"), [("on", "mixed_float16"), ("off", "float32")])
def test_precision_is_forced_by_the_config(setting: str, precision: str):
    found = prepare(TrainingConfig.model_validate({"mixed_precision": setting}))
    assert (found.precision, found.strategy_name, found.replicas) == (precision, "none", 1)
