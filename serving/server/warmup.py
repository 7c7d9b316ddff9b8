"""Requests that a version answers before it is available: its own warm-up file, or made-up rows.

A SavedModel that loads is not yet one that serves: an inference shows it, and compiles what the first request
would wait for otherwise.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tensorflow.python.lib.io import _pywrap_record_io

from . import inference
from .errors import Code, ServingError
from .examples import serialized_examples
from .model_spec import ModelSpec
from .servable import Argument, Method, Servable
from .tensors import TensorError, from_proto

__all__ = ["MAX_RECORDS", "WARMUP_FILE", "warm_up"]

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000

_MOST_ELEMENTS = 1 << 24


def warm_up(servable: Servable, iterations: int = 1) -> int:
    """Let `servable` answer its warm-up requests, or made-up ones if it has none.

    Args:
        servable: A version that is not served yet.
        iterations: How often each request is run, >= 1.

    Returns:
        Number of requests in the warm-up file.

    Raises:
        ServingError: If a request fails: the version must not be served.
    """
    path = os.path.join(servable.path, WARMUP_FILE)
    if not os.path.isfile(path):
        for method in servable.methods.values():
            _try(servable, method)
        return 0
    count = 0
    for log in _records(path):
        count += 1
        if count > MAX_RECORDS:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}",
            )
        for _ in range(iterations):
            _replay(servable, log)
    return count


def _records(path: str) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        for record in _pywrap_record_io.RecordIterator(path, ""):
            log = prediction_log_pb2.PredictionLog()
            log.ParseFromString(record)
            yield log
    except DecodeError as error:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Failed to parse warmup record: {error}. Please verify your warmup data is in TFRecord format.",
        ) from error
    except Exception as error:
        if isinstance(error, ServingError):
            raise
        raise ServingError(
            Code.DATA_LOSS, f"{error}. Please verify your warmup data is in TFRecord format. ({path})"
        ) from error


def _replay(servable: Servable, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        method = inference.predict_method(servable, _spec(request.model_spec))
        inputs = {alias: _parsed(alias, proto) for alias, proto in request.inputs.items()}
        outputs = inference.checked_outputs(method, list(request.output_filter))
        servable.run(method, inference.checked_inputs(method, inputs), outputs)
    elif kind == "classify_log":
        request = log.classify_log.request
        _run_task(servable, inference.classify_task(servable, _spec(request.model_spec)), request.input)
    elif kind == "regress_log":
        request = log.regress_log.request
        _run_task(servable, inference.regress_task(servable, _spec(request.model_spec)), request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        wanted = [(_spec(task.model_spec), task.method_name) for task in request.tasks]
        for task in inference.multi_tasks(servable, wanted):
            _run_task(servable, task, request.input)
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def _run_task(servable: Servable, task: inference.Task, proto: Any) -> None:
    array = inference.example_array(serialized_examples(proto))
    servable.run(task.method, [array], task.outputs)


def _spec(proto: Any) -> ModelSpec:
    return ModelSpec(proto.name, signature=proto.signature_name)


def _parsed(alias: str, proto: Any) -> Any:
    try:
        return from_proto(proto)
    except TensorError as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"tensor parsing error: {alias}") from error


def _try(servable: Servable, method: Method) -> None:
    """Run one made-up row; only what no request could mend counts as a failure."""
    arrays = [_made_up(argument, method.defaults) for argument in method.inputs.values()]
    if not method.outputs or any(array is None for array in arrays):
        return
    try:
        servable.run(method, [array for array in arrays if array is not None], tuple(method.outputs))
    except ServingError as error:
        if error.code is Code.FAILED_PRECONDITION:
            raise


def _made_up(argument: Argument, defaults: Mapping[str, Any]) -> Any:
    if argument.alias in defaults:
        return defaults[argument.alias]
    if argument.shape is None:
        return None
    shape = tuple(1 if size is None else size for size in argument.shape)
    if math.prod(shape) > _MOST_ELEMENTS:
        return None
    return np.full(shape, b"", object) if argument.dtype == object else np.zeros(shape, argument.dtype)
