"""The signatures of the exported SavedModels, around any forward function.

A Keras 3 model saved as the trackable root gives a SavedModel that a TF Serving process cannot read and
that converts to TF Lite without weights. So everything here hangs on a plain `tf.Module` that holds
`tf.Variable`s and functions.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from headrace.components.features.input_names import rename_inputs, traced_names
from headrace.components.features.spec import dtype_of, shape_of
from headrace.components.models.output import Output

from .target import unscaled

__all__ = [
    "Forward",
    "answers",
    "save_module",
    "serving_module",
    "transformed_module",
    "transformed_signature",
]

Forward = Callable[[dict[str, Any]], Any]
"""Transformed features -> logits float32 `[rows, Output.logits]`."""


def answers(logits: Any, output: Output) -> dict[str, Any]:
    """Turn logits into what a client receives, in float32.

    Args:
        logits: float `[rows, output.logits]`.
        output: Task and classes.

    Returns:
        `scores` float32 `[rows, K]`, rows summing to 1 (multilabel: each on its own in [0, 1]), or for
        regression `outputs` float32 `[rows]`, in the label's own units.
    """
    logits = tf.cast(logits, tf.float32)
    if output.task == "regression":
        return {"outputs": unscaled(tf.reshape(logits, [-1]), output.target)}
    if output.task == "multilabel":
        return {"scores": tf.sigmoid(logits)}
    if output.task == "binary":
        positive = tf.sigmoid(logits)
        return {"scores": tf.concat([1.0 - positive, positive], axis=1)}
    return {"scores": tf.nn.softmax(logits, axis=1)}


def serving_module(forward: Forward, transform: Any, output: Output, trackables: Iterable[Any] = ()) -> Any:
    """Return a module whose `signatures` answer raw rows.

    Args:
        forward: Transformed features -> logits; may close over variables or resource handles.
        transform: The fitted transform (`headrace.components.features.signatures.FittedTransform`).
        output: Task and classes.
        trackables: Variables and resources that `forward` reads, to be saved with the module.

    Returns:
        A `tf.Module` for `save_module`, with the attribute `signatures`: `serving_default`,
        `transform_features` and `serving_raw` as docs/artifacts.md says.
    """
    module = tf.Module(name="serving")
    module.held = list(trackables)
    module.transform = transform

    def answer(features: dict[str, Any]) -> dict[str, Any]:
        found = answers(forward(features), output)
        if output.task != "regression":
            rows = tf.shape(found["scores"])[0]
            found["classes"] = tf.tile(tf.constant([list(output.classes)]), [rows, 1])
        return found

    serialized = tf.TensorSpec([None], tf.string, name="examples")

    @tf.function(input_signature=[serialized])
    def serving_default(examples: Any) -> dict[str, Any]:
        return answer(transform.from_examples(examples))

    @tf.function(input_signature=[serialized])
    def transform_features(examples: Any) -> dict[str, Any]:
        return transform.from_examples(examples)

    @tf.function(input_signature=[transform.raw_signature()])
    def serving_raw(columns: dict[str, Any]) -> dict[str, Any]:
        return answer(transform.from_raw(columns))

    module.signatures = {
        "serving_default": serving_default,
        "transform_features": transform_features,
        "serving_raw": serving_raw,
    }
    return module


def transformed_signature(features: dict[str, Any]) -> dict[str, Any]:
    """Return name -> TensorSpec of the transformed features (batch first, any number of rows)."""
    names = traced_names(spec["name"] for spec in features["features"])
    return {
        spec["name"]: tf.TensorSpec([None, *shape_of(spec)], dtype_of(spec), name=names[spec["name"]])
        for spec in features["features"]
    }


def transformed_module(
    forward: Forward, features: dict[str, Any], output: Output, trackables: Iterable[Any] = ()
) -> Any:
    """Return a module whose `serving_default` answers transformed rows: the source of TF Lite variants.

    Args:
        forward: Transformed features -> logits.
        features: Content of features.json.
        output: Task and classes.
        trackables: Variables that `forward` reads.
    """
    module = tf.Module(name="transformed")
    module.held = list(trackables)

    @tf.function(input_signature=[transformed_signature(features)])
    def serving_default(columns: dict[str, Any]) -> dict[str, Any]:
        return answers(forward(columns), output)

    module.signatures = {"serving_default": serving_default}
    return module


def save_module(module: Any, path: str) -> None:
    """Write `module` with its `signatures` as a SavedModel at `path`.

    Inputs have the names of the columns or features there, whatever characters these hold.
    """
    signatures = dict(module.signatures)
    del module.signatures  # a plain dict of functions would be traced and saved a second time
    try:
        tf.saved_model.save(module, path, signatures=signatures)
    finally:
        module.signatures = signatures
    given = {key: function.input_signature[0] for key, function in signatures.items()}
    rename_inputs(
        path,
        {
            key: {name: spec.name for name, spec in specs.items()}
            for key, specs in given.items()
            if isinstance(specs, Mapping)
        },
    )
