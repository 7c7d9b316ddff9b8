"""A server made from the flags of a command line, at free ports."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from headrace.serving.server.flags import parse_flags
from headrace.serving.server.rest import RestDoor
from headrace.serving.server.serve import run_settings
from tests.serving.rest_calls import Rest
from tests.serving.running import RunningServer, running


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Operated:
    """A server made from flags."""

    def __init__(self, server: RunningServer, port: int, logs: list[Any]) -> None:
        self.server = server
        self.port = port
        self.logs = logs
        doors = [door for door in server.server.doors if isinstance(door, RestDoor)]
        self.rest = Rest(doors[0].port) if doors else None

    def predict(self, channel: grpc.Channel, model: str = "half", *, signature: str = "") -> Any:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        message = predict_pb2.PredictRequest()
        message.model_spec.name = model
        message.model_spec.signature_name = signature
        message.inputs["x"].CopyFrom(tf.make_tensor_proto([[2.0]], tf.float32))
        return stub.Predict(message, timeout=20)


@contextmanager
def operated(*arguments: str) -> Iterator[Operated]:
    """Serve what a command line describes, at free ports."""
    port, rest_port = free_port(), free_port()
    logs: list[Any] = []
    flags = parse_flags([f"--port={port}", f"--rest_api_port={rest_port}", *arguments])
    try:
        with running(run_settings(flags, logs)) as server:
            yield Operated(server, port, logs)
    finally:
        for log in logs:
            log.close()


def answer(rest: Rest, path: str = "half") -> float:
    return float(rest.predict(path, {"instances": [[2.0]]}).json["predictions"][0][0])


def names(server: Operated) -> dict[str, list[int]]:
    return {name: list(found) for name, found in server.server.core.manager.serving.items()}
