"""The contract that every family keeps, over its own kind of input and over all kinds at once."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

from headrace.components.features.spec import dtype_of, shape_of
from headrace.components.models.output import Output
from headrace.components.models.portable import portable
from headrace.components.models.registry import (
    FAMILIES,
    build_model,
    parse_model_config,
    phases,
    training_parts,
)
from headrace.components.parity.tolerance import TOLERANCE, max_relative_difference
from headrace.components.quantization import lite
from headrace.components.quantization.serving import int8_model
from headrace.components.training.export import held_variables
from headrace.components.training.signatures import answers, save_module, transformed_module
from tests.components.modalities import ALL, TASKS, draw, features_of, image_input, labels, output

pytestmark = pytest.mark.long

ROWS = 256


@dataclass(frozen=True)
class Case:
    """A family, small, and the kinds of input that it is for."""

    section: Mapping[str, Any]
    own: tuple[str, ...]
    learning_rate: float = 0.01
    image: tuple[int, int] = (8, 1)
    int8_error: float = 0.1  # mean, as a share of the spread of the answers

    def features(self, own: bool, task: str = "binary") -> dict[str, Any]:
        features = features_of(self.own if own else ALL, task)
        for place, spec in enumerate(features["features"]):
            if spec["role"] == "image":
                features["features"][place] = image_input(*self.image)
        return features

    def build(self, own: bool, task: str = "binary", seed: int = 1, **more: Any) -> Any:
        config = parse_model_config(self.section)
        return build_model(self.features(own, task), config, output(task), seed=seed, **more)


def custom_build(
    features: Mapping[str, Any], options: Mapping[str, Any], output: Output, seed: int, precision: str
) -> Any:
    """A user's model."""
    from headrace.components.models.config import MlpConfig
    from headrace.components.models.inputs import encode, join, read_inputs

    inputs = read_inputs(features)
    x = join([encode(entry, MlpConfig()) for entry in inputs.entries])
    x = keras.layers.Dense(options["units"], "relu")(x)
    x = keras.layers.Dropout(0.1)(x)
    x = keras.layers.Dense(output.logits, dtype="float32")(x)
    return keras.Model(inputs.tensors, x)


CASES: Mapping[str, Case] = {
    "mlp": Case({"hidden": [8], "batch_norm": True, "linear_terms": True}, ("dense", "index", "indices")),
    "wide_deep": Case({"family": "wide_deep", "hidden": [8]}, ("dense", "index", "bag")),
    "linear": Case({"family": "wide_deep", "hidden": []}, ("bag",)),
    "resnet_tabular": Case(
        {"family": "resnet_tabular", "width": 8, "blocks": 2}, ("dense", "index", "one_hot", "indices")
    ),
    "cnn": Case({"family": "cnn", "filters": [4, 4], "hidden": [8], "block_dropout": 0}, ("image",)),
    "transfer": Case(
        {"family": "transfer", "backbone": "MobileNetV3Small", "weights": "none", "hidden": []},
        ("image",),
        image=(32, 3),
        int8_error=0.3,  # of fifty layers with random weights each adds its own
    ),
    "rnn": Case({"family": "rnn", "units": [6], "hidden": []}, ("series",)),
    "rnn-gru": Case(
        {"family": "rnn", "cell": "gru", "units": [6, 4], "bidirectional": False, "pool": "mean"}, ("tokens",)
    ),
    "conv1d": Case({"family": "conv1d", "filters": [8, 8], "hidden": [], "dilated": True}, ("series",)),
    "transformer": Case({"family": "transformer", "dim": 8, "blocks": 1, "heads": 2}, ("tokens",)),
    "transformer-cls": Case(
        {
            "family": "transformer",
            "dim": 8,
            "blocks": 1,
            "heads": 2,
            "pool": "cls",
            "positions": "sinusoidal",
        },
        ("series",),
    ),
    "custom": Case(
        {"family": "custom", "function": f"{__name__}:custom_build", "options": {"units": 8}},
        ("dense", "index"),
    ),
    "ensemble": Case({"family": "ensemble", "size": 2, "member": {"hidden": [8]}}, ("dense", "index")),
}
SMALL = tuple(name for name in CASES if name != "transfer")
# A backbone has fifty layers: what it shares with the others is tried in the slow tests.
EVERY = (*SMALL, pytest.param("transfer", marks=pytest.mark.slow))


def scores_of(logits: np.ndarray[Any, Any], task: str) -> np.ndarray[Any, Any]:
    """Compute what a client receives with scipy."""
    logits = logits.astype(np.float64)
    if task == "binary":
        return np.concatenate([1 - expit(logits), expit(logits)], axis=1)
    return {"multiclass": lambda: softmax(logits, axis=1), "multilabel": lambda: expit(logits)}.get(
        task, lambda: logits[:, 0]
    )()


def answer(model: Any, columns: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.asarray(model(dict(columns), training=False))


def loss_of(task: str) -> Any:
    if task == "regression":
        return keras.losses.MeanSquaredError()
    if task == "multiclass":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.BinaryCrossentropy(from_logits=True)


def save(model: Any, features: dict[str, Any], task: str, path: Path) -> str:
    module = transformed_module(
        lambda columns: model(columns, training=False), features, output(task), held_variables(model)
    )
    with portable(model):
        save_module(module, str(path))
    return str(path)


def task_for(name: str) -> str:
    """Spread the tasks over the cases: each is tried with several families."""
    return TASKS[zlib.crc32(name.encode()) % len(TASKS)]


def test_every_family_has_a_case() -> None:
    assert {case.section.get("family", "mlp") for case in CASES.values()} == set(FAMILIES)
    assert {task_for(name) for name in CASES} == set(TASKS)


@pytest.mark.parametrize("own", [True, False], ids=["own", "all"])
@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_the_features_and_the_output_float32_logits(name: str, own: bool) -> None:
    for task in (task_for(name),) if own else TASKS:
        features = CASES[name].features(own, task)
        model = CASES[name].build(own, task)
        wanted = {spec["name"]: ((None, *shape_of(spec)), dtype_of(spec)) for spec in features["features"]}
        assert {key: (item.shape, item.dtype) for key, item in model.input.items()} == wanted
        logits = answer(model, draw(features, 5)[0])
        assert logits.dtype == np.float32
        assert logits.shape == (5, 3 if task in ("multiclass", "multilabel") else 1)
        assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", SMALL)
def test_an_epoch_lowers_the_loss(name: str) -> None:
    task, case = task_for(name), CASES[name]
    columns, hidden = draw(case.features(True, task), ROWS)
    model = case.build(True, task)
    for part in training_parts(model, parse_model_config(case.section)):
        part.compile(keras.optimizers.Adam(case.learning_rate), loss_of(task))
        part.fit(columns, labels(hidden, task), batch_size=8, epochs=1, verbose=0)
    trained, fresh = (
        float(np.mean(loss_of(task)(labels(hidden, task), answer(found, columns))))
        for found in (model, case.build(True, task))
    )
    assert trained < 0.85 * fresh


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_gives_one_model(name: str) -> None:
    case = CASES[name]
    first, same, other = (case.build(False, seed=seed) for seed in (1, 1, 2))
    columns, _ = draw(case.features(False), 6)
    for a, b in zip(first.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    masked = [np.asarray(model(columns, training=True)) for model in (first, same)]
    np.testing.assert_array_equal(*masked)
    random = [weight for weight in first.weights if np.ndim(weight) > 1 and np.std(weight) > 0]
    places = [place for place, weight in enumerate(first.weights) if any(weight is w for w in random)]
    assert places or name == "linear"
    pairs = [(first.get_weights()[place], other.get_weights()[place]) for place in places]
    assert not any(np.array_equal(a, b) for a, b in pairs)
    # Nor do two weights of one shape start equal.
    values = [np.asarray(weight).tobytes() for weight in random]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", EVERY)
def test_saved_weights_give_the_same_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    columns, _ = draw(case.features(False), 20)
    model, other = case.build(False, seed=1), case.build(False, seed=2)
    randomize(model)
    expected = answer(model, columns)
    model.save_weights(str(tmp_path / "m.weights.h5"))
    other.load_weights(str(tmp_path / "m.weights.h5"))
    np.testing.assert_array_equal(answer(other, columns), expected)


def settle(model: Any, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Give every moving average what one pass tells: answers of many layers vanish without."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(dict(columns), training=True)


def randomize(model: Any, scale: float = 0.3) -> None:
    """Give every weight, moving averages too, a value that matters."""
    random = np.random.default_rng(3)
    model.set_weights(
        [
            np.abs(random.normal(1, 0.1, weight.shape)).astype("f")
            if "variance" in weight.path or "gamma" in weight.path
            else (scale * random.normal(size=weight.shape)).astype("f")
            for weight in model.weights
        ]
    )


@pytest.mark.parametrize("name", EVERY)
def test_saved_models_litert_and_int8_answer_as_keras(name: str, tmp_path: Path) -> None:
    task, case = task_for(name), CASES[name]
    features = case.features(False, task)
    columns, _ = draw(features, ROWS)
    model = case.build(False, task)
    if name == "transfer":
        settle(model, columns)
    else:
        randomize(model, 0.1)
    expected = scores_of(answer(model, columns), task)
    source = save(model, features, task, tmp_path / "model")
    signature = tf.saved_model.load(source).signatures["serving_default"]
    (served,) = signature(**{key: tf.constant(value) for key, value in columns.items()}).values()
    assert max_relative_difference(expected, served.numpy()) <= TOLERANCE

    control = lite.convert_float(source)
    elements = sum(weight.numpy().size for weight in model.weights if len(weight.shape) > 1)
    lite.check_weights(control, elements, 4)
    for rows in (ROWS, 1):
        given = {key: value[:rows] for key, value in columns.items()}
        assert max_relative_difference(expected[:rows], lite.run_lite(control, given)) <= TOLERANCE

    spread = float(expected.std())
    for variant in ("tflite_float16", "tflite_dynamic_int8", "tflite_int8"):
        found = lite.run_lite(lite.convert(variant, source, control, columns), columns)
        assert np.abs(found - expected).mean() < case.int8_error * spread, variant
    quantized = int8_model(model)
    (found,) = answers(
        quantized.forward({key: tf.constant(value) for key, value in columns.items()}), output(task)
    ).values()
    assert np.abs(found.numpy() - expected).mean() < case.int8_error / 2 * spread


@pytest.mark.parametrize("name", ["cnn", "rnn", "transformer", "resnet_tabular", "ensemble"])
def test_mixed_precision_keeps_float32_at_both_ends(name: str) -> None:
    model = CASES[name].build(False, precision="mixed_float16")
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.output.dtype == "float32"
    policies = {layer.dtype_policy.name for layer in model._flatten_layers() if layer.weights}
    assert "mixed_float16" in policies
    assert keras.config.dtype_policy().name == "float32"
    columns, _ = draw(CASES[name].features(False), 20)
    np.testing.assert_allclose(answer(model, columns), answer(CASES[name].build(False), columns), atol=2e-2)


@pytest.mark.parametrize("name", SMALL)
def test_one_phase_trains_all_of_one_part(name: str) -> None:
    config = parse_model_config(CASES[name].section)
    (phase,) = phases(config)
    assert (phase.epochs, phase.learning_rate) == (None, None)
    model = CASES[name].build(True)
    parts = training_parts(model, config)
    assert len(parts) == (2 if name == "ensemble" else 1)
    variables = [variable for part in parts for variable in part.trainable_variables]
    model.trainable = False
    for part in parts:
        phase.prepare(part)
    assert len(variables) == len([v for part in parts for v in part.trainable_variables]) > 0
    assert {id(variable) for variable in variables} == {id(v) for v in model.variables if v.trainable}
