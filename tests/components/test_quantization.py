import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.independence.mark import copy_mark
from headrace.components.models.output import Output
from headrace.components.node import NodeResult
from headrace.components.quantization import flatbuffer, lite
from headrace.components.quantization.calibration import read_calibration_rows
from headrace.components.quantization.rebuild import read_output, rebuild_model
from headrace.components.quantization.run import run
from headrace.components.quantization.scaling import dequantize, quantize_columns
from headrace.components.quantization.serving import TooLarge, int8_model, stored_constant_bytes
from headrace.components.quantization.tables import quantize_tables
from headrace.components.training.export import export_model
from headrace.components.training.signatures import save_module, serving_module, transformed_module
from headrace.serving.session import SessionModel
from tests.components.trained_model import Trained, context, trained

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def made() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def built(made: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("variants")
    build(made.inputs(), root)
    return root / "variants"


def build(inputs: dict[str, list[str]], root: Path, **section: Any) -> NodeResult:
    config = {"data.task": "binary", "data.label": "late", "variants": section, "seed": 1}
    return run(context("variants", root, inputs, ["variants"], config))


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads((folder / "variants.json").read_text())}


def calibration(made: Trained, rows: int = 512) -> dict[str, np.ndarray]:
    return read_calibration_rows(str(made.root / "transformed_examples"), made.features(), rows, seed=2)


def small_keras(units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(11)
    number, index = keras.Input((4,), name="number"), keras.Input((1,), dtype="int64", name="index")
    vector = keras.layers.Flatten()(keras.layers.Embedding(300, 8, embeddings_initializer="normal")(index))
    joined = keras.layers.Concatenate()([number, vector])
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(32, activation="relu")(joined))
    dropped = keras.layers.Dropout(0.5)(hidden)  # has an integer state, which is not a weight
    return keras.Model({"number": number, "index": index}, keras.layers.Dense(units)(dropped))


def small_rows(rows: int = 64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    return {"number": random.normal(size=(rows, 4)).astype("f"), "index": random.integers(0, 300, (rows, 1))}


class TestScaling:
    def test_error_is_at_most_half_a_step_of_its_own_column(self):
        values = np.random.default_rng(0).normal(size=(50, 6)).astype("f") * [1e-3, 1, 10, 1e3, 1, 1]
        values = values.astype("f")
        quantized, scales = quantize_columns(values)
        assert quantized.dtype == np.int8
        assert scales.shape == (6,)
        assert (np.abs(dequantize(quantized, scales) - values) <= 0.5001 * np.abs(values).max(0) / 127).all()

    def test_largest_magnitude_maps_to_127_and_zero_columns_stay_zero(self):
        quantized, scales = quantize_columns(np.array([[0, -3.0], [0, 1.5]], "f"))
        assert quantized.tolist() == [[0, -127], [0, 64]]
        assert scales.tolist() == [1.0, pytest.approx(3 / 127)]

    @pytest.mark.parametrize("smallest", [1e-45, 1e-40])
    def test_denormal_columns_give_finite_scales(self, smallest):
        quantized, scales = quantize_columns(np.full((4, 2), smallest, "f"))
        assert (scales > 0).all()
        assert np.isfinite(dequantize(quantized, scales)).all()


class TestInt8Model:
    def test_forward_is_the_model_with_dequantized_weights(self):
        model, rows = small_keras(), small_rows()
        found = int8_model(model).forward({name: tf.constant(value) for name, value in rows.items()}).numpy()
        weights = [dequantize(*quantize_columns(w)) if w.ndim == 2 else w for w in model.get_weights()]
        model.set_weights(weights)
        np.testing.assert_allclose(found, model.predict(rows, verbose=0), rtol=1e-5, atol=1e-6)

    def test_counts_the_bytes_that_it_stores(self):
        quantized = int8_model(small_keras(3))
        # int8 table, two kernels; float32 scales of each column
        assert quantized.constant_bytes == 300 * 8 + 12 * 32 + 32 * 3 + 4 * (8 + 32 + 3)
        # biases of both layers, four vectors of the normalisation, the state of dropout (two uint32 or int64)
        assert quantized.variable_bytes in (4 * (32 + 3 + 4 * 32) + size for size in (8, 16))

    def test_two_models_in_one_process_keep_their_weights_apart(self, made, tmp_path):
        rows = made.golden_rows()[:8]
        paths = [tmp_path / "a", tmp_path / "b"]
        fitted = FittedTransform(str(made.root / "transform_graph"))
        for path, seed in zip(paths, (1, 2), strict=True):
            quantized = int8_model(_untrained(made, seed))
            save_module(
                serving_module(quantized.forward, fitted, Output("binary", ("0", "1")), quantized.trackables),
                str(path),
            )
        alone = [_scores_restored(path, rows, made) for path in paths]
        together = [tf.saved_model.load(str(path)) for path in paths]
        for loaded, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(_scores(loaded, rows, made), expected, atol=1e-6)
        assert np.abs(alone[0] - alone[1]).max() > 1e-3

    def test_weights_beyond_the_limit_of_a_protobuf_are_refused(self):
        with pytest.raises(TooLarge, match=r"at most 1,000 bytes. Received: [\d,]+ bytes") as caught:
            int8_model(small_keras(), max_constant_bytes=1000)
        assert "push `float32`" in caught.value.hint


def _untrained(made: Trained, seed: int) -> keras.Model:
    from headrace.components.models.registry import build_model, parse_model_config

    return build_model(
        made.features(), parse_model_config({"hidden": [16]}), Output("binary", ("0", "1")), seed=seed
    )


def _columns(rows: list[dict[str, Any]], made: Trained) -> dict[str, np.ndarray]:
    from headrace.serving.raw import raw_columns

    return raw_columns(rows, {column["name"]: column["type"] for column in made.features()["raw"]})


def _scores(loaded: Any, rows: list[dict[str, Any]], made: Trained) -> np.ndarray:
    columns = {name: tf.constant(values) for name, values in _columns(rows, made).items()}
    return loaded.signatures["serving_raw"](**columns)["scores"].numpy()


def _scores_restored(path: Path, rows: list[dict[str, Any]], made: Trained) -> np.ndarray:
    with SessionModel.load(str(path)) as model:
        return model.run("serving_raw", _columns(rows, made))["scores"]


class TestInt8Weights:
    def test_weights_on_disk_are_at_most_0_28_of_the_parameters(self, made, built):
        entry = listing(built)["int8_weights"]
        parameter_bytes = json.loads((made.root / "model/model.json").read_text())["parameter_bytes"]
        assert entry["weight_bytes"] <= 0.28 * parameter_bytes

    def test_files_grow_by_the_weights_and_hold_no_float_copy(self, made, built):
        entry = listing(built)["int8_weights"]
        constants = stored_constant_bytes(str(built / "int8_weights"))
        without = stored_constant_bytes(str(made.root / "model/Format-Serving"))
        assert 0.9 * entry["weight_bytes"] < constants - without < 1.1 * entry["weight_bytes"]
        data = sum(f.stat().st_size for f in (built / "int8_weights").glob("variables/variables.data-*"))
        assert data < 30_000

    def test_session_and_object_loader_answer_alike_on_both_signatures(self, made, built):
        from headrace.components.features.golden import encode_rows

        rows, path = made.golden_rows(), str(built / "int8_weights")
        loaded = tf.saved_model.load(path)
        types = {column["name"]: column["type"] for column in made.features()["raw"]}
        examples = encode_rows(rows, types)
        with SessionModel.load(path) as model:
            raw = model.run("serving_raw", _columns(rows, made))
            parsed = model.run("serving_default", {"examples": np.array(examples, object)})
        np.testing.assert_allclose(raw["scores"], _scores(loaded, rows, made), atol=1e-6)
        np.testing.assert_allclose(raw["scores"], parsed["scores"], atol=1e-6)
        assert raw["classes"].tolist() == [[b"0", b"1"]] * len(rows)

    def test_transform_features_is_unchanged(self, made, built):
        from headrace.components.features.golden import encode_rows

        rows = made.golden_rows()
        types = {column["name"]: column["type"] for column in made.features()["raw"]}
        found = tf.saved_model.load(str(built / "int8_weights")).signatures["transform_features"](
            examples=tf.constant(encode_rows(rows, types))
        )
        golden = json.loads((made.root / "transform_graph/headrace/golden.json").read_text())["transformed"]
        assert set(found) == set(golden)
        for name, values in golden.items():
            np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-5, atol=1e-6)

    def test_answers_stay_near_float32(self, made, built):
        rows = made.golden_rows()
        reference = _scores(tf.saved_model.load(str(made.root / "model/Format-Serving")), rows, made)
        found = _scores(tf.saved_model.load(str(built / "int8_weights")), rows, made)
        assert 0 < np.abs(found - reference).max() < 0.02


class TestLite:
    def test_sizes(self, built):
        entries = listing(built)
        control = entries["tflite_float32"]
        assert entries["tflite_float16"]["size_bytes"] < 0.56 * control["size_bytes"]
        # The graph itself, 12 KB, weighs much beside the 35 KB of weights of this small model.
        for name in ("tflite_int8", "tflite_dynamic_int8"):
            assert entries[name]["weight_bytes"] <= 0.28 * control["weight_bytes"]
            assert entries[name]["size_bytes"] <= 0.34 * control["size_bytes"]

    @pytest.mark.parametrize(
        ("name", "difference", "flips"),
        [
            ("tflite_float32", 1e-5, 0.0),
            ("tflite_float16", 1e-3, 0.002),
            ("tflite_dynamic_int8", 0.1, 0.01),
            ("tflite_int8", 0.06, 0.01),
        ],
    )
    def test_answers_near_the_saved_model(self, made, built, name, difference, flips):
        rows = calibration(made)
        saved = tf.saved_model.load(str(made.root / "model/Format-Transformed")).signatures["serving_default"]
        reference = saved(**{key: tf.constant(value) for key, value in rows.items()})["scores"].numpy()
        found = lite.run_lite((built / name / "model.tflite").read_bytes(), rows)
        assert np.abs(found - reference).max() <= difference
        assert np.mean(found.argmax(1) != reference.argmax(1)) <= flips
        assert listing(built)[name]["max_abs_diff"] <= difference

    @pytest.mark.parametrize("name", ["tflite_int8", "tflite_dynamic_int8"])
    def test_embeddings_are_int8_and_inputs_unchanged(self, made, built, name):
        model = flatbuffer.read((built / name / "model.tflite").read_bytes())
        graph = model.subgraphs[0]
        floats = [flatbuffer.constant(model, t) for t in graph.tensors if t.type == 0]
        largest = max(value.size for value in floats if value is not None)
        assert largest < 256
        kinds = {graph.tensors[index].type for index in graph.inputs}
        assert kinds == {0, 4}  # FLOAT32 and INT64, as transformed
        assert {graph.tensors[index].type for index in graph.outputs} == {0}

    def test_only_the_first_product_computes_in_float(self, built):
        """It reads features of any range; see quantization/lite.py."""
        model = flatbuffer.read((built / "tflite_int8/model.tflite").read_bytes())
        graph, kinds = model.subgraphs[0], []
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode == 9:  # FULLY_CONNECTED
                kinds.append([graph.tensors[index].type for index in operator.inputs[:2]])
        assert kinds == [[0, 0], [9, 9], [9, 9]]  # FLOAT32, then INT8
        assert len(flatbuffer.mixed_products(model)) == 1

    def test_a_feature_of_wide_range_leaves_the_others_their_precision(self, tmp_path):
        model, rows = small_keras(), small_rows(512)
        rows["number"][:, 0] *= 1e4
        weights = model.get_weights()
        weights[1][0] = 0  # the first dense kernel's row of that feature: it says nothing, loudly
        model.set_weights(weights)
        source = saved(model, tmp_path / "model")
        control = lite.convert_float(source)
        found = lite.run_lite(lite.convert("tflite_int8", source, control, rows), rows)
        expected = lite.run_lite(control, rows)
        assert np.mean(found.argmax(1) != expected.argmax(1)) < 0.03

    def test_constants_behind_the_flatbuffer_are_found(self, built):
        content = (built / "tflite_float32/model.tflite").read_bytes()
        model = flatbuffer.read(content)
        expected = flatbuffer.constant_bytes(model)
        index = max(
            range(len(model.buffers)),
            key=lambda i: 0 if model.buffers[i].data is None else len(model.buffers[i].data),
        )
        data = model.buffers[index].data
        model.buffers[index].data, model.buffers[index].offset = None, 1
        model.buffers[index].size = len(data)
        end = -(-len(flatbuffer.write(model)) // 16) * 16
        model.buffers[index].offset = end
        moved = flatbuffer.write(model).ljust(end, b"\0") + data.tobytes()
        assert flatbuffer.constant_bytes(flatbuffer.read(moved)) == expected

    def test_batches_of_any_size(self, made, built):
        content = (built / "tflite_int8/model.tflite").read_bytes()
        rows = calibration(made, 300)
        whole = lite.run_lite(content, rows)
        parts = [
            lite.run_lite(content, {name: value[a:b] for name, value in rows.items()})
            for a, b in ((0, 1), (1, 8), (8, 300))
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)

    def test_table_surgery_alone_costs_half_a_step(self, tmp_path):
        model, rows = small_keras(), small_rows()
        source = saved(model, tmp_path / "model")
        control = lite.convert_float(source)
        changed = quantize_tables(control)
        table = model.get_weights()[0]
        model.set_weights([dequantize(*quantize_columns(table)), *model.get_weights()[1:]])
        expected = tf.nn.softmax(model.predict(rows, verbose=0)).numpy()
        np.testing.assert_allclose(lite.run_lite(changed, rows), expected, atol=1e-6)
        assert len(control) - len(changed) > 0.7 * 3 * table.size

    def test_lost_weights_are_noticed(self, tmp_path):
        keras_root = small_keras()
        path = str(tmp_path / "broken")
        specs = {
            name: tf.TensorSpec([None, *v.shape[1:]], v.dtype, name=name) for name, v in small_rows().items()
        }
        signature = tf.function(lambda columns: {"scores": keras_root(columns)}, input_signature=[specs])
        tf.saved_model.save(keras_root, path, signatures=signature)
        content = lite.convert_float(path)
        with pytest.raises(
            lite.BrokenConversion, match=r"weights as constants. Received: operators .*READ_VARIABLE"
        ):
            lite.check_weights(content, 300 * 8, 4)

    def test_too_few_constants_are_noticed(self, built):
        content = (built / "tflite_float32/model.tflite").read_bytes()
        with pytest.raises(
            lite.BrokenConversion, match=r"at least 4,000,000 bytes of constants. Received: 13"
        ):
            lite.check_weights(content, 1_000_000, 4)


def saved(model: keras.Model, path: Path) -> str:
    features = {
        "features": [
            {"name": "number", "role": "dense", "width": 4},
            {"name": "index", "role": "index", "width": 1},
        ]
    }
    module = transformed_module(
        lambda columns: model(columns, training=False),
        features,
        Output("multiclass", ("a", "b", "c")),
        [variable.value for variable in model.variables],
    )
    save_module(module, str(path))
    return str(path)


class TestRun:
    def test_lists_every_variant_in_order(self, built):
        assert list(listing(built)) == [
            "float32",
            "int8_weights",
            "tflite_float32",
            "tflite_float16",
            "tflite_dynamic_int8",
            "tflite_int8",
        ]
        assert all(entry["state"] == "built" for entry in listing(built).values())
        assert listing(built)["float32"]["path"] is None

    def test_same_seed_gives_the_same_bytes(self, made, built, tmp_path):
        build(made.inputs(), tmp_path, build=["tflite_int8"])
        again = (tmp_path / "variants/tflite_int8/model.tflite").read_bytes()
        assert again == (built / "tflite_int8/model.tflite").read_bytes()

    def test_a_model_that_is_exported_again_has_equal_variants(self, made, built, tmp_path):
        model, graph = tmp_path / "model", str(made.root / "transform_graph")
        shutil.copytree(made.root / "model", model, ignore=shutil.ignore_patterns("Format-*"))
        transform, keras_folder = FittedTransform(graph), model / "keras"
        export_model(rebuild_model(keras_folder), transform, read_output(keras_folder), str(model))
        copy_mark(str(made.root / "model/Format-Serving"), str(model / "Format-Serving"))
        build(made.inputs() | {"model": [str(model)]}, tmp_path)
        first, again = listing(built), listing(tmp_path / "variants")
        files = [folder / "Format-Serving/saved_model.pb" for folder in (made.root / "model", model)]
        assert files[0].read_bytes() != files[1].read_bytes()
        digests = {name: entry["model_sha256"] for name, entry in first.items()}
        assert {name: entry["model_sha256"] for name, entry in again.items()} == digests
        assert len(set(digests.values())) == len(digests)
        assert "" not in digests.values()

    def test_without_a_sidecar_lite_variants_are_skipped_with_its_reason(self, made, tmp_path):
        graph = tmp_path / "transform_graph"
        shutil.copytree(made.root / "transform_graph", graph)
        (graph / "headrace/preprocessing.json").unlink()
        (graph / "headrace/sidecar.json").write_text(json.dumps({"reason": "a preprocessing_fn of the user"}))
        result = build(made.inputs() | {"transform_graph": [str(graph)]}, tmp_path, build=["tflite_int8"])
        entries = listing(tmp_path / "variants")
        assert entries["tflite_int8"]["state"] == entries["tflite_float32"]["state"] == "skipped"
        assert entries["tflite_int8"]["reason"] == "a preprocessing_fn of the user"
        assert entries["float32"]["state"] == "built"
        assert "skipped: tflite_float32, tflite_int8" in result.finding

    def test_calibration_rows_are_drawn_by_the_seed(self, made):
        first, again = calibration(made, 50), calibration(made, 50)
        other = read_calibration_rows(str(made.root / "transformed_examples"), made.features(), 50, seed=3)
        for name, values in first.items():
            np.testing.assert_array_equal(values, again[name])
            assert len(values) == 50
        assert any((values != other[name]).any() for name, values in first.items())
