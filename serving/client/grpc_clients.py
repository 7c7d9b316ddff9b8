"""PredictionService over gRPC, from threads and from an event loop, without TensorFlow."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack

import grpc
import numpy as np

from .address import Address
from .failures import Code, RequestFailed
from .grpc_tensors import fill, read
from .messages import TYPES, message_class
from .remote import Answer, AsyncRemoteClient, RemoteClient, RemoteSettings
from .security import ClientTls
from .signatures import ModelSignature, Tensor

__all__ = ["AsyncGrpcClient", "GrpcClient"]

Array = np.ndarray[Any, Any]

_SCHEMES = ("grpc", "grpcs")
_SERVICE = "/tensorflow.serving.PredictionService"
_OPTIONS = (
    # Upstream's server has no limit; the client's own of 4 MiB would refuse large answers.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that comes back is found by the next try, not after a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class GrpcClient(RemoteClient):
    """A client of `grpc(s)://HOST:8500/MODEL[/versions/N | /labels/NAME]`, over one kept connection.

    Arguments are those of `RemoteClient`.

    Example:
        with GrpcClient("grpc://localhost:8500/flights", labels="push/serving/flights") as client:
            found = client.predict([{"carrier": "UA", "distance": 1400.0}])[0]
    """

    _schemes = _SCHEMES

    def __init__(self, url: str, **settings: Unpack[RemoteSettings]) -> None:
        super().__init__(url, **settings)
        credentials = _credentials(self.address, self._tls)
        target = self.address.netloc
        self._channel = (
            grpc.insecure_channel(target, _OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _OPTIONS)
        )
        self._predict, self._metadata = _calls(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Callable[[float], Answer]:
        message = _request(address, inputs, signature, outputs)

        def ask(left_s: float) -> Answer:
            try:
                return _answer(self._predict(message, timeout=left_s), address.url)
            except grpc.RpcError as error:
                raise _failure(error, address.url) from error

        return ask

    def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        try:
            return _signatures(self._metadata(_metadata_request(self.address), timeout=left_s))
        except grpc.RpcError as error:
            raise _failure(error, self.address.url) from error


class AsyncGrpcClient(AsyncRemoteClient):
    """The same for an event loop: `await client.predict(rows)`.

    Example:
        async with AsyncGrpcClient("grpc://localhost:8500/flights") as client:
            found = await client.predict([{"carrier": "UA", "distance": 1400.0}])
    """

    _schemes = _SCHEMES

    def __init__(self, url: str, **settings: Unpack[RemoteSettings]) -> None:
        super().__init__(url, **settings)
        self._credentials = _credentials(self.address, self._tls)
        self._channel: Any = None
        self._calls: tuple[Any, Any] | None = None

    async def close(self) -> None:
        """Close the connection."""
        channel, self._channel, self._calls = self._channel, None, None
        if channel is not None:
            await channel.close()

    def _opened(self) -> tuple[Any, Any]:
        """Return the calls; the channel belongs to the loop in which it was made."""
        if self._calls is None:
            target = self.address.netloc
            self._channel = (
                grpc.aio.insecure_channel(target, _OPTIONS)
                if self._credentials is None
                else grpc.aio.secure_channel(target, self._credentials, _OPTIONS)
            )
            self._calls = _calls(self._channel)
        return self._calls

    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Callable[[float], Awaitable[Answer]]:
        message = _request(address, inputs, signature, outputs)

        async def ask(left_s: float) -> Answer:
            try:
                return _answer(await self._opened()[0](message, timeout=left_s), address.url)
            except grpc.RpcError as error:
                raise _failure(error, address.url) from error

        return ask

    async def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        try:
            return _signatures(await self._opened()[1](_metadata_request(self.address), timeout=left_s))
        except grpc.RpcError as error:
            raise _failure(error, self.address.url) from error


def _credentials(address: Address, tls: ClientTls | None) -> Any:
    if not address.is_secure:
        return None
    return grpc.ssl_channel_credentials(*(tls.contents() if tls is not None else ()))


def _calls(channel: Any) -> tuple[Any, Any]:
    return _call(channel, "Predict", "PredictResponse"), _call(
        channel, "GetModelMetadata", "MetadataResponse"
    )


def _call(channel: Any, method: str, answer: str) -> Any:
    return channel.unary_unary(
        f"{_SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class(answer).FromString,
    )


def _request(address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]) -> Any:
    message = message_class("PredictRequest")()
    _fill_spec(message.model_spec, address)
    message.model_spec.signature_name = signature
    for name, array in inputs.items():
        fill(message.inputs[name], np.asarray(array))
    message.output_filter.extend(outputs)
    return message


def _metadata_request(address: Address) -> Any:
    message = message_class("MetadataRequest")(metadata_field=["signature_def"])
    _fill_spec(message.model_spec, address)
    return message


def _fill_spec(spec: Any, address: Address) -> None:
    spec.name = address.model
    if address.version is not None:
        spec.version.value = address.version
    elif address.label is not None:
        spec.version_label = address.label


def _answer(message: Any, place: str) -> Answer:
    try:
        outputs = {name: read(tensor) for name, tensor in message.outputs.items()}
    except ValueError as error:
        raise RequestFailed(Code.UNKNOWN, str(error), place) from error
    spec = message.model_spec
    return Answer(outputs, spec.version.value if spec.HasField("version") else None)


def _signatures(message: Any) -> dict[str, ModelSignature]:
    found = message_class("SignatureMap").FromString(message.metadata["signature_def"].value)
    version = message.model_spec.version.value
    return {
        name: ModelSignature(name, _tensors(parts.inputs), _tensors(parts.outputs), version)
        for name, parts in found.signature_def.items()
        if not name.startswith("__")
    }


def _tensors(parts: Any) -> dict[str, Tensor]:
    return {
        name: Tensor(TYPES.get(info.dtype, f"DT_{info.dtype}"), _shape(info.tensor_shape))
        for name, info in sorted(parts.items())
    }


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _failure(error: Any, place: str) -> RequestFailed:
    text = error.details() or "no reason given"
    return RequestFailed(Code(error.code().value[0]), text, place)
