"""The access log and the request log: what is written of requests."""

import datetime
import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import saved_models
from tests.serving.operated import operated


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("logs") / "half"
    saved_models.half_plus_two(root / "123")
    return str(root)


def test_the_access_log_has_a_line_for_each_request(half, tmp_path):
    path = tmp_path / "access.jsonl"
    with operated(half, f"--access_log={path}") as server:
        server.rest.call("POST", "/v1/models/half:predict", {"instances": [[2.0]]}, {"X-Request-Id": "abc"})
        server.rest.predict("half/versions/9", {"instances": [[2.0]]})
        server.rest.get("/livez")
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            message = get_model_status_pb2.GetModelStatusRequest()
            message.model_spec.name = "half"
            stub.GetModelStatus(message, timeout=20, metadata=(("x-request-id", "def"),))
            stub.GetModelStatus(message, timeout=20)
            stub.GetModelStatus(message, timeout=20)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shown = [
        {name: line.get(name) for name in ("door", "api", "model", "version", "code", "status", "request_id")}
        for line in lines
    ]
    assert shown[0] == {
        "door": "REST",
        "api": "Predict",
        "model": "half",
        "version": 123,
        "code": "OK",
        "status": 200,
        "request_id": "abc",
    }
    assert (shown[1]["code"], shown[1]["status"], shown[1]["version"]) == ("NOT_FOUND", 404, 9)
    assert lines[1]["error"] == "Servable not found for request: Specific(half, 9)"
    assert (shown[2]["door"], shown[2]["api"], shown[2]["request_id"]) == ("GRPC", "GetModelStatus", "def")
    assert len(lines) == 5
    assert len({line["request_id"] for line in lines}) == 5  # made where the client gave none
    for line in lines:
        datetime.datetime.fromisoformat(line["time"])
        assert line["ms"] > 0
        assert line["peer"]
    assert lines[0]["request_bytes"] == len(json.dumps({"instances": [[2.0]]}))


def logged(folder: Path) -> list[Any]:
    (path,) = folder.glob("log-half-*.tfrecord")
    return [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]


def test_the_request_log_is_a_tfrecord_of_prediction_logs(half, tmp_path):
    rate = "--request_log_sampling_rate=1"
    with operated(half, f"--request_log={tmp_path / 'log'}", rate) as server:
        server.rest.predict("half", {"instances": [[2.0], [4.0]]})
        server.rest.predict("half", {"instances": "wrong"})
        body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}], "context": {"c": 1}}
        server.rest.post("/v1/models/half:classify", body)
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]}
        server.rest.post("/v1/models/half:regress", body)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            server.predict(channel)
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            message = classification_pb2.ClassificationRequest()
            message.model_spec.name = "half"
            message.model_spec.signature_name = "classify_x_to_y"
            message.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
            stub.Classify(message, timeout=20)
    found = logged(tmp_path)
    kinds = [record.WhichOneof("log_type") for record in found]
    assert kinds == ["predict_log", "classify_log", "regress_log", "predict_log", "classify_log"]
    first = found[0].predict_log
    assert tf.make_ndarray(first.request.inputs["x"]).tolist() == [[2.0], [4.0]]
    assert tf.make_ndarray(first.response.outputs["y"]).tolist() == [[3.0], [4.0]]
    assert found[0].log_metadata.model_spec.version.value == 123
    assert found[0].log_metadata.sampling_config.sampling_rate == 1.0
    context = found[1].classify_log.request.input.example_list_with_context.context
    assert list(context.features.feature["c"].int64_list.value) == [1]
    assert found[2].regress_log.response.result.regressions[0].value == 3.0
    assert found[4].classify_log.response.result.classifications[0].classes[0].score == 3.0


def test_the_request_log_takes_the_share_that_was_asked_for(half, tmp_path):
    share = [f"--request_log={tmp_path / 'log'}", "--request_log_sampling_rate=0.3"]
    with operated(half, *share) as server:
        body = b'{"instances": [[2.0]]}'
        head = f"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(8):  # in parts, since the log leaves out what the disk is too slow for
            server.rest.raw((head.encode() + body) * 25, 25)
            time.sleep(0.1)
    assert 25 < len(logged(tmp_path)) < 95  # 200 * 0.3 = 60, five deviations of 6.5 around it


def test_a_models_own_logging_config_decides_for_it(half, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(f"""
        model_config_list {{ config {{
            name: "half" base_path: "{half}" model_platform: "tensorflow"
            logging_config {{
              log_collector_config {{ type: "file" filename_prefix: "{tmp_path}/log" }}
              sampling_config {{ sampling_rate: 1.0 }}
            }}
        }} }}
    """)
    with operated(str(config)) as server:
        server.rest.predict("half", {"instances": [[2.0]]})
    assert len(logged(tmp_path)) == 1
