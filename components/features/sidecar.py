"""What a fitted transform is, as JSON: the model's inputs, and the transform itself without TensorFlow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from headrace.data.config import RawType
from headrace.serving.characters import character_rules
from headrace.serving.dates import DATE_PARTS
from headrace.serving.preprocessing import HASH_KEY, JOINER, SCHEMA_VERSION

from .graph import statistics_name
from .outputs import (
    Bag,
    BagWeights,
    Bucketed,
    Categories,
    Category,
    DateCategory,
    DateCycle,
    MissingFlag,
    Number,
    Output,
    Picture,
    Series,
    SeriesLength,
    Tokens,
)
from .pictures import SCALES
from .plan import default_embedding_dim
from .vocabularies import read_weighed, vocabulary_file

__all__ = ["Fitted", "describe_features", "describe_transform", "read_fitted"]


@dataclass(frozen=True)
class Fitted:
    """What the analyzers found.

    Attributes:
        statistics: Output -> what its operation holds: of a number what to impute, subtract and divide by;
            of buckets their bounds; of a picture what to subtract and divide by for each channel; of a
            series what to impute, subtract and divide by for each; of TF-IDF the number of rows.
        vocabularies: Output -> its categories, in order.
        frequencies: Bag -> in how many rows each category of its vocabulary is.
    """

    statistics: Mapping[str, npt.NDArray[Any]]
    vocabularies: Mapping[str, Sequence[str]]
    frequencies: Mapping[str, npt.NDArray[np.int64]]


def read_fitted(transform_graph_dir: str, outputs: Sequence[Output]) -> Fitted:
    """Read what was fitted for `outputs` from the artifact."""
    graph = tft.TFTransformOutput(transform_graph_dir)
    statistics = _read_statistics(graph.transform_savedmodel_dir, outputs)
    vocabularies: dict[str, list[str]] = {}
    frequencies: dict[str, npt.NDArray[np.int64]] = {}
    for index, output in enumerate(outputs):
        if not isinstance(output, Category | Categories | Tokens | Bag) or output.vocabulary is None:
            continue
        lines = _read_lines(graph, vocabulary_file(output, index))
        if isinstance(output, Bag) and output.weigh == "tfidf":
            lines, counts = read_weighed(lines)
            frequencies[output.name] = np.array(counts, np.int64)
        vocabularies[output.name] = lines
    return Fitted(statistics, vocabularies, frequencies)


def _read_lines(graph: Any, name: str) -> list[str]:
    """Read a vocabulary's file among the assets."""
    with tf.io.gfile.GFile(graph.vocabulary_file_by_name(name), "rb") as stream:
        # Not splitlines, which also splits at characters that a category may hold.
        return list(stream.read().decode().removesuffix("\n").split("\n"))


def _read_statistics(saved_model_dir: str, outputs: Sequence[Output]) -> dict[str, npt.NDArray[Any]]:
    """Compute the named operations of the graph, which depend on fitted values alone."""
    names = {
        output.name: f"{statistics_name(index)}:0"
        for index, output in enumerate(outputs)
        if _has_statistics(output)
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
        found: dict[str, npt.NDArray[Any]] = session.run(names, feeds)
    return found


def _has_statistics(output: Output) -> bool:
    if isinstance(output, Picture):
        return output.scale == "zscore"
    return isinstance(output, Number | Bucketed | Series) or (
        isinstance(output, Bag) and output.weigh == "tfidf"
    )


def describe_features(outputs: Sequence[Output], fitted: Fitted) -> list[dict[str, Any]]:
    """Return the entries `features` of features.json."""
    return [_describe_feature(output, fitted) for output in outputs]


def _describe_feature(output: Output, fitted: Fitted) -> dict[str, Any]:
    cardinality = _cardinality(output, fitted)
    role, width, extra = _role(output)
    encode = "none"
    if cardinality is not None:
        encode = "embedding" if isinstance(output, Tokens | Bag) else getattr(output, "encode", "one_hot")
    embedding_dim = None
    if encode == "embedding" and cardinality is not None:
        embedding_dim = getattr(output, "embedding_dim", None) or default_embedding_dim(cardinality)
    if isinstance(output, Picture):
        add, multiply = _picture_scale(output, fitted)
        extra["pixels"] = {"multiply": multiply, "add": add}
    return {
        "name": output.name,
        "role": role,
        "width": width,
        "cardinality": cardinality,
        "encode": encode,
        "embedding_dim": embedding_dim,
        "source": output.source,
        **extra,
    }


def _role(output: Output) -> tuple[str, int, dict[str, Any]]:
    """Return role, width, and what else the entry of features.json says."""
    match output:
        case Number() | MissingFlag():
            return "dense", 1, {}
        case DateCycle():
            return "dense", 2, {}
        case Categories():
            return "indices", output.width, {}
        case Tokens():
            return "tokens", output.width, {}
        case Bag():
            return "bag", output.width, {}
        case BagWeights():
            return "bag_weights", output.width, {"of": output.of}
        case Picture():
            shape = [output.height, output.width, output.channels]
            return "image", math.prod(shape), {"shape": shape}
        case Series():
            shape = [output.length, len(output.columns)]
            return "series", math.prod(shape), {"shape": shape}
        case SeriesLength():
            return "length", 1, {"of": output.of}
        case _:
            return "index", 1, {}


def _cardinality(output: Output, fitted: Fitted) -> int | None:
    """Return how many categories there are, or None where the output is a number."""
    if isinstance(output, Bucketed):
        return len(fitted.statistics[output.name]) + 2
    if isinstance(output, DateCategory):
        return DATE_PARTS[output.part][1] + 1
    if isinstance(output, Category | Categories | Tokens | Bag):
        return 1 + output.buckets + len(fitted.vocabularies.get(output.name, ()))
    return None


def describe_transform(
    outputs: Sequence[Output], types: Mapping[str, RawType], fitted: Fitted
) -> dict[str, Any]:
    """Return the content of preprocessing.json (docs/preprocessing.schema.json).

    Args:
        outputs: The planned model inputs.
        types: Raw column -> type, of the columns that features read.
        fitted: What the analyzers found.
    """
    has_text = any(isinstance(output, Tokens | Bag) for output in outputs)
    return {
        "schema_version": SCHEMA_VERSION,
        # Text, since 64-bit integers are more than many JSON readers keep.
        "hash": {"function": "siphash-2-4", "key": [str(word) for word in HASH_KEY]},
        "joiner": JOINER,
        "columns": [{"name": name, "type": kind} for name, kind in types.items()],
        **({"characters": character_rules()} if has_text else {}),
        "outputs": [{"name": output.name} | _describe_output(output, fitted) for output in outputs],
    }


def _describe_output(output: Output, fitted: Fitted) -> dict[str, Any]:
    match output:
        case Number():
            impute, subtract, divide = _numbers(fitted.statistics[output.name])
            fill = {"op": "number", "column": output.column, "impute": impute}
            return {**fill, **_describe_shape(output), "subtract": subtract, "divide": divide}
        case Bucketed():
            bounds = _numbers(fitted.statistics[output.name])
            return {"op": "buckets", "column": output.column, **_describe_shape(output), "bounds": bounds}
        case MissingFlag():
            return {"op": "missing", "column": output.column}
        case DateCycle() | DateCategory():
            op = "date_cycle" if isinstance(output, DateCycle) else "date_category"
            form = {} if output.format is None else {"format": output.format}
            return {"op": op, "column": output.column, "part": output.part, **form}
        case BagWeights():
            return {"op": "bag_weights", "of": output.of}
        case SeriesLength():
            return {"op": "series_length", "of": output.of}
        case Picture():
            return _describe_picture(output, fitted)
        case Series():
            return _describe_series(output, fitted)
        case Tokens() | Bag():
            return _describe_text(output, fitted)
        case _:
            return _describe_category(output, fitted)


def _describe_category(output: Category | Categories, fitted: Fitted) -> dict[str, Any]:
    words = _describe_words(output, fitted)
    if isinstance(output, Categories):
        place = {"op": "categories", "column": output.column, "separator": output.separator}
        return {**place, "width": output.width, **words}
    parts = [
        {"column": part.column, "bounds": _numbers(np.array(part.bounds, np.float32)) or None}
        for part in output.parts
    ]
    return {"op": "category", "parts": parts, **words}


def _describe_words(output: Category | Categories | Tokens | Bag, fitted: Fitted) -> dict[str, Any]:
    return {"buckets": output.buckets, "vocabulary": list(fitted.vocabularies.get(output.name, ()))}


def _describe_text(output: Tokens | Bag, fitted: Fitted) -> dict[str, Any]:
    tokenizer = output.tokenizer
    found = {
        "op": "tokens" if isinstance(output, Tokens) else "bag",
        "column": output.column,
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokens": tokenizer.tokens,
        "ngrams": list(tokenizer.ngrams),
        "width": output.width,
        **_describe_words(output, fitted),
    }
    if isinstance(output, Tokens):
        return found
    idf = None
    if output.weigh == "tfidf":
        rows = fitted.statistics[output.name]
        idf = _numbers((1 + np.log((1 + rows) / (1 + fitted.frequencies[output.name]))).astype(np.float32))
    return found | {"idf": idf}


def _picture_scale(output: Picture, fitted: Fitted) -> tuple[list[float], list[float]]:
    """Return what is subtracted from pixels of 0 to 255, and what the rest is divided by, a channel each."""
    if output.scale == "zscore":
        subtract, divide = map(_numbers, fitted.statistics[output.name])
    else:
        subtract, divide = ([number] * output.channels for number in SCALES[output.scale])
    return subtract, divide


def _describe_picture(output: Picture, fitted: Fitted) -> dict[str, Any]:
    subtract, divide = _picture_scale(output, fitted)
    pixels = None
    if output.pixels is not None:
        pixels = {"height": output.pixels[0], "width": output.pixels[1], "max_value": output.max_value}
    return {
        "op": "picture",
        "column": output.column,
        "pixels": pixels,
        "height": output.height,
        "width": output.width,
        "channels": output.channels,
        "fit": output.fit,
        "antialias": output.antialias,
        "subtract": subtract,
        "divide": divide,
    }


def _describe_series(output: Series, fitted: Fitted) -> dict[str, Any]:
    impute, subtract, divide = map(_numbers, fitted.statistics[output.name])
    return {
        "op": "series",
        "columns": list(output.columns),
        "length": output.length,
        "keep": output.keep,
        "impute": impute,
        "subtract": subtract,
        "divide": divide,
    }


def _describe_shape(output: Number | Bucketed) -> dict[str, Any]:
    clip = None if output.clip is None else _numbers(np.array(output.clip, np.float32))
    return {"log": output.log, "clip": clip}


def _numbers(values: npt.NDArray[Any]) -> list[float]:
    """Return float32 values as the float64 that JSON writes; reading them back loses nothing."""
    return [float(value) for value in values]
