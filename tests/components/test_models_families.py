"""What single families do, against independent computations."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.special import expit, logit, softmax

from headrace.components.features.config import ImageFeature, NumericFeature, SeriesFeature, TextFeature
from headrace.components.models import check, transfer
from headrace.components.models.backbones import BACKBONES
from headrace.components.models.config import EnsembleConfig, MlpConfig, TransferConfig
from headrace.components.models.ensemble import average
from headrace.components.models.inputs import pool_steps, read_inputs
from headrace.components.models.portable import portable
from headrace.components.models.registry import (
    build_model,
    parse_model_config,
    phases,
    training_parts,
)
from headrace.components.models.resnet_tabular import NumberEmbedding
from headrace.components.models.transformer import Positions
from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.config import parse_config
from tests.components.modalities import draw, features_of, image_input, labels, output

pytestmark = pytest.mark.long

SMALL_TRANSFER = {"family": "transfer", "backbone": "MobileNetV3Small", "hidden": [], "dropout": 0.0}


def build(section: dict[str, Any], kinds: tuple[str, ...], task: str = "binary", seed: int = 1) -> Any:
    return build_model(features_of(kinds, task), parse_model_config(section), output(task), seed=seed)


def answer(model: Any, columns: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(model(columns, training=False))


def fill(model: Any, scale: float = 0.3) -> None:
    random = np.random.default_rng(3)
    model.set_weights([(scale * random.normal(size=w.shape)).astype("f") for w in model.weights])


class TestWideDeep:
    def test_without_hidden_layers_it_is_logistic_regression_on_the_bag(self) -> None:
        columns, _ = draw(features_of(("bag", "dense")), 40)
        model = build({"family": "wide_deep", "hidden": []}, ("bag", "dense"))
        fill(model)
        table = model.get_layer("term_0").get_weights()[0]
        kernel, bias = model.get_layer("wide_2").get_weights()[0], model.get_layer("bias").get_weights()[0]
        matrix = np.zeros((40, 12))
        for row in range(40):
            for token, weight in zip(columns["words"][row], columns["words_weights"][row], strict=True):
                if token >= 0:
                    matrix[row, token] += weight
        expected = matrix @ table + columns["amount"] @ kernel + bias
        np.testing.assert_allclose(answer(model, columns), expected, rtol=1e-5, atol=1e-6)

    def test_an_mlp_without_hidden_layers_sums_the_vectors_of_a_bag(self) -> None:
        columns, _ = draw(features_of(("bag",)), 20)
        model = build({"hidden": []}, ("bag",))
        table = model.get_layer("embedding_0").get_weights()[0]
        kernel, bias = model.get_layer("logits").get_weights()
        vectors = table[np.maximum(columns["words"], 0)] * columns["words_weights"][..., None]
        expected = vectors.sum(axis=1) @ kernel + bias
        np.testing.assert_allclose(answer(model, columns), expected, rtol=1e-5, atol=1e-6)

    def test_penalties_of_the_linear_part(self) -> None:
        model = build({"family": "wide_deep", "wide_l1": 0.1, "wide_l2": 0.01}, ("bag", "dense"))
        fill(model)
        wide = [model.get_layer(name).get_weights()[0] for name in ("term_0", "wide_2")]
        expected = sum(0.1 * np.abs(w).sum() + 0.01 * np.square(w).sum() for w in wide)
        assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


class TestSteps:
    def test_pooling_is_what_python_counts(self) -> None:
        random = np.random.default_rng(0)
        x, lengths = random.normal(size=(5, 4, 3)).astype("f"), [0, 1, 2, 3, 4]
        mask = np.arange(4) < np.array(lengths)[:, None]
        found = np.asarray(pool_steps(tf.constant(x), tf.constant(mask), ("mean", "max", "last")))
        zeros = np.zeros(3)
        expected = [
            np.concatenate([x[row, :n].mean(0), x[row, :n].max(0), x[row, n - 1]] if n else [zeros] * 3)
            for row, n in enumerate(lengths)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("kind", ["series", "tokens"])
    @pytest.mark.parametrize(
        "section",
        [
            {"family": "rnn", "units": [5, 4]},
            {"family": "rnn", "units": [5], "pool": "max", "cell": "simple"},
            {"family": "conv1d", "filters": [6, 6], "norm": "batch"},
            {"family": "transformer", "dim": 8, "blocks": 2, "pool": "cls"},
            {"family": "transformer", "dim": 8, "positions": "sinusoidal"},
            {"hidden": [5]},
        ],
        ids=lambda section: "-".join(str(value) for value in list(section.values())[:2]),
    )
    def test_length_and_content_of_padding_do_not_matter(self, section: dict[str, Any], kind: str) -> None:
        short = features_of((kind,))
        long = features_of((kind,))
        entry = long["features"][0]
        if kind == "series":
            entry["shape"], entry["width"] = [11, 3], 33
        else:
            entry["width"] = 10
        columns, _ = draw(short, 12)
        wide = dict(columns)
        name = entry["name"]
        extra = 4
        wide[name] = np.pad(columns[name], ((0, 0), (0, extra)) + ((0, 0),) * (columns[name].ndim - 2))
        if kind == "series":
            padding = np.arange(11) >= wide["track_length"]
            wide[name][padding] = 7.0  # the length decides, whatever stands behind it
        config = parse_model_config(section)
        small, large = (build_model(features, config, output(), seed=2) for features in (short, long))
        for one, other in zip(small.weights, large.weights, strict=True):
            value = np.asarray(one)
            if one.shape != other.shape:  # a learned position for every step
                value = np.pad(value, ((0, extra), (0, 0)))
            other.assign(value)
        found, expected = answer(large, wide), answer(small, columns)
        rows = (
            slice(1, None) if section["family" if "family" in section else "hidden"] == "rnn" else slice(None)
        )
        np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("family", ["rnn", "conv1d", "transformer"])
    def test_the_order_of_steps_matters(self, family: str) -> None:
        model = build({"family": family}, ("tokens",))
        forth, back = np.array([[3, 4, 5, 6, 7, 8]]), np.array([[8, 7, 6, 5, 4, 3]])
        fill(model)
        assert not np.allclose(answer(model, {"text": forth}), answer(model, {"text": back}), atol=1e-4)


class TestTransformer:
    def test_attention_is_that_of_keras(self) -> None:
        model = build(
            {"family": "transformer", "dim": 8, "heads": 2, "blocks": 1, "positions": "none"}, ("series",)
        )
        fill(model)
        columns, _ = draw(features_of(("series",)), 9)
        before = model.get_layer("attention_norm_0_0").output
        after = model.get_layer("attention_0_0").output
        x, found = (np.asarray(t) for t in keras.Model(model.input, [before, after])(columns))
        theirs = keras.layers.MultiHeadAttention(2, 4)
        mask = np.arange(7) < columns["track_length"]
        theirs(x, x, attention_mask=mask[:, None, :])
        kernels = [model.get_layer(f"{part}_0_0").get_weights() for part in ("query", "key", "value")]
        weights = [w for kernel, bias in kernels for w in (kernel.reshape(8, 2, 4), bias.reshape(2, 4))]
        kernel, bias = model.get_layer("attention_0_0").get_weights()
        theirs.set_weights([*weights, kernel.reshape(2, 4, 8), bias])
        expected = np.asarray(theirs(x, x, attention_mask=mask[:, None, :]))
        np.testing.assert_allclose(found[mask.any(1)], expected[mask.any(1)], rtol=1e-4, atol=1e-5)

    def test_sinusoidal_positions_are_those_of_the_paper(self) -> None:
        found = np.asarray(Positions("sinusoidal")(np.zeros((1, 5, 6), np.float32)))[0]
        for step in range(5):
            for i in range(3):
                angle = step / 10_000 ** (2 * i / 6)
                assert found[step, 2 * i] == pytest.approx(np.sin(angle), abs=1e-6)
                assert found[step, 2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-6)

    def test_dim_must_be_a_multiple_of_heads(self) -> None:
        with pytest.raises(ValidationError, match=r"multiple of `heads`. Received: 10 and 4"):
            parse_model_config({"family": "transformer", "dim": 10})


class TestResnetTabular:
    def test_number_embedding_is_what_numpy_computes(self) -> None:
        layer = NumberEmbedding(5, 3, 0.5)
        x = np.random.default_rng(0).normal(size=(6, 2)).astype("f")
        found = np.asarray(layer(x)).reshape(6, 2, 3)
        frequency, phase, kernel, bias = layer.get_weights()
        for column in range(2):
            waves = np.cos(2 * np.pi * x[:, column : column + 1] * frequency[column] + phase[column])
            mixed = waves @ kernel[column] + bias[column]
            np.testing.assert_allclose(found[:, column, 0], x[:, column], rtol=1e-6)
            np.testing.assert_allclose(found[:, column, 1:], mixed, rtol=1e-4, atol=1e-5)

    def test_fields_set_the_blocks(self) -> None:
        section = {"family": "resnet_tabular", "blocks": 2, "width": 6, "expansion": 1.5, "norm": "layer"}
        model = build(section | {"numbers": "plain"}, ("dense", "index"))
        names = {layer.name for layer in model.layers}
        assert {"up_0", "up_1"} <= names
        assert "up_2" not in names
        assert not any(name.startswith("numbers_") for name in names)
        assert model.get_layer("up_1").units == 9
        assert isinstance(model.get_layer("norm_0"), keras.layers.LayerNormalization)


class TestCnn:
    @pytest.mark.parametrize("pool", ["max", "average", "stride"])
    @pytest.mark.parametrize("whole", ["flatten", "average", "max"])
    def test_blocks_halve_height_and_width(self, pool: str, whole: str) -> None:
        section = {"family": "cnn", "filters": [3, 5], "convolutions": 1, "pool": pool, "global_pool": whole}
        model = build(section, ("image",))
        assert model.get_layer("vector_0").input.shape == (None, 2, 2, 5)
        assert model.get_layer("vector_0").output.shape == (None, 20 if whole == "flatten" else 5)

    def test_a_picture_smaller_than_the_blocks_still_passes(self) -> None:
        features = features_of(("image",))
        features["features"] = [image_input(1)]
        section = {"family": "cnn", "filters": [3, 4, 5]}
        model = build_model(features, parse_model_config(section), output())
        assert answer(model, {"photo": np.zeros((2, 1, 1, 1), "f")}).shape == (2, 1)


class TestEnsemble:
    @pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
    def test_scores_are_the_mean_of_the_members(self, task: str) -> None:
        random = np.random.default_rng(1)
        width = output(task).logits
        logits = [(6 * random.normal(size=(50, width))).astype("f") for _ in range(3)]
        found = np.asarray(average([tf.constant(values) for values in logits], output(task)), np.float64)
        if task == "regression":
            np.testing.assert_allclose(found, np.mean(logits, axis=0), rtol=1e-5, atol=1e-6)
        elif task == "multiclass":
            expected = np.mean([softmax(values, axis=1) for values in logits], axis=0)
            np.testing.assert_allclose(softmax(found, axis=1), expected, rtol=1e-4, atol=1e-6)
        else:
            expected = np.mean([expit(values.astype(np.float64)) for values in logits], axis=0)
            np.testing.assert_allclose(found, logit(expected), rtol=1e-3, atol=1e-4)

    def test_sure_members_stay_finite(self) -> None:
        sure = [tf.constant([[200.0], [-200.0], [200.0]]), tf.constant([[200.0], [-200.0], [-200.0]])]
        found = np.asarray(average(sure, output("binary")))[:, 0]
        np.testing.assert_allclose(found, [200, -200, 0], atol=1e-3)

    def test_members_are_the_models_of_their_own_seeds(self) -> None:
        config = parse_model_config({"family": "ensemble", "size": 3, "member": {"hidden": [4]}})
        model = build_model(features_of(("dense",)), config, output(), seed=7)
        parts = training_parts(model, config)
        assert len(parts) == 3
        for place, part in enumerate(parts):
            alone = build_model(features_of(("dense",)), MlpConfig(hidden=(4,)), output(), seed=7 + place)
            for one, other in zip(part.get_weights(), alone.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
        before = model.get_weights()
        parts[1].set_weights([w + 1 for w in parts[1].get_weights()])
        changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert sum(changed) == len(parts[1].weights)

    def test_an_ensemble_of_ensembles_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="ensemble"):
            parse_model_config({"family": "ensemble", "member": {"family": "ensemble"}})


class TestPortable:
    @pytest.mark.parametrize("kind", [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN])
    @pytest.mark.parametrize("masked", [True, False])
    @pytest.mark.parametrize(
        "arguments",
        [{}, {"return_sequences": True}, {"go_backwards": True, "return_sequences": True}],
        ids=["last", "all", "back"],
    )
    def test_plain_loops_answer_as_keras(self, kind: Any, masked: bool, arguments: dict[str, Any]) -> None:
        x = keras.Input((5, 3))
        mask = keras.Input((5,), dtype="bool")
        y = kind(4, **arguments)(x, mask=mask if masked else None)
        both = keras.layers.Bidirectional(kind(3))(x, mask=mask if masked else None)
        model = keras.Model([x, mask], [y, both])
        fill(model)
        random = np.random.default_rng(0)
        values = random.normal(size=(6, 5, 3)).astype("f")
        present = np.arange(5) < random.integers(1, 6, (6, 1))
        expected = model([values, present])
        with portable(model):
            graph = tf.function(lambda a, b: model([a, b], training=False))
            found = graph(values, present)
            operators = {
                op.type for op in graph.get_concrete_function(values, present).graph.get_operations()
            }
        assert not any("TensorList" in name for name in operators)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not any("inner_loop" in vars(layer) for layer in model._flatten_layers())


def small_images(rows: int = 8) -> tuple[dict[str, Any], dict[str, Any]]:
    features = features_of(("image",))
    features["features"] = [image_input(32, 3)]
    return features, draw(features, rows)[0]


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    keras.utils.set_random_seed(5)
    backbone = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one pass gives statistics, so that the answers are of order 1
    backbone(255 * np.random.default_rng(0).random((64, 32, 32, 3)), training=True)
    path = str(tmp_path_factory.mktemp("backbone") / "small.weights.h5")
    backbone.save_weights(path)
    return path


class TestTransfer:
    def test_two_phases_first_the_head_then_upper_layers(self, backbone_file: str) -> None:
        section = SMALL_TRANSFER | {"weights": backbone_file}
        section["fine_tune"] = {"from_layer": -12, "learning_rate": 1e-4, "epochs": 3}
        config = parse_model_config(section)
        features, columns = small_images(16)
        model = build_model(features, config, output(), seed=1)
        first, second = phases(config)
        assert (first.epochs, first.learning_rate, second.epochs, second.learning_rate) == (
            None,
            None,
            3,
            1e-4,
        )
        moved = []
        for phase in (first, second):
            phase.prepare(model)
            before = {weight.path: weight.numpy() for weight in model.weights}
            model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
            model.fit(columns, np.arange(16).reshape(-1, 1) % 2, epochs=1, verbose=0)
            moved.append({w.path for w in model.weights if not np.array_equal(before[w.path], w.numpy())})
        assert moved[0] == {"logits/kernel", "logits/bias"}
        upper = {layer.name for layer in model.get_layer("backbone_0").layers[-12:]}
        tuned = moved[1] - moved[0]
        assert tuned
        assert {path.split("/")[0] for path in tuned} <= upper | {"backbone_0"}
        assert not any("gamma" in path or "moving" in path for path in tuned)

    @pytest.mark.slow
    def test_an_epoch_of_the_head_alone_lowers_the_loss(self, backbone_file: str) -> None:
        config = parse_model_config(SMALL_TRANSFER | {"weights": backbone_file})
        features, _ = small_images()
        columns, hidden = draw(features, 128)
        model = build_model(features, config, output(), seed=1)
        phases(config)[0].prepare(model)
        model.compile(keras.optimizers.Adam(0.003), keras.losses.BinaryCrossentropy(from_logits=True))
        fresh = model.evaluate(columns, labels(hidden, "binary"), verbose=0)
        model.fit(columns, labels(hidden, "binary"), batch_size=8, epochs=1, verbose=0)
        assert model.evaluate(columns, labels(hidden, "binary"), verbose=0) < 0.9 * fresh

    def test_weights_of_a_file_are_the_backbones(self, backbone_file: str, tmp_path: Path) -> None:
        features, columns = small_images()
        config = parse_model_config(SMALL_TRANSFER | {"weights": backbone_file})
        model = build_model(features, config, output(), seed=1)
        other = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))
        other.load_weights(backbone_file)
        vector = np.asarray(other(columns["photo"] * 255.0, training=False)).mean(axis=(1, 2))
        kernel, bias = model.get_layer("logits").get_weights()
        np.testing.assert_allclose(answer(model, columns), vector @ kernel + bias, rtol=1e-3, atol=1e-4)
        bare = build_model(features, config, output(), seed=1, pretrained=False)
        assert not np.allclose(answer(bare, columns), answer(model, columns))
        (tmp_path / "broken.weights.h5").write_bytes(b"nothing")
        broken = parse_model_config(SMALL_TRANSFER | {"weights": str(tmp_path / "broken.weights.h5")})
        with pytest.raises(ConfigError, match=r"must hold the weights of MobileNetV3Small .*broken"):
            build_model(features, broken, output())

    def test_without_weights_all_is_trained_at_once(self) -> None:
        (phase,) = phases(parse_model_config(SMALL_TRANSFER | {"weights": "none"}))
        assert phase.epochs is None

    def test_a_download_that_fails_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
        features, _ = small_images()
        with pytest.raises(
            EnvironmentProblem, match="weights of MobileNetV3Small must be downloadable"
        ) as info:
            build_model(features, parse_model_config(SMALL_TRANSFER), output())
        assert "`model.weights`" in info.value.hint

    @pytest.mark.parametrize("backbone", ["MobileNetV2", "MobileNetV3Large", "ResNet50", "VGG16"])
    @pytest.mark.parametrize(
        "scale",
        [
            {"multiply": [255.0] * 3, "add": [0.0] * 3},
            {"multiply": [127.5] * 3, "add": [127.5] * 3},
            {"multiply": [60.0, 50.0, 40.0], "add": [120.0, 110.0, 100.0]},
        ],
        ids=["unit", "signed", "zscore"],
    )
    def test_pixels_are_what_keras_preprocessing_makes(self, backbone: str, scale: dict[str, Any]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("f")
        given = (pixels - np.array(scale["add"])) / np.array(scale["multiply"])
        found = self.scaled(backbone, given.astype("f"), scale, "none")
        modules = {
            "MobileNetV2": keras.applications.mobilenet_v2,
            "MobileNetV3Large": keras.applications.mobilenet_v3,
            "ResNet50": keras.applications.resnet50,
            "VGG16": keras.applications.vgg16,
        }
        expected = modules[backbone].preprocess_input(pixels.copy())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-4)

    def test_efficientnet_sees_pixels_as_in_its_training(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("f")
        scale = {"multiply": [255.0] * 3, "add": [0.0] * 3}
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        found = self.scaled("EfficientNetB0", pixels / 255, scale, "imagenet")
        # The layers inside: Rescaling(1 / 255), then Normalization with these means and *variances* std.
        inside = (found / 255 - mean) / np.sqrt(std)
        np.testing.assert_allclose(inside, (pixels / 255 - mean) / std, rtol=1e-4, atol=1e-4)

    def test_grey_becomes_three_equal_channels(self) -> None:
        grey = np.random.default_rng(0).random((2, 4, 4, 1)).astype("f")
        scale = {"multiply": [255.0], "add": [0.0]}
        found = self.scaled("MobileNetV3Small", grey, scale, "none")
        np.testing.assert_allclose(found, np.repeat(255 * grey, 3, axis=-1), rtol=1e-6)

    @staticmethod
    def scaled(backbone: str, given: np.ndarray[Any, Any], scale: Any, weights: str) -> np.ndarray[Any, Any]:
        spec = image_input(4, given.shape[-1]) | {"pixels": scale}
        inputs = read_inputs({"features": [spec]})
        config = TransferConfig.model_validate(
            {"family": "transfer", "backbone": backbone, "weights": weights}
        )
        probe = keras.Model(inputs.tensors, transfer._pixels(inputs.entries[0], config))
        return np.asarray(probe({"photo": given}))

    def test_a_layer_that_is_not_there(self, backbone_file: str) -> None:
        section = SMALL_TRANSFER | {"weights": backbone_file, "fine_tune": {"from_layer": "block_99"}}
        config = parse_model_config(section)
        model = build_model(small_images()[0], config, output(), pretrained=False)
        with pytest.raises(ConfigError, match=r"must name a layer of the backbone .* Received: block_99"):
            phases(config)[1].prepare(model)


def test_every_backbone_is_in_keras() -> None:
    from typing import get_args

    from headrace.components.models.config import Backbone

    assert set(BACKBONES) == set(get_args(Backbone))
    assert all(hasattr(keras.applications, name) for name in BACKBONES)


def raises_in_build(features: Any, options: Any, output: Any, seed: int, precision: str) -> Any:
    raise RuntimeError("no luck")


def returns_text(features: Any, options: Any, output: Any, seed: int, precision: str) -> Any:
    return "model"


def forgets_an_input(features: Any, options: Any, output: Any, seed: int, precision: str) -> Any:
    inputs = read_inputs({"features": features["features"][:1]})
    return keras.Model(inputs.tensors, keras.layers.Dense(1)(inputs.entries[0].tensor))


def answers_too_wide(features: Any, options: Any, output: Any, seed: int, precision: str) -> Any:
    inputs = read_inputs(features)
    x = keras.layers.Concatenate()([keras.ops.cast(e.tensor, "float32") for e in inputs.entries])
    return keras.Model(inputs.tensors, keras.layers.Dense(5)(x))


class TestCustom:
    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("nowhere.at_all:build", r"importable function. Received: 'nowhere.at_all:build'"),
            (f"{__name__}:nothing", r"must name an importable function"),
            (f"{__name__}:SMALL_TRANSFER", r"must be a function"),
            (f"{__name__}:raises_in_build", r"Received: RuntimeError: no luck"),
            (f"{__name__}:returns_text", r"functional keras.Model over a dict of inputs. Received: str"),
            (f"{__name__}:forgets_an_input", r"Received: None instead of \(\(1,\), 'int64'\) for 'city'"),
            (f"{__name__}:answers_too_wide", r"float32 \[rows, 1\]. Received: float32 \[None, 5\]"),
        ],
    )
    def test_what_is_no_such_model_is_refused(self, function: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            build({"family": "custom", "function": function}, ("dense", "index"))


class TestChecks:
    IMAGE = ImageFeature(kind="image", height=28, width=28)
    SERIES = SeriesFeature(kind="series", max_length=9)
    BAG = TextFeature(kind="text", output="tfidf")
    TEXT = TextFeature(kind="text")
    NUMBER = NumericFeature(kind="numeric")

    @pytest.mark.parametrize(
        ("family", "feature"),
        [("cnn", IMAGE), ("rnn", SERIES), ("conv1d", TEXT), ("transformer", TEXT), ("mlp", BAG)],
    )
    def test_a_family_takes_its_kind_beside_others(self, family: str, feature: Any) -> None:
        check.check_model(parse_model_config({"family": family}), {"x": feature, "n": self.NUMBER})

    @pytest.mark.parametrize(
        ("family", "feature", "message"),
        [
            (
                "cnn",
                SERIES,
                r"`cnn` needs at least one feature of kind image. Received: features of kind series",
            ),
            ("rnn", BAG, r"of kind text with `output: sequence`. Received: features of kind text"),
            ("transformer", NUMBER, r"Received: features of kind numeric"),
            ("transfer", IMAGE, r"at least 32 x 32 pixels. Received: 28 x 28 \(features.x\)"),
        ],
    )
    def test_a_family_without_its_kind_is_refused(self, family: str, feature: Any, message: str) -> None:
        for section in ({"family": family}, {"family": "ensemble", "member": {"family": family}}):
            with pytest.raises(ConfigError, match=message):
                check.check_model(parse_model_config(section), {"x": feature})

    def test_building_refuses_too(self) -> None:
        with pytest.raises(ConfigError, match=r"role image. Received: dense, index"):
            build({"family": "cnn"}, ("dense", "index"))

    def test_the_whole_config_is_refused(self) -> None:
        raw: dict[str, Any] = {
            "schema_version": 1,
            "name": "x",
            "data": {"path": "x.csv", "label": "y"},
            "features": {"a": {"kind": "numeric"}},
        }
        with pytest.raises(ConfigError, match="family `cnn` needs at least one feature of kind image"):
            parse_config(raw | {"model": {"family": "cnn"}})
        with pytest.raises(ConfigError, match=r"unknown key `model.hiden`.* Nearest valid key: `hidden`"):
            parse_config(raw | {"model": {"hiden": [3]}})
        with pytest.raises(ConfigError, match=r"unknown key `model.filtres`.* Nearest valid key: `filters`"):
            parse_config(raw | {"model": {"family": "cnn", "filtres": [3]}})
        with pytest.raises(ConfigError, match=r"`model.family` must be one of 'mlp', .*Received: 'cn'"):
            parse_config(raw | {"model": {"family": "cn"}})
        assert parse_config(raw | {"model": {"hidden": [3]}}).model == MlpConfig(hidden=(3,))

    def test_weights_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(check, "_WEIGHTS_HOST", ("127.0.0.1", 9))
        config = parse_model_config(SMALL_TRANSFER)
        with pytest.raises(
            EnvironmentProblem, match=r"MobileNetV3Small must be downloadable or in Keras' cache"
        ):
            check.check_weights(config)
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5").touch()
        check.check_weights(config)
        check.check_weights(parse_model_config(SMALL_TRANSFER | {"weights": "none"}))
        check.check_weights(MlpConfig())
        with pytest.raises(ConfigError, match=r"an existing file. Received: gone.h5"):
            check.check_weights(parse_model_config(SMALL_TRANSFER | {"weights": "gone.h5"}))
        (tmp_path / "mine.h5").touch()
        for known in (f"{tmp_path}/mine.h5", f"file://{tmp_path}/mine.h5"):
            check.check_weights(parse_model_config(SMALL_TRANSFER | {"weights": known}))
        with pytest.raises(ConfigError, match=r"an existing file. Received: file://.*/gone.h5 \(model.w"):
            check.check_weights(
                parse_model_config(SMALL_TRANSFER | {"weights": f"file://{tmp_path}/gone.h5"})
            )

    def test_weights_files_start_at_the_config(self) -> None:
        member = parse_model_config(SMALL_TRANSFER | {"weights": "nets/a.h5"})
        placed = check.place_weights(EnsembleConfig(family="ensemble", member=member), Path("/somewhere"))
        assert isinstance(placed, EnsembleConfig)
        assert isinstance(placed.member, TransferConfig)
        assert placed.member.weights == "/somewhere/nets/a.h5"
        for weights in ("imagenet", "none", "s3://bucket/a.h5"):
            given = parse_model_config(SMALL_TRANSFER | {"weights": weights})
            assert check.place_weights(given, Path("/somewhere")) == given
