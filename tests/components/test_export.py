import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.models.config import MlpConfig
from headrace.components.models.output import Output, output_of
from headrace.components.models.registry import build_model
from headrace.components.parity.tolerance import TOLERANCE
from headrace.components.training.export import content_sha256, export_model, run_in_session, verify_exports
from headrace.components.training.signatures import answers
from headrace.data.errors import HeadraceError
from tests.components.trained_model import trained

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def graph() -> str:
    return str(trained().root / "transform_graph")


@pytest.fixture(scope="module")
def transform(graph: str) -> FittedTransform:
    return FittedTransform(graph)


def raw_columns(features: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {
        column["name"]: np.array([(row[column["name"]] or "").encode() for row in rows], object)
        if column["type"] == "string"
        else np.array(
            [np.nan if row[column["name"]] is None else row[column["name"]] for row in rows], np.float32
        )
        for column in features["raw"]
    }


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.fixture(scope="module")
def exported(transform: FittedTransform, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = output_of(transform.features)
    model = build_model(transform.features, MlpConfig(hidden=(8,)), output, seed=3)
    folder = tmp_path_factory.mktemp("model")
    export_model(model, transform, output, str(folder))
    raw = raw_columns(transform.features, trained().golden_rows())
    columns = {name: tensor.numpy() for name, tensor in transform.from_raw(raw).items()}
    positive = sigmoid(model.predict(columns, verbose=0))[:, 0]
    return folder, raw, columns, np.stack([1 - positive, positive], axis=1)


class TestSession:
    """The exports, restored as the C++ server restores them."""

    def test_raw_columns_answer_as_keras(self, exported: Any):
        folder, raw, _, expected = exported
        found = run_in_session(str(folder / "Format-Serving"), "serving_raw", raw)
        assert found["scores"].dtype == np.float32
        np.testing.assert_allclose(found["scores"], expected, atol=TOLERANCE, rtol=0)
        assert found["classes"].tolist() == [[b"0", b"1"]] * len(expected)

    def test_transformed_columns_answer_as_keras(self, exported: Any):
        folder, _, columns, expected = exported
        found = run_in_session(str(folder / "Format-Transformed"), "serving_default", columns)
        assert set(found) == {"scores"}
        np.testing.assert_allclose(found["scores"], expected, atol=TOLERANCE, rtol=0)

    @pytest.mark.parametrize("signature", ["serving_default", "transform_features"])
    def test_examples_of_the_data_are_answered(
        self, signature: str, exported: Any, transform: FittedTransform
    ):
        folder = exported[0]
        (path, *_) = sorted((trained().root / "examples/Split-eval").glob("*.gz"))
        serialized = np.array(
            list(tf.data.TFRecordDataset(str(path), "GZIP").take(40).as_numpy_iterator()), object
        )
        found = run_in_session(str(folder / "Format-Serving"), signature, {"examples": serialized})
        if signature == "transform_features":
            assert set(found) == {spec["name"] for spec in transform.features["features"]}
            direct = transform.from_examples(tf.constant(serialized))
            for name, values in found.items():
                np.testing.assert_allclose(values, direct[name].numpy(), rtol=1e-6)
        else:
            assert found["scores"].shape == (40, 2)
            np.testing.assert_allclose(found["scores"].sum(axis=1), 1, atol=1e-6)

    def test_any_number_of_rows_is_served(self, exported: Any):
        folder, raw, _, expected = exported
        one = {name: values[:1] for name, values in raw.items()}
        found = run_in_session(str(folder / "Format-Serving"), "serving_raw", one)
        np.testing.assert_allclose(found["scores"], expected[:1], atol=TOLERANCE, rtol=0)


class TestVerify:
    def test_another_models_export_is_refused(self, transform: FittedTransform, graph: str, tmp_path: Path):
        output = output_of(transform.features)
        one, two = (build_model(transform.features, MlpConfig(hidden=(8,)), output, seed=s) for s in (1, 2))
        export_model(one, transform, output, str(tmp_path))
        assert verify_exports(one, transform, output, str(tmp_path), graph) <= TOLERANCE
        with pytest.raises(HeadraceError, match=r"answer as the trained one.*serving_raw"):
            verify_exports(two, transform, output, str(tmp_path), graph)

    def test_without_golden_rows_a_row_of_missing_values_is_tried(
        self, transform: FittedTransform, tmp_path: Path
    ):
        output = output_of(transform.features)
        model = build_model(transform.features, MlpConfig(hidden=(8,)), output, seed=1)
        export_model(model, transform, output, str(tmp_path / "model"))
        assert verify_exports(model, transform, output, str(tmp_path / "model"), str(tmp_path)) <= TOLERANCE

    def test_half_precision_is_refused(self, transform: FittedTransform, tmp_path: Path):
        output = output_of(transform.features)
        model = build_model(transform.features, MlpConfig(), output, precision="mixed_float16")
        with pytest.raises(HeadraceError, match=r"must be float32. Received: mixed_float16"):
            export_model(model, transform, output, str(tmp_path))


class TestAnswers:
    def test_multiclass_is_a_softmax(self):
        logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)
        powers = np.exp(logits)
        found = answers(tf.constant(logits), Output("multiclass", ("a", "b", "c")))["scores"].numpy()
        np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-6)

    def test_regression_is_the_number_itself(self):
        found = answers(tf.constant([[1.5], [-2.0]], tf.float16), Output("regression"))["outputs"]
        assert found.dtype == tf.float32
        assert found.numpy().tolist() == [1.5, -2.0]


class TestIdentity:
    def test_content_changes_with_weights_and_spec_alone(self, transform: FittedTransform, graph: str):
        output = output_of(transform.features)
        make = lambda seed: build_model(transform.features, MlpConfig(hidden=(8,)), output, seed=seed)  # noqa: E731
        spec = {"model": 1}
        assert content_sha256(make(1), graph, spec) == content_sha256(make(1), graph, spec)
        assert content_sha256(make(1), graph, spec) != content_sha256(make(2), graph, spec)
        assert content_sha256(make(1), graph, spec) != content_sha256(make(1), graph, {"model": 2})


def test_trained_export_matches_its_sidecar_of_weights():
    made = trained()
    summary = json.loads((made.root / "model/model.json").read_text())
    assert summary["parameter_bytes"] == 4 * summary["parameters"]
