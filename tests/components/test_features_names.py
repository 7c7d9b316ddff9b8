"""Signature inputs of any name, in sessions and under `tf.saved_model.load`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.features.input_names import rename_inputs, traced_names
from headrace.components.training.export import run_in_session
from headrace.components.training.signatures import save_module

NAMES = ["Petal length (cm)", "km/h", "_id", "Age", "age", "Größe", "plain", "input_1", "a:0", "x" * 300]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Any]:
    """A SavedModel that adds inputs up, each with a factor of its own; rows, and their sums."""
    names = traced_names(NAMES)
    module: Any = tf.Module()

    @tf.function(input_signature=[{n: tf.TensorSpec([None], tf.float32, name=names[n]) for n in NAMES}])
    def sums(columns: dict[str, Any]) -> dict[str, Any]:
        return {"outputs": tf.add_n([columns[n] * 2.0**place for place, n in enumerate(NAMES)])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def echo(examples: Any) -> dict[str, Any]:
        return {"outputs": examples}

    module.signatures = {"serving_raw": sums, "serving_default": echo}
    path = str(tmp_path_factory.mktemp("names") / "model")
    save_module(module, path)
    rows = {name: np.arange(3, dtype=np.float32) + place for place, name in enumerate(NAMES)}
    expected = sum(values * 2.0**place for place, values in enumerate(rows.values()))
    return path, rows, expected


def test_names_that_nodes_cannot_have_are_replaced_and_no_two_meet() -> None:
    found = traced_names(NAMES)
    assert [found[name] for name in ("Age", "plain", "input_1", "x" * 300)] == [
        "Age",
        "plain",
        "input_1",
        "x" * 300,
    ]
    assert found["Petal length (cm)"] == "input_0"
    assert found["km/h"] not in ("km/h", "input_1")
    assert found["age"] != "age"
    lowered = [name.lower() for name in found.values()]
    assert len(set(lowered)) == len(NAMES)


def test_a_session_takes_them(saved: tuple[str, dict[str, Any], Any]) -> None:
    path, rows, expected = saved
    np.testing.assert_array_equal(run_in_session(path, "serving_raw", rows)["outputs"], expected)
    texts = np.array([b"a", b"b"], object)
    assert run_in_session(path, "serving_default", {"examples": texts})["outputs"].tolist() == [b"a", b"b"]


def test_a_loaded_signature_takes_them(saved: tuple[str, dict[str, Any], Any]) -> None:
    path, rows, expected = saved
    signature = tf.saved_model.load(path).signatures["serving_raw"]
    found = signature(**{name: tf.constant(values) for name, values in rows.items()})
    np.testing.assert_array_equal(found["outputs"].numpy(), expected)


def test_plain_names_leave_the_file_alone(tmp_path: Path) -> None:
    for name in ("saved_model.pb", "fingerprint.pb"):
        (tmp_path / name).write_bytes(b"as it was")
    rename_inputs(str(tmp_path), {"serving_raw": traced_names(["age", "km_h"])})
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"as it was"}
