"""The fitted transform as a trackable module: from serialized examples or raw columns to model inputs."""

import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from .input_names import traced_names
from .integers import whole_numbers
from .spec import shape_of

__all__ = ["FittedTransform", "parse_examples", "raw_feature_spec"]

_DTYPES = {
    "int": tf.int64,
    "float": tf.float32,
    "string": tf.string,
    "floats": tf.float32,
    "image": tf.string,
}


def raw_feature_spec(features: Mapping[str, Any]) -> dict[str, tf.io.VarLenFeature]:
    """Return the parse spec of the raw columns, each of which may be absent.

    Args:
        features: Content of features.json.
    """
    return {column["name"]: tf.io.VarLenFeature(_DTYPES[column["type"]]) for column in features["raw"]}


def parse_examples(serialized: Any, features: Mapping[str, Any]) -> dict[str, Any]:
    """Parse examples into the columns of the `serving_raw` signature.

    Numbers travel as float32 there: integers beyond 2**24 in size are rounded.

    Args:
        serialized: string `[rows]`, serialized tf.Example.
        features: Content of features.json.

    Returns:
        Column -> `[rows]`: float32 with NaN where missing, or string with "" where missing; of type
        `floats`: float32 `[rows, numbers]`, padded with NaN.
    """
    parsed = tf.io.parse_example(serialized, raw_feature_spec(features))
    types = {column["name"]: column["type"] for column in features["raw"]}
    return {name: _densify(sparse, types[name]) for name, sparse in parsed.items()}


class FittedTransform(tf.Module):
    """A fitted transform graph that other modules hold and export.

    Its tables and vocabulary files are tracked, so a SavedModel that holds it copies them to its own
    `assets/` and initialises them, in a TF1 session too.

    Args:
        transform_graph_dir: Folder of the `transform_graph` artifact.

    Attributes:
        features: Content of features.json.
    """

    def __init__(self, transform_graph_dir: str) -> None:
        super().__init__(name="transform")
        path = os.path.join(transform_graph_dir, "headrace", "features.json")
        with tf.io.gfile.GFile(path) as stream:
            features: dict[str, Any] = json.load(stream)
        self._features_json = json.dumps(features)  # a dict attribute would be wrapped for tracking
        self._imported = tf.saved_model.load(os.path.join(transform_graph_dir, "transform_fn"))
        self._shapes = tuple((spec["name"], shape_of(spec)) for spec in features["features"])

    @property
    def features(self) -> dict[str, Any]:
        """Content of features.json."""
        return dict(json.loads(self._features_json))

    def raw_signature(self) -> dict[str, tf.TensorSpec]:
        """Return column -> spec of the raw tensors: float32 or string, `[None]`, lists `[None, None]`."""
        columns = self.features["raw"]
        names = traced_names(column["name"] for column in columns)
        return {
            column["name"]: tf.TensorSpec(
                [None, None] if column["type"] == "floats" else [None],
                tf.string if column["type"] in ("string", "image") else tf.float32,
                name=names[column["name"]],
            )
            for column in columns
        }

    def from_examples(self, serialized: Any) -> dict[str, Any]:
        """Transform serialized tf.Examples; an absent feature is missing.

        Args:
            serialized: string `[rows]`.

        Returns:
            Name -> tensor as features.json lists them, `[rows, *shape]` or `[rows, width]`, float32 or
            int64 by its role.
        """
        return self._shaped(self.apply(tf.io.parse_example(serialized, raw_feature_spec(self.features))))

    def from_raw(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Transform raw columns; NaN and "" are missing, and so are the NaN at the end of a list.

        Args:
            raw: Column -> `[rows]` or `[rows, numbers]`, as `raw_signature` says.

        Returns:
            As `from_examples`.
        """
        types = {column["name"]: column["type"] for column in self.features["raw"]}
        return self._shaped(self.apply({name: _sparsify(raw[name], kind) for name, kind in types.items()}))

    def apply(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Run the transform graph as it is.

        Args:
            columns: Column -> SparseTensor `[rows, values]`. Columns left out (the label and the weight
                when serving) are taken as missing.

        Returns:
            All outputs, label and weight included; of those whose column was left out the content
            means nothing.
        """
        transform_fn = self._imported.transform_fn
        (specs,) = transform_fn.structured_input_signature[0]
        rows = next(iter(columns.values())).dense_shape[0]
        inputs = {
            name: columns[name] if name in columns else _all_missing(spec.dtype, rows)
            for name, spec in specs.items()
        }
        return dict(transform_fn(inputs))

    def _shaped(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model's inputs among `outputs`; pictures and series are flat there."""
        return {
            name: tf.reshape(outputs[name], [-1, *shape]) if len(shape) > 1 else outputs[name]
            for name, shape in self._shapes
        }


def _all_missing(dtype: Any, rows: Any) -> Any:
    return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], dtype), tf.stack([rows, 0]))


def _densify(sparse: Any, kind: str) -> Any:
    """Fill what is missing with NaN or "": SparseTensor `[rows, values]` -> `[rows]`, its first values.

    Of type `floats` all values are kept, `[rows, values]`.
    """
    is_text = sparse.dtype == tf.string
    values = sparse.values if is_text else tf.cast(sparse.values, tf.float32)
    shape = tf.stack([sparse.dense_shape[0], tf.maximum(sparse.dense_shape[1], 1)])
    dense = tf.sparse.to_dense(
        tf.SparseTensor(sparse.indices, values, shape), "" if is_text else float("nan")
    )
    return dense if kind == "floats" else dense[:, 0]


def _sparsify(values: Any, kind: str) -> Any:
    """Drop what is missing: `[rows]` -> SparseTensor `[rows, 1]` of the column's own type.

    Of type `floats`: `[rows, values]` -> SparseTensor `[rows, values]`; a NaN before the last number stays.
    """
    if kind == "floats":
        known = tf.cast(tf.logical_not(tf.math.is_nan(values)), tf.int32)
        kept = tf.cumsum(known, axis=1, reverse=True) > 0
        shape = tf.shape(values, tf.int64)
        return tf.SparseTensor(tf.where(kept), tf.boolean_mask(values, kept), shape)
    is_text = kind in ("string", "image")
    present = tf.not_equal(values, "") if is_text else tf.logical_not(tf.math.is_nan(values))
    rows = tf.where(present)  # [present, 1]
    found = tf.boolean_mask(values, present)
    return tf.SparseTensor(
        tf.pad(rows, [[0, 0], [0, 1]]),
        whole_numbers(found) if kind == "int" else found,
        tf.stack([tf.shape(values, tf.int64)[0], 1]),
    )
