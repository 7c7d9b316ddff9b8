"""What a fitted transform is, as JSON: the model's inputs, and the transform itself without TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from headrace.data.config import RawType
from headrace.serving.dates import DATE_PARTS
from headrace.serving.preprocessing import HASH_KEY, JOINER, SCHEMA_VERSION

from .graph import statistics_name, vocabulary_file
from .plan import (
    Bucketed,
    Categories,
    Category,
    DateCategory,
    DateCycle,
    MissingFlag,
    Number,
    Output,
    default_embedding_dim,
)

__all__ = ["Fitted", "describe_features", "describe_transform", "read_fitted"]


@dataclass(frozen=True)
class Fitted:
    """What the analyzers found.

    Attributes:
        statistics: Output -> float32 vector: of a number what to impute, subtract and divide by; of
            buckets their bounds.
        vocabularies: Output -> its categories, in order.
    """

    statistics: Mapping[str, npt.NDArray[np.float32]]
    vocabularies: Mapping[str, Sequence[str]]


def read_fitted(transform_graph_dir: str, outputs: Sequence[Output]) -> Fitted:
    """Read what was fitted for `outputs` from the artifact."""
    graph = tft.TFTransformOutput(transform_graph_dir)
    statistics = _read_statistics(graph.transform_savedmodel_dir, outputs)
    vocabularies = {}
    for index, output in enumerate(outputs):
        if isinstance(output, Category | Categories) and output.vocabulary is not None:
            path = graph.vocabulary_file_by_name(vocabulary_file(output, index))
            with tf.io.gfile.GFile(path, "rb") as stream:
                # Not splitlines, which also splits at characters that a category may hold.
                vocabularies[output.name] = stream.read().decode().removesuffix("\n").split("\n")
    return Fitted(statistics, vocabularies)


def _read_statistics(saved_model_dir: str, outputs: Sequence[Output]) -> dict[str, npt.NDArray[np.float32]]:
    """Compute the named operations of the graph, which depend on fitted values alone."""
    names = {
        output.name: f"{statistics_name(index)}:0"
        for index, output in enumerate(outputs)
        if isinstance(output, Number | Bucketed)
    }
    function = tf.saved_model.load(saved_model_dir).transform_fn
    captured = function.captured_inputs  # the values that analyzers found stand behind the inputs
    inner = function.inputs[len(function.inputs) - len(captured) :]
    feeds = {
        placeholder.name: value.numpy()
        for placeholder, value in zip(inner, captured, strict=True)
        if value.dtype != tf.resource
    }
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(function.graph.as_graph_def(), name="")
        found: dict[str, npt.NDArray[np.float32]] = session.run(names, feeds)
    return found


def describe_features(outputs: Sequence[Output], fitted: Fitted) -> list[dict[str, Any]]:
    """Return the entries `features` of features.json."""
    return [_describe_feature(output, fitted) for output in outputs]


def _describe_feature(output: Output, fitted: Fitted) -> dict[str, Any]:
    role, width, cardinality = "index", 1, None
    if isinstance(output, Number | MissingFlag):
        role = "dense"
    elif isinstance(output, DateCycle):
        role, width = "dense", 2
    elif isinstance(output, Bucketed):
        cardinality = len(fitted.statistics[output.name]) + 2
    elif isinstance(output, DateCategory):
        cardinality = DATE_PARTS[output.part][1] + 1
    else:
        cardinality = 1 + output.buckets + len(fitted.vocabularies.get(output.name, ()))
        if isinstance(output, Categories):
            role, width = "indices", output.width
    encode = "none" if cardinality is None else getattr(output, "encode", "one_hot")
    embedding_dim = None
    if encode == "embedding" and cardinality is not None:
        embedding_dim = getattr(output, "embedding_dim", None) or default_embedding_dim(cardinality)
    return {
        "name": output.name,
        "role": role,
        "width": width,
        "cardinality": cardinality,
        "encode": encode,
        "embedding_dim": embedding_dim,
        "source": output.source,
    }


def describe_transform(
    outputs: Sequence[Output], types: Mapping[str, RawType], fitted: Fitted
) -> dict[str, Any]:
    """Return the content of preprocessing.json (docs/preprocessing.schema.json).

    Args:
        outputs: The planned model inputs.
        types: Raw column -> type, of the columns that features read.
        fitted: What the analyzers found.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        # Text, since 64-bit integers are more than many JSON readers keep.
        "hash": {"function": "siphash-2-4", "key": [str(word) for word in HASH_KEY]},
        "joiner": JOINER,
        "columns": [{"name": name, "type": kind} for name, kind in types.items()],
        "outputs": [{"name": output.name} | _describe_output(output, fitted) for output in outputs],
    }


def _describe_output(output: Output, fitted: Fitted) -> dict[str, Any]:
    if isinstance(output, Number):
        impute, subtract, divide = _numbers(fitted.statistics[output.name])
        return {
            "op": "number",
            "column": output.column,
            "impute": impute,
            **_describe_shape(output),
            "subtract": subtract,
            "divide": divide,
        }
    if isinstance(output, Bucketed):
        bounds = _numbers(fitted.statistics[output.name])
        return {"op": "buckets", "column": output.column, **_describe_shape(output), "bounds": bounds}
    if isinstance(output, MissingFlag):
        return {"op": "missing", "column": output.column}
    if isinstance(output, DateCycle | DateCategory):
        op = "date_cycle" if isinstance(output, DateCycle) else "date_category"
        return {"op": op, "column": output.column, "part": output.part}
    words = {"buckets": output.buckets, "vocabulary": list(fitted.vocabularies.get(output.name, ()))}
    if isinstance(output, Categories):
        return {
            "op": "categories",
            "column": output.column,
            "separator": output.separator,
            "width": output.width,
            **words,
        }
    parts = [
        {"column": part.column, "bounds": _numbers(np.array(part.bounds, np.float32)) or None}
        for part in output.parts
    ]
    return {"op": "category", "parts": parts, **words}


def _describe_shape(output: Number | Bucketed) -> dict[str, Any]:
    clip = None if output.clip is None else _numbers(np.array(output.clip, np.float32))
    return {"log": output.log, "clip": clip}


def _numbers(values: npt.NDArray[np.float32]) -> list[float]:
    """Return float32 values as the float64 that JSON writes; reading them back loses nothing."""
    return [float(value) for value in values]
