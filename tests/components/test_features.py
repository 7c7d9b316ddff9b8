"""The transform node on a tiny data set: what it writes, against numpy and against stock tf.Transform."""

import math
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import jsonschema
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import TypeAdapter
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from headrace.components.features.analyze import parse_spec
from headrace.components.features.config import FeaturesConfig
from headrace.components.features.golden import encode_rows
from headrace.components.features.graph import build_preprocessing_fn
from headrace.components.features.plan import plan_outputs
from headrace.components.features.run import check_sidecar, read_ingest
from headrace.components.features.signatures import FittedTransform, parse_examples
from headrace.data.errors import HeadraceError
from headrace.serving.preprocessing import Preprocessor

from .transformed import (
    BEAM_ARGS,
    FEATURES,
    TYPES,
    fitted_tabular,
    random_row,
    read_json,
)

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def done() -> Any:
    """The artifacts of one run, and the rows that went in."""
    fitted = fitted_tabular()
    folder = fitted.folder
    return SimpleNamespace(
        folder=folder,
        splits=fitted.splits,
        result=fitted.result,
        features=read_json(folder / "graph" / "headrace" / "features.json"),
        sidecar=read_json(folder / "graph" / "headrace" / "preprocessing.json"),
        transform=FittedTransform(str(folder / "graph")),
    )


def transformed(done: Any, split: str) -> dict[str, Any]:
    """Read transformed examples the way any TFX component does."""
    spec = tft.TFTransformOutput(str(done.folder / "graph")).transformed_feature_spec()
    files = sorted(
        map(str, (done.folder / "transformed" / f"Split-{split}").glob("transformed_examples-*-of-*.gz"))
    )
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    return {name: tensor.numpy() for name, tensor in tf.io.parse_example(records, spec).items()}


def values_of(done: Any, column: str, split: str = "train") -> Any:
    """Return a raw column in float32, NaN where missing."""
    return np.array(
        [math.nan if row[column] is None else row[column] for row in done.splits[split]], np.float32
    )


def op_of(done: Any, name: str) -> dict[str, Any]:
    (found,) = [output for output in done.sidecar["outputs"] if output["name"] == name]
    return found


def test_outputs_follow_the_contract(done: Any) -> None:
    assert "7 columns to" in done.result.finding
    for split, rows in done.splits.items():
        found = transformed(done, split)
        assert set(found) == {spec["name"] for spec in done.features["features"]} | {"label", "weight"}
        for spec in done.features["features"]:
            tensor = found[spec["name"]]
            assert tensor.shape == (len(rows), spec["width"])
            assert tensor.dtype == (np.float32 if spec["role"] == "dense" else np.int64)
            if spec["role"] != "dense":
                least = -1 if spec["role"] == "indices" else 0
                assert least <= tensor.min() <= tensor.max() < spec["cardinality"]
            assert isinstance(spec["embedding_dim"], int) == (spec["encode"] == "embedding")
    assert done.features["raw"] == [{"name": name, "type": kind} for name, kind in TYPES.items()]
    assert done.features["label"] == {"name": "label", "task": "binary", "classes": ["no", "yes"]}


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_rows_keep_their_order(done: Any, split: str) -> None:
    found = transformed(done, split)
    rows = done.splits[split]
    assert found["label"][:, 0].tolist() == [["no", "yes"].index(row["label"]) for row in rows]
    np.testing.assert_array_equal(
        found["weight"][:, 0], np.array([row["weight"] for row in rows], np.float32)
    )


def test_zscore_counts_imputed_values(done: Any) -> None:
    values = values_of(done, "amount").astype(np.float64)
    filled = np.where(np.isnan(values), np.nanmean(values), values)
    found = transformed(done, "train")
    np.testing.assert_allclose(found["amount"][:, 0], (filled - filled.mean()) / filled.std(), atol=1e-5)
    np.testing.assert_array_equal(found["amount_missing"][:, 0], np.isnan(values))


def test_log_clip_then_zscore(done: Any) -> None:
    values = values_of(done, "ratio").astype(np.float64)
    shaped = np.clip(np.log1p(np.maximum(np.where(np.isnan(values), 2.0, values), 0)), 0.5, 3.0)
    expected = (shaped - shaped.mean()) / shaped.std()
    np.testing.assert_allclose(transformed(done, "train")["ratio"][:, 0], expected, atol=1e-5)


def test_median_and_minmax(done: Any) -> None:
    values = values_of(done, "age")
    present = np.sort(values[~np.isnan(values)])
    op = op_of(done, "age")
    middle = len(present) // 2
    assert present[middle - 1] <= op["impute"] <= present[middle]
    assert (op["subtract"], op["divide"]) == (present[0], present[-1] - present[0])


def test_quantile_buckets_hold_equal_shares(done: Any) -> None:
    index = transformed(done, "train")["fifths"][:, 0]
    missing = np.isnan(values_of(done, "amount"))
    np.testing.assert_array_equal(index == 5, missing)
    shares = np.bincount(index[~missing], minlength=5) / (~missing).sum()
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_a_value_on_a_bound_falls_above_it(done: Any) -> None:
    rows = [dict.fromkeys(TYPES) | {"age": age} for age in (-1, 0, 17, 18, 40, 41, 65, None)]
    found = done.transform.from_examples(tf.constant(encode_rows(rows, TYPES)))  # type: ignore[arg-type]
    assert found["ranges"].numpy()[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 4, 5]


def test_vocabularies_are_counted(done: Any) -> None:
    rows = done.splits["train"]
    cities = Counter(row["city"] for row in rows if row["city"] is not None)
    assert op_of(done, "city")["vocabulary"] == [city for city, _ in cities.most_common(3)]
    assert set(op_of(done, "often")["vocabulary"]) == {city for city, count in cities.items() if count >= 40}
    crosses = Counter(
        f"{row['city'] or ''}\x1f{'' if row['code'] is None else row['code']}"
        for row in rows
        if row["city"] is not None or row["code"] is not None
    )
    assert set(op_of(done, "city_code")["vocabulary"]) == {text for text, n in crosses.items() if n >= 2}
    tags = Counter(tag for row in rows if row["tags"] for tag in row["tags"].split("|")[:3])
    assert op_of(done, "tags")["vocabulary"] == [tag for tag, _ in tags.most_common()]


def test_missing_is_the_same_absent_nan_or_empty(done: Any) -> None:
    draw = random.Random(3)
    rows = [random_row(draw, missing=0.5) for _ in range(200)]
    serialized = tf.constant(encode_rows(rows, TYPES))  # type: ignore[arg-type]
    raw = parse_examples(serialized, done.features)
    assert {name: tensor.dtype for name, tensor in raw.items()} == {
        name: spec.dtype for name, spec in done.transform.raw_signature().items()
    }
    by_examples, by_raw = done.transform.from_examples(serialized), done.transform.from_raw(raw)
    explicit = [
        {
            name: ("" if kind == "string" else math.nan) if row[name] is None else row[name]
            for name, kind in TYPES.items()
        }
        for row in rows
    ]
    by_numpy = Preprocessor(done.sidecar).transform(explicit)
    for name, tensor in by_examples.items():
        np.testing.assert_array_equal(tensor.numpy(), by_raw[name].numpy())
        np.testing.assert_allclose(by_numpy[name], tensor.numpy(), rtol=1e-5, atol=1e-5)


def test_sidecar_and_golden_vectors(done: Any) -> None:
    schema = read_json(ROOT / "docs" / "preprocessing.schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(done.sidecar, schema)
    golden = read_json(done.folder / "graph" / "headrace" / "golden.json")
    assert len(golden["inputs"]) >= 256
    for column in TYPES:
        assert any(row[column] is None for row in golden["inputs"])
    assert {len(rows) for rows in golden["transformed"].values()} == {len(golden["inputs"])}
    found = Preprocessor(done.sidecar).transform(golden["inputs"])
    for name, rows in golden["transformed"].items():
        np.testing.assert_allclose(found[name], np.array(rows), rtol=1e-5, atol=1e-5)


def test_a_sidecar_that_disagrees_is_an_error(done: Any) -> None:
    golden = read_json(done.folder / "graph" / "headrace" / "golden.json")
    check_sidecar(Preprocessor(done.sidecar), golden)
    for name, key, value in (("age", "subtract", 1.001), ("ranges", "bounds", [1, 18, 40.5, 65])):
        outputs = [op | ({key: value} if op["name"] == name else {}) for op in done.sidecar["outputs"]]
        with pytest.raises(HeadraceError, match=rf"must agree with the transform graph.*output '{name}'"):
            check_sidecar(Preprocessor(done.sidecar | {"outputs": outputs}), golden)


def test_stock_tf_transform_gives_the_same_tensors(done: Any, tmp_path: Path) -> None:
    ingest = read_ingest(str(done.folder / "examples"))
    features = TypeAdapter(FeaturesConfig).validate_python(FEATURES)
    preprocessing_fn = build_preprocessing_fn(plan_outputs(features, ingest.columns), ingest.label)
    rows = [
        {name: [] if row[name] is None else [row[name]] for name in ingest.parsed}
        for row in done.splits["train"]
    ]
    metadata = dataset_metadata.DatasetMetadata(
        schema_utils.schema_from_feature_spec(parse_spec(ingest.parsed))
    )
    found: list[dict[str, Any]] = []
    options = PipelineOptions(list(BEAM_ARGS))
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(str(tmp_path)):
        data = pipeline | beam.Create(rows, reshuffle=False)
        (stock, _), _ = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(preprocessing_fn)
        _ = stock | beam.combiners.ToList() | beam.Map(_write_rows, str(tmp_path / "rows.npy"))
    found = np.load(tmp_path / "rows.npy", allow_pickle=True).tolist()
    ours = transformed(done, "train")
    order = np.argsort(ours["weight"][:, 0])
    stock_order = np.argsort([row["weight"][0] for row in found])
    for name, tensor in ours.items():
        stacked = np.array([found[row][name] for row in stock_order])
        np.testing.assert_allclose(tensor[order], stacked, rtol=1e-6, atol=1e-6, err_msg=name)


def _write_rows(rows: Any, path: str) -> None:
    np.save(path, np.array(rows, object), allow_pickle=True)


def test_an_export_works_in_a_tf1_session(done: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.transform = done.transform
    spec = tf.TensorSpec([None], tf.string, name="examples")
    function = tf.function(done.transform.from_examples, input_signature=[spec])
    raw_function = tf.function(done.transform.from_raw, input_signature=[done.transform.raw_signature()])
    signatures = {"serving_default": function, "serving_raw": raw_function}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    assert {path.name for path in (tmp_path / "model" / "assets").iterdir()} >= {"008_city", "010_code"}
    (done.folder / "graph").rename(done.folder / "graph_away")  # an export must not need the artifact
    try:
        rows = encode_rows(done.splits["test"], TYPES)  # type: ignore[arg-type]
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(tmp_path / "model"))
            signature = meta.signature_def["serving_default"]
            fetches = {name: info.name for name, info in signature.outputs.items()}
            found = session.run(fetches, {signature.inputs["examples"].name: rows})
    finally:
        (done.folder / "graph_away").rename(done.folder / "graph")
    expected = transformed(done, "test")
    assert set(found) == set(expected) - {"label", "weight"}
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-6, atol=1e-6)
