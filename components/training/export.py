"""Write a trained model: two SavedModels, the Keras weights, and proof that a session can serve them."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.components.models.portable import portable
from headrace.components.parity.tolerance import TOLERANCE, max_relative_difference
from headrace.data.errors import HeadraceError
from headrace.data.section import canonical_json
from headrace.serving.raw import raw_columns

from .signatures import answers, save_module, serving_module, transformed_module

__all__ = [
    "content_sha256",
    "export_model",
    "golden_columns",
    "held_variables",
    "run_in_session",
    "verify_exports",
]

Array = np.ndarray[Any, Any]

SERVING_FORMAT, TRANSFORMED_FORMAT = "Format-Serving", "Format-Transformed"


def held_variables(model: Any) -> list[Any]:
    """Return the `tf.Variable`s of a Keras model that inference reads."""
    return [weight.value for weight in model.weights]


def export_model(model: Any, transform: Any, output: Output, model_uri: str) -> None:
    """Write `Format-Serving`, `Format-Transformed` and `keras/model.weights.h5` of a float32 model.

    Args:
        model: Keras model: transformed features -> logits, all float32.
        transform: The fitted transform.
        output: Task and classes.
        model_uri: Folder of the model artifact.

    Raises:
        HeadraceError: If the model is not float32.
    """
    others = {layer.dtype_policy.name for layer in model.layers if layer.weights} - {"float32"}
    if others:
        # Conversion of mixed_float16 graphs to TF Lite fails.
        raise HeadraceError(f"an exported model must be float32. Received: {', '.join(sorted(others))}")

    def forward(features: dict[str, Any]) -> Any:
        return model(features, training=False)

    held = held_variables(model)
    with portable(model):  # the graphs are traced when they are saved
        save_module(serving_module(forward, transform, output, held), os.path.join(model_uri, SERVING_FORMAT))
        save_module(
            transformed_module(forward, transform.features, output, held),
            os.path.join(model_uri, TRANSFORMED_FORMAT),
        )
    keras_dir = os.path.join(model_uri, "keras")
    os.makedirs(keras_dir, exist_ok=True)
    model.save_weights(os.path.join(keras_dir, "model.weights.h5"))


def run_in_session(path: str, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run one signature of a SavedModel through a TF1 session: it restores as the C++ server does.

    Args:
        path: The SavedModel.
        signature: Key of the signature.
        feeds: Input name -> values.

    Returns:
        Output name -> values.
    """
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], path)
        found = meta_graph.signature_def[signature]
        outputs = {name: info.name for name, info in found.outputs.items()}
        return dict(session.run(outputs, {found.inputs[name].name: feeds[name] for name in found.inputs}))


def verify_exports(
    model: Any, transform: Any, output: Output, model_uri: str, transform_graph_uri: str
) -> float:
    """Compare both SavedModels, run in a session, with the Keras model on the golden rows.

    Args:
        model: The Keras model that was exported.
        transform: The fitted transform.
        output: Task and classes.
        model_uri: Folder of the model artifact.
        transform_graph_uri: Folder of the transform_graph artifact, for its golden rows.

    Returns:
        Largest relative difference found.

    Raises:
        HeadraceError: If it exceeds the tolerance of float32 runtimes.
    """
    raw, _ = golden_columns(transform, transform_graph_uri)
    serving = os.path.join(model_uri, SERVING_FORMAT)
    transformed = {name: tensor.numpy() for name, tensor in transform.from_raw(raw).items()}
    name = "outputs" if output.task == "regression" else "scores"
    expected = answers(model(transformed, training=False), output)[name].numpy()
    examples = np.array([_example(transform.features, raw, row) for row in range(len(expected))], object)
    attempts = {
        "serving_raw": (serving, "serving_raw", raw),
        "serving_default": (serving, "serving_default", {"examples": examples}),
        "transformed": (os.path.join(model_uri, TRANSFORMED_FORMAT), "serving_default", transformed),
    }
    worst = 0.0
    for label, (path, signature, feeds) in attempts.items():
        difference = max_relative_difference(expected, run_in_session(path, signature, feeds)[name])
        if not difference <= TOLERANCE:
            raise HeadraceError(
                f"an exported model must answer as the trained one, within {TOLERANCE:g}. "
                f"Received: a difference of {difference:g} ({label})"
            )
        worst = max(worst, difference)
    return worst


def golden_columns(transform: Any, transform_graph_uri: str) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the golden rows of a transform as columns, and the types of these."""
    types = {column["name"]: column["type"] for column in transform.features["raw"]}
    return raw_columns(_golden_inputs(transform_graph_uri), types), types


def content_sha256(model: Any, transform_graph_uri: str, spec: Mapping[str, Any]) -> str:
    """Return the hash of what makes the model answer as it does: weights, transform and spec.

    Args:
        model: The float32 model.
        transform_graph_uri: The sidecar stands for the graph where there is one; else the graph itself.
        spec: JSON values: model section and features.json.
    """
    digest = hashlib.sha256(canonical_json(spec).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.dtype} {weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    sidecar = os.path.join(transform_graph_uri, "headrace", "preprocessing.json")
    if tf.io.gfile.exists(sidecar):
        files = [sidecar]
    else:
        graph = os.path.join(transform_graph_uri, "transform_fn")
        files = sorted(
            os.path.join(folder, file) for folder, _, found in tf.io.gfile.walk(graph) for file in found
        )
    for path in files:
        with tf.io.gfile.GFile(path, "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def _golden_inputs(transform_graph_uri: str) -> list[dict[str, Any]]:
    path = os.path.join(transform_graph_uri, "headrace", "golden.json")
    if not tf.io.gfile.exists(path):
        return [{}]  # one row of which everything is missing
    with tf.io.gfile.GFile(path) as stream:
        rows: list[dict[str, Any]] = json.load(stream)["inputs"]
    return rows


def _example(features: Mapping[str, Any], raw: Mapping[str, Array], row: int) -> bytes:
    """Return one row as a serialized tf.Example; what is missing is left out."""
    example = tf.train.Example()
    for column in features["raw"]:
        value, target = raw[column["name"]][row], example.features.feature[column["name"]]
        if column["type"] in ("string", "image"):
            if value:
                target.bytes_list.value.append(value)
        elif column["type"] == "floats":
            target.float_list.value.extend(value[: 1 + max(np.flatnonzero(~np.isnan(value)), default=-1)])
        elif not np.isnan(value):
            if column["type"] == "int":
                target.int64_list.value.append(int(value))
            else:
                target.float_list.value.append(float(value))
    return bytes(example.SerializeToString())
