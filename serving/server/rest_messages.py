"""Messages behind the REST door: status and metadata as JSON, and requests as the request log keeps them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from .core import Answer
from .manager import VersionStatus
from .model_spec import ModelSpec
from .results import fill_classes, fill_spec, fill_values
from .tensors import fill

__all__ = [
    "classify_request",
    "classify_response",
    "metadata",
    "predict_request",
    "predict_response",
    "regress_request",
    "regress_response",
    "status",
]


def status(statuses: Sequence[VersionStatus]) -> bytes:
    """Return the JSON of a model's version states."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for found in statuses:
        entry = response.model_version_status.add()
        entry.version = found.version
        entry.state = int(found.state)
        entry.status.error_code = int(found.error_code)
        entry.status.error_message = found.error_message
    return _dumped(json_format.MessageToDict(response, always_print_fields_with_no_presence=True))


def metadata(spec: ModelSpec, version: int, signatures: Any) -> bytes:
    """Return the JSON of a version's signatures."""
    model = model_pb2.ModelSpec(name=spec.name)
    model.version.value = version
    return _dumped({"model_spec": _members(model), "metadata": {"signature_def": _members(signatures)}})


def predict_request(spec: ModelSpec, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """Return a request as gRPC would have brought it."""
    message = predict_pb2.PredictRequest()
    fill_spec(message.model_spec, spec)
    for alias, array in inputs.items():
        fill(message.inputs[alias], array)
    return message


def predict_response(answer: Answer) -> Any:
    """Return an answer as gRPC would have sent it."""
    message = predict_pb2.PredictResponse()
    fill_spec(message.model_spec, answer.spec)
    for alias, array in answer.outputs.items():
        fill(message.outputs[alias], array)
    return message


def classify_request(spec: ModelSpec, context: Any, examples: Sequence[Any]) -> Any:
    """Return a request as gRPC would have brought it."""
    return _with_examples(classification_pb2.ClassificationRequest(), spec, context, examples)


def classify_response(answer: Answer) -> Any:
    """Return an answer as gRPC would have sent it."""
    message = classification_pb2.ClassificationResponse()
    fill_spec(message.model_spec, answer.spec)
    fill_classes(message.result, answer)
    return message


def regress_request(spec: ModelSpec, context: Any, examples: Sequence[Any]) -> Any:
    """Return a request as gRPC would have brought it."""
    return _with_examples(regression_pb2.RegressionRequest(), spec, context, examples)


def regress_response(answer: Answer) -> Any:
    """Return an answer as gRPC would have sent it."""
    message = regression_pb2.RegressionResponse()
    fill_spec(message.model_spec, answer.spec)
    fill_values(message.result, answer)
    return message


def _with_examples(message: Any, spec: ModelSpec, context: Any, examples: Sequence[Any]) -> Any:
    fill_spec(message.model_spec, spec)
    if context is None:
        message.input.example_list.examples.extend(examples)
    else:
        found = message.input.example_list_with_context
        found.context.CopyFrom(context)
        found.examples.extend(examples)
    return message


def _members(message: Any) -> dict[str, Any]:
    return dict(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def _dumped(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace")
