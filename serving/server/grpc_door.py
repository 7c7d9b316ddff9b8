"""The gRPC door: PredictionService, ModelService, health and reflection over one core."""

import contextlib
import importlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from .core import Core
from .errors import Code, ServingError, cut
from .events import Event, Listener
from .examples import serialized_examples
from .inference import CLASSIFY
from .model_spec import ModelSpec
from .results import fill_classes, fill_spec, fill_values
from .tensors import fill, from_proto

__all__ = ["GrpcDoor", "GrpcSettings", "spec_of"]

_log = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICES = ("", "PredictionService", "ModelService", PREDICTION_SERVICE, MODEL_SERVICE)
"""Names that the health service knows: the first two as upstream spells them, then the services' own."""

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SIGNATURE_DEF = "signature_def"
_TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_REQUEST_ID = "x-request-id"
_LOADS = "/tensorflow/cc/saved_model/load_attempt_count"
_APIS = {
    "_predict": "Predict",
    "_classify": "Classify",
    "_regress": "Regress",
    "_multi_inference": "MultiInference",
    "_metadata": "GetModelMetadata",
    "_status": "GetModelStatus",
    "_reload": "HandleReloadConfigRequest",
}
_COMPUTATIONS = frozenset({"Predict", "Classify", "Regress", "MultiInference"})


@dataclass(frozen=True)
class GrpcSettings:
    """How the gRPC door listens.

    Attributes:
        address: Host and port, such as "127.0.0.1:8500"; port 0 takes a free one. "unix:PATH" is a socket.
        credentials: Server credentials of `grpc`, or None for plain text.
        tensors_as_content: Answer tensors in `tensor_content` instead of the typed fields.
        health_service: Whether the health service is there.
        max_concurrent: Most requests at the same time, >= 1; None for any number.
        channel_arguments: Further options of the channel.
        reload_config: Whether clients may say which models are served.
    """

    address: str = "127.0.0.1:8500"
    credentials: Any = None
    tensors_as_content: bool = False
    health_service: bool = True
    max_concurrent: int | None = None
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    extra_addresses: tuple[str, ...] = field(default=())
    reload_config: bool = True


class _Inputs(Mapping[str, np.ndarray[Any, Any]]):
    """The tensors of a request, read when they are asked for: names are checked before contents."""

    def __init__(self, protos: Mapping[str, Any]) -> None:
        self._protos = protos

    def __getitem__(self, alias: str) -> np.ndarray[Any, Any]:
        if alias not in self._protos:  # a protobuf map would make one
            raise KeyError(alias)
        return from_proto(self._protos[alias])

    def __contains__(self, alias: object) -> bool:
        return alias in self._protos

    def __iter__(self) -> Iterator[str]:
        return iter(self._protos)

    def __len__(self) -> int:
        return len(self._protos)


class GrpcDoor:
    """Answers gRPC requests from a core.

    Args:
        core: Models and their computations.
        settings: How it listens.
        listeners: Told of every request that was answered.
    """

    def __init__(
        self, core: Core, settings: GrpcSettings | None = None, listeners: Sequence[Listener] = ()
    ) -> None:
        self._core = core
        self._settings = settings or GrpcSettings()
        self._listeners = tuple(listeners)
        self._health = health.aio.HealthServicer()
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: If the address cannot be had.
        """
        settings = self._settings
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *settings.channel_arguments,
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=settings.max_concurrent)
        server.add_generic_rpc_handlers((self._prediction_handlers(), self._model_handlers()))
        names = [PREDICTION_SERVICE, MODEL_SERVICE]
        if settings.health_service:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            names.append(health.SERVICE_NAME)
        _register_descriptors()
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        for address in (settings.address, *settings.extra_addresses):
            if settings.credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, settings.credentials)
            self.port = self.port or port
        await self.set_serving(False)
        await server.start()
        self._server = server

    async def set_serving(self, serving: bool) -> None:
        """Tell the health service whether requests are answered."""
        states = health_pb2.HealthCheckResponse
        for name in HEALTH_SERVICES:
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, and give those in flight `grace_s` seconds."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def _prediction_handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            PREDICTION_SERVICE,
            {
                "Predict": self._handler(predict_pb2.PredictRequest, self._predict),
                "Classify": self._handler(classification_pb2.ClassificationRequest, self._classify),
                "Regress": self._handler(regression_pb2.RegressionRequest, self._regress),
                "MultiInference": self._handler(inference_pb2.MultiInferenceRequest, self._multi_inference),
                "GetModelMetadata": self._handler(
                    get_model_metadata_pb2.GetModelMetadataRequest, self._metadata
                ),
            },
        )

    def _model_handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            MODEL_SERVICE,
            {
                "GetModelStatus": self._handler(get_model_status_pb2.GetModelStatusRequest, self._status),
                "HandleReloadConfigRequest": self._handler(
                    model_management_pb2.ReloadConfigRequest, self._reload
                ),
            },
        )

    def _handler(self, kind: Any, answer: Callable[[Any], Awaitable[tuple[Any, ModelSpec]]]) -> Any:
        """Return the handler of one method: admit, parse, answer, serialize, and tell what happened."""
        api = _APIS[answer.__name__]
        parse = kind.FromString
        admitted = self._core.admission.entered if api in _COMPUTATIONS else contextlib.nullcontext

        async def handle(wire: bytes, context: Any) -> bytes:
            start = time.perf_counter()
            request = None
            try:
                with admitted():
                    request = parse(wire)
                    response, spec = await answer(request)
                    sent: bytes = response.SerializeToString()
            except Exception as error:
                failure = _as_serving_error(error)
                self._tell(api, start, context, wire, request, failure, None, b"")
                await context.abort(_STATUS_CODES[int(failure.code)], cut(failure.message))
                raise
            if self._listeners:
                self._tell(api, start, context, wire, request, spec, response, sent)
            return sent

        return grpc.unary_unary_rpc_method_handler(handle)

    def _tell(
        self,
        api: str,
        start: float,
        context: Any,
        wire: bytes,
        request: Any,
        outcome: ModelSpec | ServingError,
        response: Any,
        sent: bytes,
    ) -> None:
        if not self._listeners:
            return
        failed = isinstance(outcome, ServingError)
        metadata = dict(context.invocation_metadata() or ())
        event = Event(
            "GRPC",
            api,
            _asked(request) if isinstance(outcome, ServingError) else outcome,
            outcome.code if isinstance(outcome, ServingError) else Code.OK,
            outcome.message if isinstance(outcome, ServingError) else "",
            time.perf_counter() - start,
            context.peer() or "",
            str(metadata.get(_REQUEST_ID, "")),
            len(wire),
            len(sent),
            request,
            None if failed else response,
        )
        for listener in self._listeners:
            listener(event)

    async def _predict(self, request: Any) -> tuple[Any, ModelSpec]:
        spec = spec_of(request)
        answer = await self._core.predict(spec, _Inputs(request.inputs), request.output_filter)
        response = predict_pb2.PredictResponse()
        fill_spec(response.model_spec, answer.spec)
        for alias, array in answer.outputs.items():
            fill(response.outputs[alias], array, as_content=self._settings.tensors_as_content)
        return response, answer.spec

    async def _classify(self, request: Any) -> tuple[Any, ModelSpec]:
        answer = await self._core.classify(spec_of(request), serialized_examples(request.input))
        response = classification_pb2.ClassificationResponse()
        fill_spec(response.model_spec, answer.spec)
        fill_classes(response.result, answer)
        return response, answer.spec

    async def _regress(self, request: Any) -> tuple[Any, ModelSpec]:
        answer = await self._core.regress(spec_of(request), serialized_examples(request.input))
        response = regression_pb2.RegressionResponse()
        fill_spec(response.model_spec, answer.spec)
        fill_values(response.result, answer)
        return response, answer.spec

    async def _multi_inference(self, request: Any) -> tuple[Any, ModelSpec]:
        tasks = [(_spec(task.model_spec), task.method_name) for task in request.tasks]
        answers = await self._core.multi_inference(tasks, serialized_examples(request.input))
        response = inference_pb2.MultiInferenceResponse()
        for (_, method_name), answer in zip(tasks, answers, strict=True):
            result = response.results.add()
            fill_spec(result.model_spec, answer.spec)
            if method_name == CLASSIFY:
                fill_classes(result.classification_result, answer)
            else:
                fill_values(result.regression_result, answer)
        return response, answers[0].spec

    async def _metadata(self, request: Any) -> tuple[Any, ModelSpec]:
        spec = spec_of(request)
        if not request.metadata_field:
            raise ServingError(
                Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != _SIGNATURE_DEF:
                raise ServingError(Code.INVALID_ARGUMENT, f"Metadata field {name} is not supported")
        version, signatures = self._core.metadata(spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        response.metadata[_SIGNATURE_DEF].type_url = _TYPE_URL
        response.metadata[_SIGNATURE_DEF].value = signatures.SerializeToString()
        return response, ModelSpec(spec.name, version)

    async def _status(self, request: Any) -> tuple[Any, ModelSpec]:
        spec = spec_of(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._core.status(spec.name, spec.version):
            entry = response.model_version_status.add()
            entry.version = status.version
            entry.state = int(status.state)
            entry.status.error_code = int(status.error_code)
            entry.status.error_message = status.error_message
        return response, spec

    async def _reload(self, request: Any) -> tuple[Any, ModelSpec]:
        if not self._settings.reload_config:
            raise ServingError(
                Code.PERMISSION_DENIED,
                "who can reach a server from other machines must not choose its models. "
                "Received: HandleReloadConfigRequest (--allow_reload_config permits it)",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported",
            )
        before = self._core.manager.loads.total
        await self._core.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name in sorted(set(request.metric_names)):  # of the counters that a reload moves this one is here
            more = self._core.manager.loads.total - before if name == _LOADS else 0
            response.metric.add(name=name, int64_value_increase=more)
        return response, ModelSpec("")


def spec_of(request: Any) -> ModelSpec:
    """Return the address in a request.

    Raises:
        ServingError: INVALID_ARGUMENT, if it has none.
    """
    if not request.HasField("model_spec"):
        raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    return _spec(request.model_spec)


def _spec(proto: Any) -> ModelSpec:
    kind = proto.WhichOneof("version_choice")
    return ModelSpec(
        proto.name,
        proto.version.value if kind == "version" else None,
        proto.version_label if kind == "version_label" else None,
        proto.signature_name,
    )


def _asked(request: Any) -> ModelSpec:
    """Return what a failed request asked for, as far as it says."""
    if request is None:
        return ModelSpec("")
    if getattr(request, "tasks", None):
        return _spec(request.tasks[0].model_spec)
    return _spec(request.model_spec) if hasattr(request, "model_spec") else ModelSpec("")


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    if isinstance(error, DecodeError):
        return ServingError(Code.INVALID_ARGUMENT, "Failed to parse the request message")
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, "out of memory")
    _log.exception("a request failed in an unexpected way")
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")


def _register_descriptors() -> None:
    """Put the services into the descriptor pool, where reflection looks for them.

    The generated modules of tensorflow-serving-api 2.19 register their file and then fail under protobuf's C
    implementation, because they set an attribute of the descriptor that cannot be written.
    """
    for name in ("prediction_service_pb2", "model_service_pb2"):
        with contextlib.suppress(AttributeError):
            importlib.import_module(f"tensorflow_serving.apis.{name}")
