"""Tiny SavedModels that tests serve: what they answer can be counted by hand."""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1


def half_plus_two(path: Path, *, add: float = 2.0) -> str:
    """A v1 export like upstream's: y = x / 2 + `add`, as predict, regress and classify signatures."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        half = v1.get_variable("half", initializer=0.5, use_resource=False)
        shift = v1.get_variable("shift", initializer=add, use_resource=False)
        serialized = v1.placeholder(tf.string, [None], name="serialized")
        parsed = v1.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        y = tf.identity(x * half + shift, name="y")
        double = tf.identity(y * 2, name="double")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        info = v1.saved_model.build_tensor_info
        make = v1.saved_model.signature_def_utils.build_signature_def
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": make({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
                "regress_x_to_y": make(
                    {"inputs": info(serialized)}, {"outputs": info(y)}, "tensorflow/serving/regress"
                ),
                "regress_x_to_double": make(
                    {"inputs": info(serialized)}, {"outputs": info(double)}, "tensorflow/serving/regress"
                ),
                "classify_x_to_y": make(
                    {"inputs": info(serialized)}, {"scores": info(y)}, "tensorflow/serving/classify"
                ),
                "odd_method": make({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/odd"),
            },
        )
        builder.save()
    return str(path)


def constant(path: Path, value: float) -> str:
    """Two outputs that both are `value` for every row, so that a mixed answer shows."""
    module = tf.Module()
    module.value = tf.Variable(value)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def answer(x: Any) -> dict[str, Any]:
        return {"a": tf.zeros_like(x) + module.value, "b": tf.zeros_like(x) + module.value}

    tf.saved_model.save(module, str(path), signatures=answer)
    return str(path)


def swayed(path: Path) -> str:
    """A row's answer depends on its batch: y = -1 where any x is above 1000, else 2x."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def answer(x: Any) -> dict[str, Any]:
        return {"y": tf.where(tf.reduce_max(x) > 1000.0, -tf.ones_like(x), 2.0 * x)}

    tf.saved_model.save(module, str(path), signatures=answer)
    return str(path)


def mark(path: Path, *signatures: str) -> None:
    """Say that these signatures answer each row by itself."""
    (path / "assets.extra").mkdir(exist_ok=True)
    (path / "assets.extra" / "row_independent.json").write_text(json.dumps({"row_independent": signatures}))


def zoo(path: Path) -> str:
    """Many signatures: several inputs, every type, strings, classes, cross-row and failing computations."""
    module = tf.Module()
    module.weights = tf.Variable([[1.0], [10.0]])
    types = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    types += ["bool", "float16", "bfloat16", "complex64", "complex128", "string"]

    def signature(**specs: tuple[list[int | None] | None, str]) -> list[tf.TensorSpec]:
        return [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in specs.items()]

    @tf.function(input_signature=signature(numbers=([None, 2], "float32"), texts=([None], "string")))
    def mixed(numbers: Any, texts: Any) -> dict[str, Any]:
        total = (numbers @ module.weights)[:, 0]
        return {"total": total, "shout": tf.strings.upper(texts), "rank": tf.cast(total, tf.int64)}

    @tf.function
    def echo(**inputs: Any) -> dict[str, Any]:
        return {name: tf.identity(value) for name, value in inputs.items()}

    @tf.function(input_signature=signature(inputs=([None], "string")))
    def classes(inputs: Any) -> dict[str, Any]:
        count = tf.strings.length(inputs)
        first = tf.cast(count, tf.float32)
        shape = tf.shape(count)
        return {
            "classes": tf.stack([tf.fill(shape, "long"), tf.fill(shape, "short")], axis=1),
            "scores": tf.stack([first, -first], axis=1),
        }

    @tf.function(input_signature=signature(inputs=([None], "string")))
    def lengths(inputs: Any) -> dict[str, Any]:
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)}

    @tf.function(input_signature=signature(x=([None], "float32")))
    def share(x: Any) -> dict[str, Any]:
        return {"share": x / tf.reduce_sum(x)}

    @tf.function(input_signature=signature(x=([None], "float32")))
    def summed(x: Any) -> dict[str, Any]:
        return {"sum": tf.reduce_sum(x)}

    @tf.function(input_signature=signature(x=([None], "float32")))
    def positive(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="x must be positive " * 80)]):
            return {"x": tf.identity(x)}

    @tf.function(input_signature=signature(x=([None], "float32")))
    def slow(x: Any) -> dict[str, Any]:
        steps = tf.cast(tf.reduce_max(x), tf.int32)
        state = tf.while_loop(
            lambda i, _: i < steps,
            lambda i, m: (i + 1, tf.tanh(m @ m)),
            (tf.constant(0), tf.ones([64, 64])),
            parallel_iterations=1,
        )[1]
        return {"x": x + 0.0 * state[0, 0]}

    @tf.function(input_signature=signature(x=(None, "float32")))
    def any_shape(x: Any) -> dict[str, Any]:
        return {"x": tf.identity(x)}

    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": mixed,
            "echo": echo.get_concrete_function(
                **{name: tf.TensorSpec([None], name, name=name) for name in types}
            ),
            "classes": classes,
            "lengths": lengths,
            "share": share,
            "summed": summed,
            "positive": positive,
            "slow": slow,
            "any_shape": any_shape,
        },
    )
    return str(path)
