"""The contract on tabular inputs, and what each field of the mlp does."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from pydantic import ValidationError
from scipy.special import erf, expit, softmax

from headrace.components.models.config import MlpConfig
from headrace.components.models.output import Output, output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.training.config import TrainingConfig
from headrace.components.training.export import held_variables
from headrace.components.training.fit import compile_model
from headrace.components.training.signatures import save_module, transformed_module
from tests.components.tabular import INPUTS, TASKS, draw_columns, draw_labels, features_of, output

pytestmark = pytest.mark.long

TABULAR = ("mlp", "wide_deep")
PLAIN: dict[str, Any] = {"hidden": [8], "dropout": 0.0}
RICH: dict[str, Any] = {
    "hidden": [16, 8],
    "activation": "gelu",
    "dropout": 0.2,
    "embedding_dropout": 0.2,
    "batch_norm": True,
    "linear_terms": True,
    "l2": 1e-4,
}


def build(task: str = "binary", seed: int = 1, precision: str = "float32", **section: Any) -> Any:
    config = parse_model_config(PLAIN | section)
    return build_model(features_of(task), config, output(task), seed=seed, precision=precision)


def answer(model: Any, columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(model(columns, training=False))


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Return layer name -> first weight."""
    return {layer.name: layer.get_weights()[0] for layer in model.layers if layer.weights}


def bag(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average the vectors of each row's indices, -1 left out, in plain Python."""
    vectors = [[table[index] for index in row if index >= 0] for row in rows]
    return np.array([np.mean(found, axis=0) if found else np.zeros(table.shape[1]) for found in vectors])


def joined(model: Any, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Encode the columns with numpy, as the layers before the first dense one should."""
    tables = weights_of(model)
    hot = np.zeros((len(columns["tags"]), 6))
    for row, indices in enumerate(columns["tags"]):
        hot[row, [index for index in indices if index >= 0]] = 1.0
    return np.concatenate(
        [
            columns["amount"],
            tables["embedding_1"][columns["city"][:, 0]],
            np.eye(4)[columns["month"][:, 0]],
            hot,
            bag(tables["embedding_4"], columns["words"]),
        ],
        axis=1,
    )


class TestContract:
    @pytest.mark.parametrize("family", TABULAR)
    @pytest.mark.parametrize("task", TASKS)
    def test_inputs_are_the_features_and_the_output_float32_logits(self, family: str, task: str):
        model = build_model(features_of(task), parse_model_config({"family": family}), output(task))
        expected = {
            entry["name"]: ((None, entry["width"]), "float32" if entry["role"] == "dense" else "int64")
            for entry in INPUTS
        }
        found = {name: (item.shape, item.dtype) for name, item in model.input.items()}
        assert found == expected
        logits = answer(model, draw_columns(9))
        assert logits.dtype == np.float32
        assert logits.shape == (9, {"binary": 1, "multiclass": 3, "regression": 1}[task])
        assert np.isfinite(logits).all()
        assert len(np.unique(logits[:, 0])) > 1

    @pytest.mark.parametrize("family", TABULAR)
    def test_seed_decides_on_the_initial_weights(self, family: str):
        def start(seed: int) -> list[np.ndarray]:
            config = parse_model_config({"family": family})
            return list(build_model(features_of(), config, output(), seed=seed).get_weights())

        first, same, other = start(1), start(1), start(2)
        assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
        random = [place for place, weight in enumerate(first) if weight.any()]
        assert len(random) >= 4
        assert not any(np.array_equal(first[place], other[place]) for place in random)

    def test_a_fresh_process_can_build_all_parts_together(self):
        keras.backend.clear_session()  # Keras names operations anew, from "sum", "add" ... on
        assert build(**RICH).count_params() > 0

    @pytest.mark.parametrize("name", ["sum", "max", "logits", "joined", "dense_0", "input_1", "a/b c"])
    def test_features_may_have_any_name(self, name: str):
        keras.backend.clear_session()
        features = features_of()
        features["features"][0]["name"] = name
        model = build_model(features, parse_model_config(RICH), output())
        columns = draw_columns(3)
        columns[name] = columns.pop("amount")
        compile_model(model, TrainingConfig(), output())
        model.run_eagerly = True
        assert np.isfinite(model.train_on_batch(columns, np.ones((3, 1)))[0])

    def test_layers_of_one_shape_start_apart(self):
        twice = features_of()
        twice["features"].append(dict(twice["features"][1], name="city_2"))
        model = build_model(twice, MlpConfig(hidden=(8, 8, 8)), output(), seed=3)
        start = weights_of(model)
        assert start["embedding_1"].shape == start["embedding_5"].shape
        assert not np.array_equal(start["embedding_1"], start["embedding_5"])
        assert not np.array_equal(start["dense_1"], start["dense_2"])

    @pytest.mark.parametrize("family", TABULAR)
    @pytest.mark.parametrize("task", TASKS)
    def test_training_lowers_the_loss(self, family: str, task: str):
        columns = draw_columns(128)
        labels = draw_labels(columns, task)[:, None]
        config = parse_model_config({"family": family, "dropout": 0.0})
        model = build_model(features_of(task), config, output(task), seed=1)
        compile_model(model, TrainingConfig(learning_rate=0.01), output(task))
        losses = [float(model.train_on_batch(columns, labels)[0]) for _ in range(15)]
        after = float(model.evaluate(columns, labels, batch_size=128, verbose=0)[0])
        assert after < 0.8 * losses[0]

    def test_every_weight_is_trained(self):
        columns = draw_columns(128)
        model = build_model(features_of(), parse_model_config(RICH), output(), seed=1)
        before = model.get_weights()
        compile_model(model, TrainingConfig(), output())
        model.train_on_batch(columns, draw_labels(columns, "binary")[:, None])
        assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))

    @pytest.mark.parametrize("section", [PLAIN, RICH], ids=["plain", "rich"])
    def test_saved_weights_give_the_same_answers(self, section: dict[str, Any], tmp_path: Path):
        columns = draw_columns(20)
        model, other = build(seed=1, **section), build(seed=2, **section)
        expected = answer(model, columns)
        assert not np.array_equal(answer(other, columns), expected)
        model.save_weights(str(tmp_path / "m.weights.h5"))
        other.load_weights(str(tmp_path / "m.weights.h5"))
        np.testing.assert_array_equal(answer(other, columns), expected)

    @pytest.mark.parametrize(
        ("task", "section"), [("binary", RICH), ("multiclass", PLAIN), ("regression", {"linear_terms": True})]
    )
    def test_litert_answers_as_keras(self, task: str, section: dict[str, Any], tmp_path: Path):
        columns = draw_columns(40, seed=5)
        model = build(task, **section)
        random = np.random.default_rng(0)  # large weights, and moving averages that are not 0 and 1
        model.set_weights([np.abs(random.normal(size=w.shape)).astype("f") for w in model.get_weights()])
        module = transformed_module(
            lambda rows: model(rows, training=False), features_of(task), output(task), held_variables(model)
        )
        save_module(module, str(tmp_path))
        content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
        (found,) = (
            Interpreter(model_content=content).get_signature_runner("serving_default")(**columns).values()
        )
        logits = answer(model, columns).astype(np.float64)
        expected = {
            "binary": lambda: np.concatenate([1 - expit(logits), expit(logits)], axis=1),
            "multiclass": lambda: softmax(logits, axis=1),
            "regression": lambda: logits[:, 0],
        }[task]()
        assert found.shape == expected.shape
        assert (np.abs(found - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()

    def test_mixed_precision_keeps_float32_at_both_ends(self):
        model = build(precision="mixed_float16")
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert model.output.dtype == "float32"
        assert model.get_layer("dense_0").compute_dtype == "float16"
        columns = draw_columns(20)
        np.testing.assert_allclose(answer(model, columns), answer(build(), columns), atol=5e-3)


class TestInputs:
    def test_encodings_are_what_numpy_computes(self):
        columns = draw_columns(30)
        model = build("multiclass", hidden=[])
        kernel, bias = model.get_layer("logits").get_weights()
        expected = joined(model, columns) @ kernel + bias
        np.testing.assert_allclose(answer(model, columns), expected, rtol=1e-5, atol=1e-5)

    def test_padding_alone_is_zeros(self):
        columns = draw_columns(1)
        assert (columns["words"] == -1).all()
        assert (columns["tags"] == -1).all()
        model = build(hidden=[])
        probe = keras.Model(model.input, model.get_layer("joined").output)
        found = answer(probe, columns)[0]
        assert not found[2 + 4 + 4 :].any()
        assert found[: 2 + 4].all()

    def test_place_and_amount_of_padding_do_not_matter(self):
        model = build()
        first, second = draw_columns(1), draw_columns(1)
        first["words"], second["words"] = np.array([[5, -1, -1]]), np.array([[-1, -1, 5]])
        first["tags"], second["tags"] = np.array([[2, 2, 3]]), np.array([[3, -1, 2]])
        np.testing.assert_allclose(answer(model, first), answer(model, second), rtol=1e-6)

    def test_one_feature_alone_makes_a_model(self):
        for entry in INPUTS:
            alone = features_of() | {"features": [dict(entry)]}
            model = build_model(alone, MlpConfig(hidden=(4,)), output())
            assert answer(model, {entry["name"]: draw_columns(3)[entry["name"]]}).shape == (3, 1)


class TestFields:
    """One test a field; the last test says that none is left out."""

    TESTED = frozenset({"family", "hidden", "activation", "dropout", "embedding_dropout", "batch_norm"}) | {
        *("l1", "l2", "embedding_l2", "linear_terms")
    }

    def test_hidden_sets_the_layers(self):
        model = build(hidden=[7, 5])
        assert [model.get_layer(name).units for name in ("dense_0", "dense_1")] == [7, 5]
        with pytest.raises(ValueError, match="No such layer: dense_2"):
            model.get_layer("dense_2")

    @pytest.mark.parametrize(
        ("activation", "function"),
        [
            ("relu", lambda x: np.maximum(x, 0)),
            ("gelu", lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
            ("silu", lambda x: x * expit(x)),
            ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
            ("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
            ("tanh", np.tanh),
            ("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)),
        ],
    )
    def test_activation_is_applied_to_hidden_layers_alone(self, activation: str, function: Any):
        columns = draw_columns(30)
        model = build(activation=activation)
        (first, first_bias), (last, last_bias) = (
            model.get_layer(name).get_weights() for name in ("dense_0", "logits")
        )
        expected = function(joined(model, columns) @ first + first_bias) @ last + last_bias
        np.testing.assert_allclose(answer(model, columns), expected, rtol=1e-4, atol=1e-5)

    def test_dropout_drops_that_share_of_hidden_units_in_training_only(self):
        model = build(hidden=[200], activation="elu", dropout=0.3)
        probe = keras.Model(model.input, model.get_layer("dropout_0").output)
        columns = draw_columns(100)
        assert np.mean(np.asarray(probe(columns, training=True)) == 0) == pytest.approx(0.3, abs=0.02)
        assert answer(probe, columns).all()

    def test_embedding_dropout_drops_parts_of_vectors_in_training_only(self):
        model = build(embedding_dropout=0.4)
        probe = keras.Model(model.input, model.get_layer("embedding_dropout_1").output)
        columns = draw_columns(500)
        assert np.mean(np.asarray(probe(columns, training=True)) == 0) == pytest.approx(0.4, abs=0.05)
        assert answer(probe, columns).all()
        assert "embedding_dropout_4" in {layer.name for layer in model.layers}

    def test_dropout_masks_follow_the_seed(self):
        def mask(seed: int) -> np.ndarray:
            return np.asarray(build(seed=seed, hidden=[50], dropout=0.5)(draw_columns(4), training=True))

        assert np.array_equal(mask(1), mask(1))
        assert not np.array_equal(mask(1), mask(2))

    def test_batch_norm_normalises_over_the_batch_in_training(self):
        model = build(batch_norm=True)
        probe = keras.Model(model.input, model.get_layer("norm_0").output)
        found = np.asarray(probe(draw_columns(200), training=True))
        np.testing.assert_allclose(found[:, :2].mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(found[:, :2].std(axis=0), 1, atol=1e-2)
        assert "norm_0" not in weights_of(build())

    @pytest.mark.parametrize(
        ("field", "layers", "norm"),
        [
            ("l1", ("dense_0", "logits"), np.abs),
            ("l2", ("dense_0", "logits"), np.square),
            ("embedding_l2", ("embedding_1", "embedding_4"), np.square),
        ],
    )
    def test_penalties_add_the_norm_of_their_weights_to_the_loss(self, field: str, layers: Any, norm: Any):
        model = build(**{field: 0.01})
        weights = weights_of(model)
        expected = 0.01 * sum(norm(weights[name]).sum() for name in layers)
        assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
        assert build().losses == []

    @pytest.mark.parametrize("task", TASKS)
    def test_linear_terms_add_a_number_a_category_to_the_logits(self, task: str):
        columns = draw_columns(30)
        model, without = build(task, linear_terms=True), build(task)
        np.testing.assert_array_equal(answer(model, columns), answer(without, columns))  # they start at 0
        random = np.random.default_rng(2)
        expected = answer(without, columns).astype(np.float64)
        for place, name in ((1, "city"), (2, "month"), (3, "tags"), (4, "words")):
            layer = model.get_layer(f"term_{place}")
            table = random.normal(size=layer.get_weights()[0].shape)
            layer.set_weights([table])
            expected += bag(table, columns[name])
        np.testing.assert_allclose(answer(model, columns), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({"family": "mpl"}, "family"),
            ({"hidden": [0]}, "greater than or equal to 1"),
            ({"dropout": 1.0}, "less than 1"),
            ({"l2": -0.1}, "greater than or equal to 0"),
            ({"activation": "softmax"}, "activation"),
            ({"droput": 0.1}, "droput"),
        ],
    )
    def test_values_out_of_range_are_refused(self, section: dict[str, Any], message: str):
        with pytest.raises(ValidationError, match=message):
            parse_model_config(section)

    def test_no_field_is_untested(self):
        assert set(MlpConfig.model_fields) == self.TESTED


class TestOutput:
    @pytest.mark.parametrize(("task", "logits"), [("binary", 1), ("multiclass", 3), ("regression", 1)])
    def test_width_follows_from_the_task(self, task: str, logits: int):
        assert output(task).logits == logits

    def test_classes_keep_the_order_of_the_label(self):
        label = {"name": "y", "task": "multiclass", "classes": ["9", "10", "x"]}
        assert output_of({"label": label}) == Output("multiclass", ("9", "10", "x"))
