"""Golden requests through the doors of a server, and whether it answers as the model does in process.

Requests are built and answers read by other code than the server's own: `http.client` and `json`, and
TensorFlow's conversions of tensors. What both sides got wrong in the same way would show nothing.
"""

import base64
import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from headrace.components.parity.tolerance import max_relative_difference
from headrace.serving.raw import raw_columns

from .golden import Golden
from .latency import BATCHES, measure
from .probe import request_tensors

__all__ = ["Door", "GrpcClient", "RestClient", "await_available", "visit_doors"]

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_BATCH = 64
_CALL_S = 60.0
_LONGEST = 300
_POLL_S = 0.05


class DoorError(Exception):
    """A request that a server did not answer, or not as it should."""


class Door(Protocol):
    """A client of one door."""

    def predict(self, signature: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of one request by name; strings as str.

        Raises:
            DoorError: If the server says no, or nothing that can be read.
        """

    def close(self) -> None:
        """Hang up."""


class RestClient:
    """Predict requests in row form, over one connection that is kept.

    Args:
        port: Port on 127.0.0.1.
        model: Name of the model.
    """

    def __init__(self, port: int, model: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CALL_S)
        self._path = f"/v1/models/{model}"

    def predict(self, signature: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of one request by name; a single output is called ""."""
        values = {name: _sendable(name, array) for name, array in tensors.items()}
        rows: list[Any] = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        body = json.dumps({"signature_name": signature, "instances": rows})
        answer = self._ask("POST", f"{self._path}:predict", body)
        found = answer.get("predictions")
        if not isinstance(found, list) or len(found) != len(rows):
            raise DoorError(f"an answer must hold one prediction for each row. Received: {_short(answer)}")
        if not isinstance(found[0], dict) or set(found[0]) == {"b64"}:
            return {"": _received(found)}
        return {name: _received([row[name] for row in found]) for name in found[0]}

    def status(self) -> Json:
        """Return the states of the model's versions."""
        return self._ask("GET", self._path, None)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: str | None) -> Json:
        try:
            headers = {"Content-Type": "application/json"}
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise DoorError(f"no answer: {type(error).__name__} {error}") from error
        try:
            found = json.loads(text)
        except ValueError as error:
            raise DoorError(f"an answer must be JSON. Received: {_short(text)}") from error
        if response.status != 200 or not isinstance(found, dict):
            raise DoorError(f"status {response.status}: {_short(found)}")
        return found


class GrpcClient:
    """Predict requests over one channel.

    Args:
        port: Port on 127.0.0.1.
        model: Name of the model.
    """

    def __init__(self, port: int, model: str) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self._predict = self._channel.unary_unary(
            _PREDICT,
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        self._model = model

    def predict(self, signature: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of one request by name."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = signature
        for name, array in tensors.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        try:
            response = self._predict(request, timeout=_CALL_S)
        except grpc.RpcError as error:
            raise DoorError(f"{error.code().name}: {_short(error.details())}") from error
        return {name: _text(tf.make_ndarray(proto)) for name, proto in response.outputs.items()}

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def visit_doors(
    ports: Mapping[str, int], model: str, golden: Golden, answers: Mapping[str, Json], budget_s: float
) -> dict[str, Json]:
    """Send the golden requests through both doors, in every signature that takes them.

    Args:
        ports: `rest` and `grpc`, on 127.0.0.1.
        model: Name of the model.
        golden: The requests.
        answers: What the model answers in process, as the probe wrote it.
        budget_s: Seconds of timing for each door and batch size.

    Returns:
        Door -> `max_golden_diff` (relative to max(1, |a|); null where it was not compared), `golden_rows`,
        `signatures` (those asked), `latency_us` of `serving_raw` (null where it was not measured), `reason`
        ("" where nothing went wrong).
    """
    columns = raw_columns(golden.rows, golden.types)
    sent: dict[str, dict[str, Array]] = {}
    for signature, answer in answers.items():
        inputs = dict.fromkeys(answer["inputs"])
        tensors = request_tensors(signature, inputs, columns, golden.examples)
        assert tensors is not None  # the probe asked the same
        sent[signature] = {name: array[: answer["rows"]] for name, array in tensors.items()}
    doors: dict[str, Callable[[], Door]] = {
        "rest": lambda: RestClient(ports["rest"], model),
        "grpc": lambda: GrpcClient(ports["grpc"], model),
    }
    return {name: _visit(make(), sent, answers, budget_s) for name, make in doors.items()}


def await_available(port: int, model: str, gone: threading.Event) -> None:
    """Wait until a version of `model` is available behind the REST door on `port`.

    Args:
        port: Port on 127.0.0.1.
        model: Name of the model.
        gone: Set when there is nothing to wait for any more.

    Raises:
        DoorError: If none was available until `gone`, with what was heard last.
    """
    client = RestClient(port, model)
    said = ""
    try:
        while not gone.wait(_POLL_S):
            try:
                states = client.status().get("model_version_status") or []
                said = _short(states)
                if any(state.get("state") == "AVAILABLE" for state in states):
                    return
            except DoorError as error:
                said = str(error)
    finally:
        client.close()
    raise DoorError(f"no version became available: {said}")


def _visit(
    door: Door, sent: Mapping[str, Mapping[str, Array]], answers: Mapping[str, Json], budget_s: float
) -> Json:
    found: Json = {
        "max_golden_diff": None, "golden_rows": 0, "signatures": [], "latency_us": None, "reason": ""
    }  # fmt: skip
    signature = ""
    try:
        worst = 0.0
        for signature, tensors in sent.items():
            outputs = answers[signature]["outputs"]
            worst = max(worst, _difference(outputs, _in_batches(door, signature, tensors)))
            found["signatures"].append(signature)
        found["max_golden_diff"] = worst if np.isfinite(worst) else None
        found["golden_rows"] = max(answer["rows"] for answer in answers.values())
        if not np.isfinite(worst):
            found["reason"] = "it answers with values that are not finite, or not the numbers or texts asked"
        signature = "serving_raw"
        found["latency_us"] = {
            name: measure(_call(door, sent[signature], rows), budget_s) for name, rows in BATCHES.items()
        }
    except Exception as error:  # whatever a server does wrong is the finding
        said = str(error) if isinstance(error, DoorError) else f"{type(error).__name__}: {error}"
        found["reason"] = f"{signature}: {said}"[:1000]
    finally:
        door.close()
    return found


def _call(door: Door, tensors: Mapping[str, Array], rows: int) -> Callable[[], object]:
    places = np.arange(rows) % len(next(iter(tensors.values())))
    batch = {name: array[places] for name, array in tensors.items()}
    return lambda: door.predict("serving_raw", batch)


def _in_batches(door: Door, signature: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    rows = len(next(iter(tensors.values())))
    parts = [
        door.predict(signature, {name: array[start : start + _BATCH] for name, array in tensors.items()})
        for start in range(0, rows, _BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _difference(expected: Mapping[str, Any], found: Mapping[str, Array]) -> float:
    """Return the largest relative difference; infinity where texts differ."""
    if set(found) == {""} and len(expected) == 1:  # REST writes a single output without its name
        found = {next(iter(expected)): found[""]}
    if set(found) != set(expected):
        raise DoorError(f"the outputs must be {sorted(expected)}. Received: {sorted(found)}")
    worst = 0.0
    for name, values in expected.items():
        reference, other = np.asarray(values), found[name]
        if reference.shape != other.shape:
            raise DoorError(f"{name} must have the shape {reference.shape}. Received: {other.shape}")
        if reference.dtype.kind == "U":
            worst = max(worst, 0.0 if (reference == other).all() else np.inf)
            continue
        both = np.isnan(reference) & np.isnan(np.asarray(other, np.float64))
        worst = max(worst, max_relative_difference(np.where(both, 0, reference), np.where(both, 0, other)))
    return worst


def _sendable(name: str, array: Array) -> list[Any]:
    """Return a column as JSON values: numbers, texts, and as base64 what is no text by nature."""
    if array.dtype != object:
        return list(array.tolist())
    try:
        if name != "examples":
            return [value.decode("utf-8") for value in array.tolist()]
    except UnicodeDecodeError:
        pass  # pictures
    return [{"b64": base64.b64encode(value).decode("ascii")} for value in array.tolist()]


def _received(values: Sequence[Any]) -> Array:
    if values and isinstance(values[0], dict):
        values = [base64.b64decode(value["b64"]).decode("utf-8", "replace") for value in values]
    return np.asarray(values)


def _text(array: Array) -> Array:
    if array.dtype != object:
        return array
    return np.asarray(np.vectorize(lambda item: item.decode("utf-8", "replace"), otypes=[object])(array), str)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
