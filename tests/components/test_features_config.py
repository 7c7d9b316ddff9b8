"""What a feature spec plans, which mistakes it names, and a preprocessing_fn of the user's own."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter

from headrace.components.features.config import FeaturesConfig
from headrace.components.features.golden import encode_rows, golden_rows
from headrace.components.features.graph import LabelPlan
from headrace.components.features.plan import default_embedding_dim, plan_outputs
from headrace.components.features.signatures import FittedTransform
from headrace.components.features.user import wrap_user_function
from headrace.components.imported import load_object
from headrace.data.errors import ConfigError, DataRejected

from .transformed import TYPES, make_splits, read_json, run_transform, write_examples


def plan(features: dict[str, Any]) -> Any:
    return plan_outputs(TypeAdapter(FeaturesConfig).validate_python(features), TYPES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"city": {"kind": "numeric"}}, r"`float`\. Received: column 'city' of type string \(features.city"),
        ({"amount": {"kind": "categorical"}}, r"`int` or `string`\. Received: column 'amount' of type float"),
        ({"x": {"kind": "categorical", "column": "code", "separator": "|"}}, "with `separator` needs"),
        ({"age": {"kind": "date"}}, r"`string`\. Received: column 'age' of type int"),
        ({"x": {"kind": "cross", "of": ["city", "amount"]}}, "a part taken as it is needs"),
        ({"x": {"kind": "cross", "of": ["code", {"column": "city", "bounds": [1]}]}}, "`bounds` needs"),
        ({"x": {"kind": "cross", "of": ["city", {"column": "age", "bounds": [2, 1]}]}}, r"strictly.*2.0"),
        ({"absent": {"kind": "numeric"}}, r"must be read from the data. Received: 'absent'"),
        ({"label": {"kind": "numeric", "column": "age"}}, r"not be called `label` or `weight`"),
        (
            {
                "age": {"kind": "numeric", "missing_indicator": True},
                "age_missing": {"kind": "numeric", "column": "amount"},
            },
            r"'age_missing' from both features.age and features.age_missing",
        ),
    ],
)  # fmt: skip
def test_a_spec_that_does_not_suit_its_columns(features: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(features)


def test_default_embedding_dim_grows_slowly() -> None:
    widths = [default_embedding_dim(cardinality) for cardinality in range(2, 200_000, 97)]
    assert widths == sorted(widths)
    assert widths[0] == 4
    assert widths[-1] == 32


def test_golden_rows_cover_every_column() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    found = golden_rows(rows, {"a": "int", "b": "string"}, limit=5)
    assert found[:5] == [rows[0], rows[1], rows[0], rows[1], rows[0]]
    for column, seen in (("a", {1, 2, None}), ("b", {"x", "y", None})):
        assert any(row[column] is None for row in found)
        assert any(row[column] not in seen for row in found)


def test_a_column_without_values_is_rejected(tmp_path: Path) -> None:
    splits = make_splits()
    for row in splits["train"]:
        row["amount"] = None
    write_examples(tmp_path / "examples", splits)
    with pytest.raises(DataRejected, match=r"none in 300 rows of column 'amount' \(features.amount\)"):
        run_transform(tmp_path, {"amount": {"kind": "numeric"}})


def own_preprocessing(inputs: dict[str, Any]) -> dict[str, Any]:
    """A preprocessing_fn as users of TFX write them."""

    def dense(name: str, default: Any) -> Any:
        sparse = inputs[name]
        shape = [sparse.dense_shape[0], 1]
        return tf.sparse.to_dense(tf.SparseTensor(sparse.indices, sparse.values, shape), default)

    age = tf.squeeze(dense("age", 0), axis=1)
    return {
        "age_scaled": tft.scale_to_z_score(tf.cast(age, tf.float32)),  # [rows]
        "age_integer": age,  # int64 [rows], a number
        "age_range": tft.bucketize(age, 4),  # int64 [rows], a category
        "city_id": tft.compute_and_apply_vocabulary(dense("city", ""), num_oov_buckets=1),  # [rows, 1]
        "both": tf.concat([dense("amount", 0.0), dense("ratio", 0.0)], axis=1),  # [rows, 2]
    }


def test_a_users_own_function(tmp_path: Path) -> None:
    splits = make_splits()
    write_examples(tmp_path / "examples", splits)
    run_transform(tmp_path, {}, f"{__name__}:own_preprocessing")
    folder = tmp_path / "graph" / "headrace"
    assert not (folder / "preprocessing.json").exists()
    assert "own_preprocessing" in read_json(folder / "sidecar.json")["reason"]
    specs = {spec["name"]: spec for spec in read_json(folder / "features.json")["features"]}
    cities = len({row["city"] for row in splits["train"]} - {None})
    assert {name: (s["role"], s["width"], s["cardinality"]) for name, s in specs.items()} == {
        "age_scaled": ("dense", 1, None),
        "age_integer": ("dense", 1, None),
        "age_range": ("index", 1, 4),
        "city_id": ("index", 1, cities + 1),
        "both": ("dense", 2, None),
    }
    rows = splits["eval"]
    transform = FittedTransform(str(tmp_path / "graph"))
    found = transform.from_examples(tf.constant(encode_rows(rows, TYPES)))  # type: ignore[arg-type]
    ages = np.array([row["age"] or 0 for row in splits["train"]], np.float64)
    expected = [((row["age"] or 0) - ages.mean()) / ages.std() for row in rows]
    np.testing.assert_allclose(found["age_scaled"].numpy()[:, 0], expected, atol=1e-5)
    assert found["age_integer"].dtype == tf.float32
    assert found["age_range"].dtype == tf.int64
    raw = {
        name: tf.constant(
            [("" if kind == "string" else math.nan) if row[name] is None else row[name] for row in rows],
            tf.string if kind == "string" else tf.float32,
        )
        for name, kind in TYPES.items()
    }
    for name, tensor in transform.from_raw(raw).items():
        np.testing.assert_array_equal(tensor.numpy(), found[name].numpy())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("json", r'must be "module:function"\. Received: \'json\''),
        ("no_such_module:f", r"importable function\. Received: 'no_such_module:f'"),
        ("json:no_such_name", r"importable function\. Received: 'json:no_such_name'"),
        ("json:__name__", r"must be a function\. Received: 'json'"),
    ],
)
def test_a_function_that_cannot_be_loaded(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_object(path, "preprocessing_fn")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: {}, r"at least one tensor\. Received: none"),
        (lambda x: {"label": x["a"].values}, r"come from the `data` section"),
        (lambda x: {"a": x["a"]}, r"dense tensors\. Received: SparseTensor \(m:f, output 'a'\)"),
        (lambda x: {"a": tf.as_string(x["a"].values)}, r"must be numbers\. Received: string"),
        (lambda x: {"a": tf.reshape(x["a"].values, [-1, 1, 1])}, r"\[rows\] or \[rows, width\]"),
        (lambda x: {"a": 1 / 0}, r"must run on tensors\. Received: ZeroDivisionError"),
    ],
)
def test_a_function_whose_outputs_cannot_be_used(function: Any, message: str) -> None:
    wrapped = wrap_user_function(function, "m:f", ["a"], LabelPlan("label", None, None))
    with tf.Graph().as_default(), pytest.raises(ConfigError, match=message):
        wrapped({name: tf.SparseTensor([[0, 0]], [1.0], [1, 1]) for name in ("a", "label")})
