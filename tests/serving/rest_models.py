"""A SavedModel whose signatures show what the REST door makes of JSON: most of them answer what they got."""

from pathlib import Path
from typing import Any

import tensorflow as tf

TYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
TYPES += ["bool", "float16", "complex64", "string"]


def _spec(shape: list[int | None] | None, dtype: str, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


def _echo(dtype: str) -> Any:
    @tf.function(input_signature=[_spec(None, dtype, "x")])
    def echo(x: Any) -> dict[str, Any]:
        return {"y": tf.identity(x)}

    return echo


def mirror(path: Path) -> str:
    """Save it.

    Signatures: one echo of any shape for each of `TYPES`; `named` with the three inputs of upstream's manual;
    `twice` with a text output and a binary one; `binary_bytes`; `uneven` with outputs of different lengths;
    `scalar`, whose output has no dimension; `empty`, whose output has no rows; `logs`, which yields NaN and
    infinities; `floats`, four numbers whose short decimals are known; `score`, `scores`, `values` and
    `value_column` for classify and regress.
    """

    @tf.function(
        input_signature=[
            _spec([None], "string", "tag"),
            _spec([None, 5], "float32", "signal"),
            _spec([None, 2, 2], "int32", "sensor"),
        ]
    )
    def named(tag: Any, signal: Any, sensor: Any) -> dict[str, Any]:
        return {
            "tag": tf.identity(tag),
            "total": tf.reduce_sum(signal, 1),
            "trace": tf.linalg.trace(sensor),
        }

    @tf.function(input_signature=[_spec([None], "string", "x")])
    def twice(x: Any) -> dict[str, Any]:
        return {"text": tf.identity(x), "raw_bytes": tf.identity(x)}

    @tf.function(input_signature=[_spec([None], "string", "x")])
    def binary_bytes(x: Any) -> dict[str, Any]:
        return {"x_bytes": tf.identity(x)}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def number_bytes(x: Any) -> dict[str, Any]:
        return {"x_bytes": tf.identity(x)}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def uneven(x: Any) -> dict[str, Any]:
        return {"a": tf.identity(x), "b": x[:1]}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def scalar(x: Any) -> dict[str, Any]:
        return {"sum": tf.reduce_sum(x)}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def empty(x: Any) -> dict[str, Any]:
        return {"none": x[:0]}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def logs(x: Any) -> dict[str, Any]:
        return {"log": tf.math.log(x)}

    @tf.function(input_signature=[_spec([None], "float32", "x")])
    def floats(x: Any) -> dict[str, Any]:
        return {"y": x + tf.constant([9e6, 0.2, 3e-05, 555557.5])}

    @tf.function(input_signature=[_spec([None, 2], "float32", "x")])
    def pairs(x: Any) -> dict[str, Any]:
        return {"y": tf.matmul(x, tf.constant([[1.0], [10.0]]))}

    def features(inputs: Any) -> dict[str, Any]:
        return tf.io.parse_example(
            inputs,
            {
                "x": tf.io.FixedLenFeature([], tf.float32, -1.0),
                "n": tf.io.FixedLenFeature([], tf.int64, 0),
                "s": tf.io.FixedLenFeature([], tf.string, "none"),
            },
        )

    @tf.function(input_signature=[_spec([None], "string", "inputs")])
    def scores(inputs: Any) -> dict[str, Any]:
        found = features(inputs)
        return {
            "classes": tf.stack([found["s"], tf.strings.as_string(found["n"])], 1),
            "scores": tf.stack([found["x"], -found["x"]], 1),
        }

    @tf.function(input_signature=[_spec([None], "string", "inputs")])
    def labels(inputs: Any) -> dict[str, Any]:
        return {"classes": features(inputs)["s"][:, tf.newaxis]}

    @tf.function(input_signature=[_spec([None], "string", "inputs")])
    def values(inputs: Any) -> dict[str, Any]:
        found = features(inputs)
        return {"outputs": found["x"] + tf.cast(found["n"], tf.float32)}

    @tf.function(input_signature=[_spec([None], "string", "inputs")])
    def value_column(inputs: Any) -> dict[str, Any]:
        return {"outputs": features(inputs)["x"][:, tf.newaxis]}

    @tf.function(input_signature=[])
    def constant() -> dict[str, Any]:
        return {"one": tf.constant([1.0])}

    signatures = {dtype: _echo(dtype) for dtype in TYPES}
    signatures |= {
        "serving_default": signatures["float32"],
        "named": named,
        "twice": twice,
        "binary_bytes": binary_bytes,
        "number_bytes": number_bytes,
        "uneven": uneven,
        "scalar": scalar,
        "empty": empty,
        "logs": logs,
        "floats": floats,
        "pairs": pairs,
        "scores": scores,
        "labels": labels,
        "values": values,
        "value_column": value_column,
        "constant": constant,
    }
    tf.saved_model.save(tf.Module(), str(path), signatures=signatures)
    return str(path)
