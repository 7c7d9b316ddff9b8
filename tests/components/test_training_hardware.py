"""What needs a process of its own: devices can be split only before TensorFlow has started."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from headrace.components.training.config import TrainingConfig
from headrace.components.training.export import run_in_session
from headrace.components.training.hardware import prepare
from tests.components.trained_model import Trained, trained

pytestmark = pytest.mark.e2e

CHILD = """
import json, sys
from pathlib import Path
root, inputs, training, cpus, place = json.loads(sys.argv[1])
sys.path.insert(0, place)
import tensorflow as tf
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * cpus)
from headrace.components.training.run import run
from tests.components.trained_model import context
config = {"model": {"family": "mlp", "hidden": [16]}, "training": training, "seed": 3}
run(context("trainer", Path(root), inputs, ["model", "model_run"], config))
"""


@pytest.fixture(scope="module")
def source() -> Trained:
    return trained()


def train(source: Trained, root: Path, cpus: int = 1, **training: Any) -> dict[str, Any]:
    """Run the trainer node in a child with `cpus` logical CPUs; return history.json."""
    (root / "best.json").write_text(json.dumps({"values": {}, "score": None, "objective": "val_auc"}))
    inputs = source.inputs() | {"best_hyperparameters": [str(root)]}
    section = {"epochs": 3, "batch_size": 128, "learning_rate": 0.01, "tensorboard": False, **training}
    place = str(Path(__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([str(root), inputs, section, cpus, place])],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    history: dict[str, Any] = json.loads((root / "model_run/history.json").read_text())
    return history


def check_exports(source: Trained, model: Path) -> None:
    """Check that both SavedModels and TF Lite agree on the golden rows, in float32."""
    golden = json.loads((source.root / "transform_graph/headrace/golden.json").read_text())
    types = {entry["name"]: entry["role"] for entry in source.features()["features"]}
    transformed = {
        name: np.array(values, np.float32 if types[name] == "dense" else np.int64).reshape(len(values), -1)
        for name, values in golden["transformed"].items()
    }
    raw = {
        column["name"]: np.array([row[column["name"]] or "" for row in golden["inputs"]], object)
        if column["type"] == "string"
        else np.array([row[column["name"]] for row in golden["inputs"]], np.float32)
        for column in source.features()["raw"]
    }
    serving = run_in_session(str(model / "Format-Serving"), "serving_raw", raw)["scores"]
    plain = run_in_session(str(model / "Format-Transformed"), "serving_default", transformed)["scores"]
    content = tf.lite.TFLiteConverter.from_saved_model(str(model / "Format-Transformed")).convert()
    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    lite = runner(**transformed)["scores"]
    assert serving.dtype == plain.dtype == lite.dtype == np.float32
    assert np.ptp(serving[:, 1]) > 0.2
    for found in (plain, lite):
        np.testing.assert_allclose(found, serving, atol=1e-5)
    types_inside = {node["dtype"] for node in Interpreter(model_content=content).get_tensor_details()}
    assert np.float16 not in types_inside


def test_two_replicas_train_and_export_the_same_kind_of_model(source: Trained, tmp_path: Path):
    history = train(source, tmp_path, cpus=2, strategy="mirrored")
    assert (history["strategy"], history["precision"], history["device"]) == ("mirrored", "float32", "cpu")
    losses = [epoch["logs"]["loss"] for epoch in history["epochs"]]
    assert losses[-1] < losses[0]
    assert max(epoch["logs"]["val_auc"] for epoch in history["epochs"]) > 0.75
    check_exports(source, tmp_path / "model")


def test_mixed_precision_is_exported_in_float32(source: Trained, tmp_path: Path):
    history = train(source, tmp_path, mixed_precision="on")
    assert (history["strategy"], history["precision"]) == ("none", "mixed_float16")
    assert max(epoch["logs"]["val_auc"] for epoch in history["epochs"]) > 0.75
    check_exports(source, tmp_path / "model")


def test_without_gpus_auto_is_plain_float32():
    gpus = len(tf.config.list_physical_devices("GPU"))
    found = prepare(TrainingConfig())
    assert found.precision == ("mixed_float16" if gpus else "float32")
    assert found.strategy_name == ("mirrored" if gpus > 1 else "none")
    assert prepare(TrainingConfig(mixed_precision="off")).precision == "float32"
