import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headrace.serving.session import ForbiddenOps, SessionModel, UnreadableModel
from tests.serving.graphs import edit


def save(path: Path, function: Any, *specs: tf.TensorSpec, held: tuple[Any, ...] = ()) -> str:
    module = tf.Module()
    module.held = held
    tf.saved_model.save(
        module, str(path), signatures=tf.function(function, input_signature=specs, autograph=False)
    )
    return str(path)


NUMBERS = tf.TensorSpec([None, 2], tf.float32, name="numbers")
TEXTS = tf.TensorSpec([None], tf.string, name="texts")


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> str:
    weights = tf.Variable([[1.0], [10.0]])
    words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0]), -1.0)

    def answer(numbers: Any, texts: Any) -> dict[str, Any]:
        return {"sum": (numbers @ weights)[:, 0], "word": words.lookup(texts), "echo": texts}

    return save(tmp_path_factory.mktemp("linear"), answer, NUMBERS, TEXTS, held=(weights, words))


def test_answers_with_variables_and_tables_restored(linear):
    with SessionModel.load(linear) as model:
        found = model.run("serving_default", {"numbers": [[1, 2], [3, 4]], "texts": ["b", "z"]})
    assert found["sum"].tolist() == [21.0, 43.0]
    assert found["word"].tolist() == [2.0, -1.0]
    assert found["echo"].tolist() == [b"b", b"z"]


def test_signatures_tell_types_and_shapes(linear):
    with SessionModel.load(linear) as model:
        assert set(model.signatures) == {"serving_default"}
        spec = model.signatures["serving_default"]
    assert (spec.inputs["numbers"].dtype, spec.inputs["numbers"].shape) == ("float32", (None, 2))
    assert (spec.inputs["texts"].dtype, spec.inputs["texts"].shape) == ("string", (None,))
    assert set(spec.outputs) == {"sum", "word", "echo"}
    assert spec.method == "tensorflow/serving/predict"


def test_only_the_outputs_asked_for(linear):
    with SessionModel.load(linear) as model:
        assert list(model.run("serving_default", {"numbers": [[1, 1]], "texts": ["a"]}, ["sum"])) == ["sum"]


@pytest.mark.parametrize(
    ("signature", "inputs"), [("absent", {}), ("serving_default", {"numbers": [[1, 2]]})]
)
def test_unknown_signature_and_absent_input(linear, signature, inputs):
    with SessionModel.load(linear) as model, pytest.raises(KeyError, match=r"absent|texts"):
        model.run(signature, inputs)


def test_a_closed_model_does_not_answer(linear):
    model = SessionModel.load(linear)
    model.close()
    with pytest.raises((RuntimeError, ValueError), match="closed"):
        model.run("serving_default", {"numbers": [[1, 2]], "texts": ["a"]})


def python_op(texts: Any) -> dict[str, Any]:
    return {"out": tf.ensure_shape(tf.py_function(lambda x: x, [texts], tf.string), [None])}


def reading_op(texts: Any) -> dict[str, Any]:
    return {"out": tf.map_fn(tf.io.read_file, texts)}


def writing_op(texts: Any) -> dict[str, Any]:
    with tf.control_dependencies([tf.io.write_file(texts[0], "x")]):
        return {"out": tf.identity(texts)}


@pytest.mark.parametrize(
    ("function", "name"), [(python_op, "EagerPyFunc"), (reading_op, "ReadFile"), (writing_op, "WriteFile")]
)
def test_ops_that_touch_files_or_run_python_are_refused(tmp_path, function, name):
    path = save(tmp_path / "m", function, TEXTS)
    with pytest.raises(ForbiddenOps, match=rf"folder and process. Received: {name} \("):
        SessionModel.load(path)


def test_a_refused_op_can_be_allowed(tmp_path):
    (tmp_path / "file").write_text("content")
    with SessionModel.load(save(tmp_path / "m", reading_op, TEXTS), allow_ops=["ReadFile"]) as model:
        found = model.run("serving_default", {"texts": [str(tmp_path / "file")]})
    assert found["out"].tolist() == [b"content"]


def test_a_model_of_another_tag_is_told(linear, tmp_path):
    shutil.copytree(linear, tmp_path / "m")
    edit(tmp_path / "m", lambda graph: graph.meta_info_def.tags.append("gpu"))
    with pytest.raises(UnreadableModel, match=r"\"serve\" alone. Received: \[\['gpu', 'serve'\]\] \("):
        SessionModel.load(str(tmp_path / "m"))


def test_an_initialisation_that_is_not_there_is_told(linear, tmp_path):
    def lost(graph: Any) -> None:
        graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "absent"

    shutil.copytree(linear, tmp_path / "m")
    edit(tmp_path / "m", lost)
    with pytest.raises(UnreadableModel, match="must load in a session"):
        SessionModel.load(str(tmp_path / "m"))


@pytest.mark.parametrize("content", [None, b"", b"\xff\xff\xff junk"])
def test_a_folder_without_a_model(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(UnreadableModel, match="Received: "):
        SessionModel.load(str(tmp_path))


def test_missing_variables_are_noticed_at_load(linear, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(Path(linear, "saved_model.pb").read_bytes())
    with pytest.raises(UnreadableModel, match="must load in a session"):
        SessionModel.load(str(tmp_path))


def test_a_keras_model_saved_as_root_loads_but_does_not_answer(tmp_path):
    """The export of common templates: `tf.saved_model.load` hides that a server cannot answer."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    function = tf.function(lambda numbers: {"out": model(numbers)}, input_signature=[NUMBERS])
    tf.saved_model.save(model, str(tmp_path), signatures=function)
    inputs = np.ones((1, 2), np.float32)
    hidden = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](numbers=tf.constant(inputs))
    np.testing.assert_allclose(hidden["out"].numpy(), model(inputs).numpy())
    with (
        SessionModel.load(str(tmp_path)) as session,
        pytest.raises(tf.errors.FailedPreconditionError, match="Could not find variable"),
    ):
        session.run("serving_default", {"numbers": inputs})
