import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

from headrace.components.features.signatures import FittedTransform
from headrace.components.models.output import Output
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.training.export import (
    content_sha256,
    export_model,
    run_in_session,
    verify_exports,
)
from headrace.data.errors import HeadraceError
from tests.components.trained_model import Trained, trained

OUTPUTS = {
    "binary": Output("binary", ("0", "1")),
    "multiclass": Output("multiclass", ("a", "ü", "c")),
    "regression": Output("regression"),
}


@pytest.fixture(scope="module")
def source() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def transform(source: Trained) -> FittedTransform:
    return FittedTransform(str(source.root / "transform_graph"))


def build(features: dict[str, Any], output: Output, seed: int = 1, precision: str = "float32") -> Any:
    """Return a model with random weights in every layer, so that scores differ between rows."""
    section = {"hidden": [8], "batch_norm": True, "linear_terms": True}
    model = build_model(features, parse_model_config(section), output, seed=seed, precision=precision)
    random = np.random.default_rng(seed)
    model.set_weights([0.2 * np.abs(random.normal(size=w.shape)) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=OUTPUTS)
def exported(
    request: pytest.FixtureRequest, transform: FittedTransform, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Output]:
    """Export one model a task; return its folder, itself and its output."""
    output = OUTPUTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = build(transform.features, output)
    export_model(model, transform, output, str(folder))
    return folder, model, output


def expected_answers(model: Any, transformed: dict[str, Any], output: Output) -> np.ndarray:
    logits = np.asarray(model(transformed, training=False)).astype(np.float64)
    if output.task == "regression":
        return logits[:, 0]
    if output.task == "binary":
        return np.concatenate([1 - expit(logits), expit(logits)], axis=1)
    return softmax(logits, axis=1)


def raw_columns(source: Trained, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return rows as docs/artifacts.md says of `serving_raw`: NaN and "" stand for missing."""
    columns = {}
    for column in source.features()["raw"]:
        values = [row[column["name"]] for row in rows]
        if column["type"] == "string":
            columns[column["name"]] = np.array(["" if v is None else v for v in values], object)
        else:
            columns[column["name"]] = np.array([np.nan if v is None else v for v in values], np.float32)
    return columns


def examples(source: Trained, rows: list[dict[str, Any]], absent: str = "left out") -> np.ndarray:
    """Return rows as serialized tf.Examples; missing is left out or an empty list."""
    kinds = {"string": "bytes_list", "int": "int64_list", "float": "float_list"}
    found = []
    for row in rows:
        example = tf.train.Example()
        for column in source.features()["raw"]:
            value = row[column["name"]]
            if value is None and absent == "left out":
                continue
            target = getattr(example.features.feature[column["name"]], kinds[column["type"]])
            target.SetInParent()
            if value is not None:
                target.value.append(value.encode() if isinstance(value, str) else value)
        found.append(example.SerializeToString())
    return np.array(found, object)


def close(found: Any, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()


def key_of(output: Output) -> str:
    return "outputs" if output.task == "regression" else "scores"


class TestSignatures:
    def test_serving_has_the_three_that_the_contract_names(self, exported: Any, source: Trained):
        folder, _, output = exported
        signatures = tf.saved_model.load(str(folder / "Format-Serving")).signatures
        assert set(signatures) == {"serving_default", "transform_features", "serving_raw"}
        for name in ("serving_default", "transform_features"):
            (spec,) = signatures[name].structured_input_signature[1].values()
            assert (spec.name, spec.shape.as_list(), spec.dtype) == ("examples", [None], tf.string)
        raw = signatures["serving_raw"].structured_input_signature[1]
        assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in raw.items()} == {
            column["name"]: ([None], tf.string if column["type"] == "string" else tf.float32)
            for column in source.features()["raw"]
        }
        assert "late" not in raw
        classes = len(output.classes)
        expected: dict[str, Any] = {"outputs": ([None], tf.float32)}
        if classes:
            expected = {"scores": ([None, classes], tf.float32), "classes": ([None, classes], tf.string)}
        for name in ("serving_default", "serving_raw"):
            specs = signatures[name].structured_outputs
            assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in specs.items()} == expected

    def test_transformed_takes_the_features_and_answers_without_classes(self, exported: Any, source: Trained):
        folder, _, output = exported
        signatures = tf.saved_model.load(str(folder / "Format-Transformed")).signatures
        assert set(signatures) == {"serving_default"}
        inputs = signatures["serving_default"].structured_input_signature[1]
        assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in inputs.items()} == {
            entry["name"]: ([None, entry["width"]], tf.float32 if entry["role"] == "dense" else tf.int64)
            for entry in source.features()["features"]
        }
        assert set(signatures["serving_default"].structured_outputs) == {key_of(output)}


class TestAnswers:
    """All through a TF1 session, which restores as the C++ server does."""

    def test_both_models_answer_as_keras(self, exported: Any, source: Trained, transform: FittedTransform):
        folder, model, output = exported
        rows = source.golden_rows()
        assert any(None in row.values() for row in rows)
        raw = raw_columns(source, rows)
        transformed = {name: tensor.numpy() for name, tensor in transform.from_raw(raw).items()}
        expected = expected_answers(model, transformed, output)
        assert len(np.unique(expected.round(4))) > 20
        serving = run_in_session(str(folder / "Format-Serving"), "serving_raw", raw)
        close(serving[key_of(output)], expected)
        plain = run_in_session(str(folder / "Format-Transformed"), "serving_default", transformed)
        close(plain[key_of(output)], expected)
        if output.classes:
            names = [[name.encode() for name in output.classes]] * len(rows)
            assert serving["classes"].tolist() == names
            np.testing.assert_allclose(serving["scores"].sum(axis=1), 1, rtol=1e-5)

    @pytest.mark.parametrize("absent", ["left out", "empty"])
    def test_raw_and_examples_agree_missing_values_included(
        self, absent: str, exported: Any, source: Trained
    ):
        folder, _, output = exported
        rows = source.golden_rows()
        path = str(folder / "Format-Serving")
        raw = run_in_session(path, "serving_raw", raw_columns(source, rows))
        parsed = run_in_session(path, "serving_default", {"examples": examples(source, rows, absent)})
        np.testing.assert_array_equal(parsed[key_of(output)], raw[key_of(output)])

    def test_transform_features_gives_what_the_transform_node_wrote(self, exported: Any, source: Trained):
        golden = json.loads((source.root / "transform_graph/headrace/golden.json").read_text())
        found = run_in_session(
            str(exported[0] / "Format-Serving"),
            "transform_features",
            {"examples": examples(source, golden["inputs"])},
        )
        assert found.keys() == golden["transformed"].keys()
        for name, values in golden["transformed"].items():
            np.testing.assert_allclose(found[name], np.array(values).reshape(found[name].shape), rtol=1e-6)

    def test_a_row_alone_answers_as_among_others(self, exported: Any, source: Trained):
        folder, _, output = exported
        path, rows = str(folder / "Format-Serving"), source.golden_rows()[:8]
        many = run_in_session(path, "serving_raw", raw_columns(source, rows))[key_of(output)]
        alone = run_in_session(path, "serving_raw", raw_columns(source, rows[3:4]))[key_of(output)]
        close(alone[0], many[3])


class TestVerify:
    def test_a_good_export_is_within_the_tolerance(
        self, exported: Any, source: Trained, transform: FittedTransform
    ):
        folder, model, output = exported
        graph = str(source.root / "transform_graph")
        assert verify_exports(model, transform, output, str(folder), graph) <= 1e-5

    def test_an_export_of_other_weights_is_refused(
        self, exported: Any, source: Trained, transform: FittedTransform
    ):
        folder, _, output = exported
        other = build(transform.features, output, seed=9)
        with pytest.raises(HeadraceError, match=r"must answer as the trained one.*Received: a difference of"):
            verify_exports(other, transform, output, str(folder), str(source.root / "transform_graph"))

    def test_a_model_in_mixed_precision_is_refused(self, transform: FittedTransform, tmp_path: Path):
        model = build(transform.features, OUTPUTS["binary"], precision="mixed_float16")
        with pytest.raises(HeadraceError, match=r"must be float32\. Received: .*mixed_float16"):
            export_model(model, transform, OUTPUTS["binary"], str(tmp_path))


class TestContentHash:
    def test_it_follows_weights_and_spec_alone(self, source: Trained):
        graph = str(source.root / "transform_graph")
        inputs = keras.Input((2,))
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs))
        first = content_sha256(model, graph, {"a": 1, "b": 2})
        assert content_sha256(model, graph, {"b": 2, "a": 1}) == first
        assert content_sha256(model, graph, {"a": 1, "b": 3}) != first
        kernel, bias = model.get_weights()
        model.set_weights([np.nextafter(kernel, 2), bias])
        assert content_sha256(model, graph, {"a": 1, "b": 2}) != first
