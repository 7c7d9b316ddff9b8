"""Requests that TF Serving replays when it loads a version, so that the first client does not wait."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

__all__ = ["warmup_logs", "write_warmup"]

_BATCH = 32
_MOST_LOGS = 1000
"""TF Serving refuses a file with more (`kMaxNumRecords` in its saved_model_warmup_util.h)."""


def warmup_logs(examples: Sequence[bytes], columns: Mapping[str, np.ndarray[Any, Any]]) -> list[Any]:
    """Return PredictionLogs over all rows for `serving_default` and `serving_raw`: one row, then batches.

    Args:
        examples: Serialized tf.Examples, one a row.
        columns: The same rows as tensors, column -> `[rows]`.
    """
    inputs = {"serving_default": {"examples": np.array(examples, object)}, "serving_raw": dict(columns)}
    bounds = [(0, 1), *((start, start + _BATCH) for start in range(1, len(examples), _BATCH))]
    logs = [
        _log(signature, {name: values[start:stop] for name, values in tensors.items()})
        for signature, tensors in inputs.items()
        for start, stop in bounds
    ]
    return logs[:_MOST_LOGS]


def write_warmup(path: Path, logs: Sequence[Any]) -> None:
    """Write `logs` as an uncompressed TFRecord file, as TF Serving reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def _log(signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    request = predict_pb2.PredictRequest()
    # The model's name is not looked at: the server runs the log against the version that it loads.
    request.model_spec.signature_name = signature
    for name, values in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
