import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.components.parity.tolerance import TOLERANCE, max_relative_difference
from headrace.components.quantization.lite import convert_float
from headrace.components.training.signatures import save_module, transformed_module
from headrace.data.errors import ConfigError
from headrace.serving.columns import InvalidRow
from headrace.serving.lite import LiteModel, LiteRunner
from headrace.serving.raw import raw_columns
from tests.components.trained_model import Trained, trained


@pytest.fixture(scope="module")
def made() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def bundle(made: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, headrace = tmp_path_factory.mktemp("bundle"), made.root / "transform_graph/headrace"
    (folder / "model.tflite").write_bytes(convert_float(str(made.root / "model/Format-Transformed")))
    (folder / "preprocessing.json").write_text((headrace / "preprocessing.json").read_text())
    (folder / "labels.json").write_text(json.dumps(made.features()["label"]))
    return folder


def test_agrees_with_the_saved_model_on_raw_rows(made, bundle):
    rows = made.golden_rows()  # with each column missing once and unseen once
    types = {column["name"]: column["type"] for column in made.features()["raw"]}
    columns = {name: tf.constant(values) for name, values in raw_columns(rows, types).items()}
    loaded = tf.saved_model.load(str(made.root / "model/Format-Serving"))
    expected = loaded.signatures["serving_raw"](**columns)
    found = LiteModel.load(bundle).predict(rows)
    assert max_relative_difference(expected["scores"].numpy(), found["scores"]) <= TOLERANCE
    assert found["classes"].tolist() == [["0", "1"]] * len(rows)
    assert found["scores"].dtype == np.float32


def test_rows_and_columns_are_the_same_request(made, bundle):
    model, rows = LiteModel.load(bundle), made.golden_rows()[:20]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    np.testing.assert_array_equal(model.predict(rows)["scores"], model.predict(columns)["scores"])


def test_batches_of_changing_size_and_more_threads(made, bundle):
    model, rows = LiteModel.load(bundle, threads=2), made.golden_rows()
    whole = LiteModel.load(bundle).predict(rows)["scores"]
    for size in (1, 100, 7, 1):
        np.testing.assert_allclose(model.predict(rows[:size])["scores"], whole[:size], atol=1e-6)


def test_large_requests_are_cut_and_put_together_in_order(made, bundle):
    rows = made.golden_rows()[:250]
    found = LiteModel.load(bundle).predict(rows * 40)["scores"]
    once = LiteModel.load(bundle).predict(rows)["scores"]
    np.testing.assert_allclose(found, np.tile(once, (40, 1)), atol=1e-6)


def test_unknown_columns_are_refused_unless_asked(made, bundle):
    model, row = LiteModel.load(bundle), {**made.golden_rows()[0], "late": "1"}
    with pytest.raises(InvalidRow, match=r"must be one that the model reads. Received: 'late'"):
        model.predict([row])
    assert model.predict([row], ignore_unknown=True)["scores"].shape == (1, 2)


def test_needs_neither_tensorflow_nor_tfx(made, bundle):
    rows = json.dumps(made.golden_rows()[:3])
    code = (
        "import json, sys\n"
        "for name in ('tensorflow', 'keras', 'tfx', 'tfx_bsl', 'tensorflow_transform', 'pyarrow'):\n"
        "    sys.modules[name] = None\n"  # an import of it raises
        "from headrace.serving.lite import LiteModel\n"
        "scores = LiteModel.load(sys.argv[1]).predict(json.loads(sys.argv[2]))['scores']\n"
        "print(json.dumps(scores.tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), rows],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    expected = LiteModel.load(bundle).predict(json.loads(rows))["scores"]
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["model.tflite", "preprocessing.json", "labels.json"])
def test_an_incomplete_bundle_is_refused(bundle, tmp_path, name):
    for file in bundle.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ConfigError, match=r"a lite bundle must hold .*Received: "):
        LiteModel.load(tmp_path)


def test_a_damaged_model_is_refused(bundle, tmp_path):
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != "model.tflite" else b"junk" * 10)
    with pytest.raises(ConfigError, match="must be readable"):
        LiteModel.load(tmp_path)


FEATURES = {
    "features": [
        {"name": "number", "role": "dense", "width": 2},
        {"name": "index", "role": "index", "width": 1},
    ]
}


class TestRunner:
    def content(self, path: Path) -> bytes:
        table = tf.Variable([[1.0], [10.0], [100.0]])
        module = transformed_module(
            lambda x: tf.reduce_sum(x["number"], 1, keepdims=True) + tf.gather(table, x["index"][:, 0]),
            FEATURES,
            Output("regression"),
            [table],
        )
        save_module(module, str(path))
        return convert_float(str(path))

    def test_regression_answers_outputs(self, tmp_path):
        runner = LiteRunner(self.content(tmp_path / "m"))
        assert runner.inputs == {"number": np.dtype("float32"), "index": np.dtype("int64")}
        answer = runner.run({"number": np.array([[1, 2], [0, 0]]), "index": np.array([[2], [1]], np.int32)})
        assert answer["outputs"].tolist() == [103.0, 10.0]

    def test_without_signatures_tensor_names_tell_the_features(self, tmp_path):
        from headrace.components.quantization import flatbuffer

        model = flatbuffer.read(self.content(tmp_path / "m"))
        model.signatureDefs = None
        runner = LiteRunner(flatbuffer.write(model))
        assert set(runner.inputs) == {"number", "index"}
        answer = runner.run({"number": np.array([[1, 2], [5, 5]]), "index": np.array([[2], [1]])})
        assert answer["outputs"].tolist() == [103.0, 20.0]

    def test_an_input_that_is_not_given_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match="Received: none for index"):
            LiteRunner(self.content(tmp_path / "m")).run({"number": np.zeros((1, 2))})
