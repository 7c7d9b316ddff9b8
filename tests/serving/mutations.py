"""Requests that were valid once: seeded changes to bytes, values, paths and messages."""

import copy
import gzip
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

RestRequest = tuple[str, str, bytes | None, dict[str, str]]
"""Method, path, body and headers."""

GrpcRequest = tuple[str, bytes]
"""Method and message."""

ROW = {"tag": "foo", "signal": [1, 2, 3, 4, 5.5], "sensor": [[1, 2], [3, 4]]}
EXAMPLE = {"x": 1.5, "n": [1, 2], "s": ["a", {"b64": "aGVsbG8="}]}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("half:predict", {"instances": [[1.0], [2.5]]}),
    ("half/versions/122:predict", {"signature_name": "serving_default", "inputs": {"x": [[1], [2]]}}),
    ("half:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]}),
    ("half/labels/stable:classify", {"signature_name": "classify_x_to_y", "examples": [{"x": [2.0]}]}),
    ("mirror:predict", {"signature_name": "named", "instances": [ROW, ROW]}),
    ("mirror:predict", {"signature_name": "string", "inputs": ["a", {"b64": "aGVsbG8="}, "é"]}),
    ("mirror:predict", {"signature_name": "int64", "instances": [1, -5, 2**40]}),
    ("mirror:predict", {"signature_name": "bool", "instances": [[True], [False]]}),
    ("mirror:predict", {"signature_name": "twice", "instances": [{"x": "a"}, {"x": {"b64": "/w=="}}]}),
    ("mirror:predict", {"signature_name": "pairs", "inputs": [[1, 2], [3, 4.5]]}),
    ("mirror:predict", {"signature_name": "float64", "inputs": 1e300}),
    ("mirror:classify", {"signature_name": "scores", "context": {"n": 3}, "examples": [EXAMPLE, {}]}),
    ("mirror:regress", {"signature_name": "values", "examples": [{"x": 1.0, "n": 2}]}),
]
LOOKS = ["half", "half/metadata", "half/versions/123", "half/labels/stable/metadata", "mirror/metadata"]
PIECES = ["..", "%2e%2e", "%00", "%", "%zz", "é", "//", ":", "a" * 300, "versions", "-1", "1" * 30, "?", "#"]
LINES = [b"\r\n", b"\n", b"Host: h", b"POST", b"GET", b"HTTP/1.1", b"HTTP/1.0", b": ", b"chunked", b" "]
ODD: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, 2**64, 10**400, 0.1, -0.0, 1e308, float("nan"), float("inf"), "", "x",
    "\x00", "\ud800", "é" * 50, [], [[]], {}, {"b64": "!"}, {"b64": "YQ=="}, {"b64": 1}, {"x": 1}, [1, [2]],
    [[1], [2, 3]], "9" * 400,
]  # fmt: skip


def rest_requests(random: Random, count: int) -> Iterator[RestRequest]:
    """Requests for the models `half` and `mirror` of the tests."""
    for _ in range(count):
        if random.random() < 0.15:
            path = f"/v1/models/{random.choice(LOOKS)}"
            yield (
                random.choice(["GET", "GET", "HEAD", "OPTIONS", "POST", "PUT"]),
                _path(random, path),
                None,
                {},
            )
            continue
        name, body = random.choice(BODIES)
        path = f"/v1/models/{name}"
        if random.random() < 0.2:
            path = _path(random, path)
        data = _text(random, _changed(random, body)) if random.random() < 0.7 else _text(random, body)
        if random.random() < 0.4:
            data = _bytes(random, data)
        yield "POST", path, *_packed(random, data)


def raw_requests(random: Random, count: int) -> Iterator[bytes]:
    """HTTP as bytes, changed anywhere: lines, headers, lengths and chunks."""
    for _ in range(count):
        name, body = random.choice(BODIES)
        data = _text(random, body)
        head = f"POST /v1/models/{name} HTTP/1.1\r\nHost: h\r\n"
        if random.random() < 0.3:
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:9], data[9:]))
            whole = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
        else:
            whole = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
        if random.random() < 0.2:
            whole = whole.replace(random.choice(LINES), random.choice([*LINES, b"", b"\x00"]), 1)
        yield _bytes(random, whole) if random.random() < 0.9 else whole


def grpc_requests(random: Random, count: int) -> Iterator[GrpcRequest]:
    """Messages for both services."""
    for _ in range(count):
        name, message = random.choice(_MESSAGES)
        message = copy.deepcopy(message)
        if random.random() < 0.6:
            _change_message(random, message)
        data = message.SerializeToString()
        yield name, _bytes(random, data) if random.random() < 0.5 else data


def _path(random: Random, path: str) -> str:
    parts = path.split("/")
    for _ in range(random.randint(1, 3)):
        at = random.randrange(1, len(parts) + 1)
        action = random.random()
        if action < 0.4:
            parts.insert(at, random.choice(PIECES))
        elif at < len(parts) and action < 0.7:
            parts[at] += random.choice(PIECES)
        elif at < len(parts):
            del parts[at]
    return "/".join(parts).encode("ascii", "replace").decode().replace(" ", "") or "/"


def _changed(random: Random, value: Any) -> Any:
    """Replace, remove or repeat some parts of a JSON value."""
    if random.random() < 0.12:
        return random.choice(ODD)
    if isinstance(value, dict):
        found = {name: _changed(random, part) for name, part in value.items() if random.random() > 0.05}
        if random.random() < 0.1:
            found[random.choice(["instances", "inputs", "examples", "x", "", "é"])] = random.choice(ODD)
        return found
    if isinstance(value, list):
        if random.random() < 0.03:
            for _ in range(random.choice([5, 40, 200])):
                value = [value]
            return value
        return [_changed(random, part) for part in value * random.choice([1, 1, 1, 2, 20])]
    return value


def _text(random: Random, value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=random.random() < 0.5, indent=random.choice([None, None, 2]))
    return text.encode("utf-8", "surrogatepass")


def _bytes(random: Random, data: bytes) -> bytes:
    """Change some bytes."""
    found = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(found) + 1)
        action = random.random()
        if action < 0.3 and at < len(found):
            found[at] = random.randrange(256)
        elif action < 0.5:
            del found[at : at + random.randint(1, 8)]
        elif action < 0.7:
            found[at:at] = random.randbytes(random.randint(1, 8))
        elif action < 0.9:
            found[at:at] = random.choice(
                [b'"', b"{", b"[", b",", b"\\u", b"NaN", b"-", b"1e999", b"\x00", b"]}"]
            )
        else:
            found[at:at] = random.choice([b"[" * 3000, found[at : at + 50] * random.randint(1, 20)])
    return bytes(found)


def _packed(random: Random, data: bytes) -> tuple[bytes, dict[str, str]]:
    action = random.random()
    headers = {"Accept-Encoding": random.choice(["gzip", "", "*", "gzip;q=0"])}
    if action < 0.05:
        return gzip.compress(data, mtime=0), {**headers, "Content-Encoding": "gzip"}
    if action < 0.08:
        return _bytes(random, gzip.compress(data, mtime=0)), {**headers, "Content-Encoding": "gzip"}
    if action < 0.1:
        return data, {**headers, "Content-Encoding": random.choice(["gzip", "br", "deflate", "x" * 100])}
    return data, headers


def _messages() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    arrays: list[tuple[str, str, dict[str, Any]]] = [
        ("half", "", {"x": np.float32([[1.0], [2.0]])}),
        ("mirror", "string", {"x": np.array(["a", "b"], object)}),
        ("mirror", "int64", {"x": np.int64([1, 2])}),
        ("mirror", "float16", {"x": np.float16([1, 2])}),
        ("mirror", "complex64", {"x": np.complex64([1, 2])}),
        ("mirror", "bool", {"x": np.array([True])}),
        (
            "mirror",
            "named",
            {
                "tag": np.array(["a"], object),
                "signal": np.ones((1, 5), np.float32),
                "sensor": np.ones((1, 2, 2), np.int32),
            },
        ),
    ]
    for model, signature, inputs in arrays:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        found.append(("PredictionService/Predict", request))
    for kind, method, signature in (
        (classification_pb2.ClassificationRequest, "Classify", "scores"),
        (regression_pb2.RegressionRequest, "Regress", "values"),
    ):
        request = kind()
        request.model_spec.name = "mirror"
        request.model_spec.signature_name = signature
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(1.0)
        example.features.feature["s"].bytes_list.value.append(b"a")
        found.append((f"PredictionService/{method}", request))
    several = inference_pb2.MultiInferenceRequest()
    for signature, kind_name in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = several.tasks.add()
        task.model_spec.name = "half"
        task.model_spec.signature_name = signature
        task.method_name = f"tensorflow/serving/{kind_name}"
    several.input.CopyFrom(request.input)
    found.append(("PredictionService/MultiInference", several))
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half"
    found.append(("PredictionService/GetModelMetadata", metadata))
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "half"
    status.model_spec.version.value = 123
    found.append(("ModelService/GetModelStatus", status))
    found.append(("ModelService/HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest()))
    return found


_MESSAGES = _messages()


def _change_message(random: Random, message: Any) -> None:
    """Change a tensor's type, shape or content, or the address."""
    tensors = list(getattr(message, "inputs", {}).values())
    if tensors and random.random() < 0.8:
        tensor = random.choice(tensors)
        action = random.randrange(6)
        if action == 0:
            tensor.dtype = random.choice([0, 1, 3, 7, 9, 14, 19, 20, 21, 23, 101, 999])
        elif action == 1:
            tensor.tensor_shape.dim.add().size = random.choice([-1, 0, 1, 3, 2**31, 2**62, 2**63 - 1])
        elif action == 2:
            tensor.tensor_shape.unknown_rank = True
        elif action == 3:
            tensor.tensor_content = random.randbytes(random.choice([0, 1, 4, 8, 64]))
        elif action == 4:
            tensor.float_val.extend([1.0] * random.randint(1, 9))
            tensor.string_val.append(b"\xff")
        else:
            for _ in range(random.choice([1, 30, 300])):
                tensor.tensor_shape.dim.add().size = 1
    elif hasattr(message, "model_spec"):
        spec = message.model_spec
        action = random.randrange(4)
        if action == 0:
            spec.name = random.choice(["", "absent", "../half", "\x00", "mirror"])
        elif action == 1:
            spec.version.value = random.choice([-1, 0, 123, 2**63 - 1])
        elif action == 2:
            spec.version_label = random.choice(["", "stable", "none"])
        else:
            spec.signature_name = random.choice(["", "scores", "values", "string", "é", "none"])
