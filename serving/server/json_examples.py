"""Examples in JSON, as classify and regress requests send them, and the answers to those."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from tensorflow.core.example import example_pb2

from .errors import Code, ServingError
from .json_tensors import Request
from .json_text import quote, type_name
from .json_values import decoded_base64, is_base64

__all__ = ["example_messages", "merged_examples", "write_classes", "write_values"]

Array = np.ndarray[Any, Any]

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def example_messages(request: Request) -> tuple[Any, list[Any]]:
    """Return the context (None without one) and the examples of a request.

    Raises:
        ServingError: With upstream's code and text.
    """
    document = request.document
    context = _example(document["context"]) if "context" in document else None
    if "examples" not in document:
        raise _invalid(
            f"JSON Value: {quote(document)} When method is classify, key 'examples' is expected and was not "
            "found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _invalid(f"JSON Value: {quote(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise _invalid(f"JSON Value: {quote(document)} 'examples' value is an empty array")
    return context, [_example(example) for example in examples]


def merged_examples(context: Any, examples: list[Any]) -> list[bytes]:
    """Return serialized examples, each with the context's features in front."""
    prefix = b"" if context is None else context.SerializeToString()
    return [prefix + example.SerializeToString() for example in examples]


def write_classes(outputs: Mapping[str, Array]) -> bytes:
    """Return the answer to a classify request: for each example its labels with their scores.

    Raises:
        ServingError: INVALID_ARGUMENT, if there is no example.
    """
    labels, scores = outputs.get("classes"), outputs.get("scores")
    shape = (labels if labels is not None else scores).shape  # type: ignore[union-attr]
    if not shape[0]:
        raise _invalid("Cannot convert empty ClassificationResults to JSON")
    names = (
        [[""] * shape[1]] * shape[0]
        if labels is None
        else [[label.decode("utf-8", errors="replace") for label in row] for row in labels]
    )
    values = np.zeros(shape, np.float32) if scores is None else scores
    numbers = _floats(values)
    return _dumped(
        [list(zip(row, ranks, strict=True)) for row, ranks in zip(names, numbers, strict=True)], values
    )


def write_values(values: Array) -> bytes:
    """Return the answer to a regress request: a number for each example.

    Raises:
        ServingError: INVALID_ARGUMENT, if there is no example.
    """
    flat = values.reshape(-1)
    if not flat.size:
        raise _invalid("Cannot convert empty RegressionResults to JSON")
    return _dumped(_floats(flat), flat)


def _floats(values: Array) -> Any:
    return values.astype(str).astype(np.float64).tolist()


def _dumped(results: list[Any], values: Array) -> bytes:
    if np.isfinite(values).all():
        return orjson.dumps({"results": results})
    return json.dumps({"results": results}, ensure_ascii=False).encode("utf-8")


def _example(value: Any) -> Any:
    if not isinstance(value, dict):
        raise _invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except (UnicodeEncodeError, ValueError) as error:
            raise _invalid("the name of a feature must be UTF-8") from error
        feature.SetInParent()
        if not isinstance(content, list):
            _add(content, name, feature)
        elif not _add_all(content, feature):
            for item in content:
                _add(item, name, feature)
    return example


def _add_all(values: list[Any], feature: Any) -> bool:
    """Put values into a feature at once, if they are all of one kind and fit it."""
    types = set(map(type, values))
    if types == {str}:
        feature.bytes_list.value.extend([value.encode("utf-8", "surrogateescape") for value in values])
    elif types == {int} and max(values) < 2**63:
        feature.int64_list.value.extend(values)
    elif types == {float}:
        feature.float_list.value.extend(values)
    else:
        return False
    return True


def _add(value: Any, name: str, feature: Any) -> None:
    """Put one value into a feature, whose first value decides its kind."""
    if isinstance(value, bool):
        _values(feature, name, "int64_list").append(int(value))
    elif isinstance(value, str):
        _values(feature, name, "bytes_list").append(value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, float):
        _values(feature, name, "float_list").append(value)
    elif isinstance(value, int):
        found = _values(feature, name, "int64_list")
        if value >= 2**63:
            raise _invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        found.append(value)
    elif is_base64(value):
        _values(feature, name, "bytes_list").append(decoded_base64(value))
    else:
        raise _invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _values(feature: Any, name: str, kind: str) -> Any:
    held = feature.WhichOneof("kind")
    if held not in (None, kind):
        raise _invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[held]}")
    return getattr(feature, kind).value


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
