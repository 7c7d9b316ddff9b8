"""The REST door: TensorFlow Serving's HTTP API, health and metrics over one core."""

import asyncio
import itertools
import logging
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from . import rest_messages
from .connections import Connections
from .core import Core
from .errors import HTTP_STATUS, Code, ServingError
from .events import Event, Listener
from .json_examples import example_messages, merged_examples, write_classes, write_values
from .json_tensors import predict_inputs, predict_request, write_outputs
from .model_spec import ModelSpec
from .rest_bodies import BodyRefused, Room, pack, read, takes_gzip, unpack

__all__ = ["RestDoor", "RestSettings"]

_log = logging.getLogger(__name__)

_RUN = re.compile(
    r"(?i)/v1/models/([^/:]+)(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)"
)
_LOOK = re.compile(
    r"(?i)/v1/models(?:/([^/:]+))?(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?(?:/(metadata))?"
)
_API = re.compile(r"(?i)/v1/.*", re.DOTALL)
_HOST = re.compile(r"(?i)^https?://[^/?#]*")
_MAX_VERSION = 2**63 - 1
_MOST_DIGITS = 19
_ORIGIN = re.compile(r"https?://")
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_JSON = "application/json"
_REQUEST_ID = "X-Request-Id"
_APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}
_NOTHING = ModelSpec("")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class RestSettings:
    """How the REST door listens.

    Attributes:
        host: Address that it binds to.
        port: Port; 0 takes a free one.
        tls: Context for HTTPS, or None for plain HTTP.
        timeout_s: Seconds that a request may take, once it is read; 0 for any number.
        body_s: Seconds that a whole body may take, > 0.
        cors: Whether pages of other origins may call it.
        max_body_bytes: Largest body, also after it was unpacked.
        max_held_bytes: Most bytes of bodies, unfinished or in work, at the same time; more are refused with
            503.
        gzip_from_bytes: Answers from this size on are packed for clients that accept it.
        metrics_path: Path of the metrics; empty for none.
        metrics: Returns the page of metrics.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    tls: ssl.SSLContext | None = None
    timeout_s: float = 30.0
    body_s: float = 300.0
    cors: bool = False
    max_body_bytes: int = 256 << 20
    max_held_bytes: int = 1 << 30
    gzip_from_bytes: int = 1024
    metrics_path: str = "/monitoring/prometheus/metrics"
    metrics: Callable[[], str] | None = None


@dataclass(slots=True)
class _Outcome:
    """What is told of a request."""

    api: str = ""
    spec: ModelSpec = _NOTHING
    request_bytes: int = 0
    request: Callable[[], Any] | None = None
    response: Callable[[], Any] | None = None


class RestDoor:
    """Answers HTTP requests from a core.

    Args:
        core: Models and their computations.
        settings: How it listens.
        listeners: Told of every request that was answered.
    """

    def __init__(
        self, core: Core, settings: RestSettings | None = None, listeners: Sequence[Listener] = ()
    ) -> None:
        self._core = core
        self._settings = settings or RestSettings()
        self._listeners = tuple(listeners)
        self._ready = False
        self._room = Room(self._settings.max_held_bytes)
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(4).hex()
        self._server: web.Server | None = None
        self._connections: Connections | None = None
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the address cannot be had.
        """
        settings = self._settings
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._connections = Connections(self._server)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._connections, settings.host, settings.port, ssl=settings.tls, backlog=4096
        )
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def set_serving(self, serving: bool) -> None:
        """Tell load balancers, by `/readyz`, whether requests are answered."""
        self._ready = serving

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, and give those in flight `grace_s` seconds."""
        if self._listener is None or self._server is None or self._connections is None:
            return
        self._listener.close()
        self._connections.close()
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)
        self._listener = self._server = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is, and tell what happened."""
        start = time.perf_counter()
        if self._connections is not None:
            self._connections.used(request.protocol)
        path = request.raw_path.partition("?")[0]
        if path[:1] != "/":  # proxies send the whole URL
            path = _HOST.sub("", path, count=1)
        outcome = _Outcome()
        failure: ServingError | None = None
        kind, status = _JSON, 200
        try:
            if not _API.fullmatch(path):
                status, kind, answer = self._other(request.method, path)
            elif request.method == "OPTIONS":
                _check_origin(request)
                answer = b""
            else:
                answer = await self._answer(request, path, outcome)
        except ServingError as error:
            failure = error
        except Exception as error:
            _log.exception("a request failed in an unexpected way")
            failure = ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        if failure is not None:
            status = failure.status if isinstance(failure, BodyRefused) else HTTP_STATUS[failure.code]
            answer = _error(failure.message)
        request_id = self._request_id(request)
        response = self._response(request, status, kind, answer)
        response.headers[_REQUEST_ID] = request_id
        if isinstance(failure, BodyRefused):
            response.force_close()
        if self._listeners and (outcome.api or _API.fullmatch(path)):
            self._tell(request.remote or "", start, outcome, failure, request_id, len(answer))
        return response

    def _fields(self, kind: str) -> dict[str, Any]:
        fields: dict[str, Any] = dict(_CORS) if self._settings.cors else {}
        fields["Content-Type"] = kind
        fields["Server"] = "headrace"
        return fields

    def _response(self, request: web.BaseRequest, status: int, kind: str, answer: bytes) -> web.Response:
        headers = self._fields(kind)
        if status == 503:
            headers["Retry-After"] = "1"
        if len(answer) >= self._settings.gzip_from_bytes:
            headers["Vary"] = "Accept-Encoding"
            if takes_gzip(request.headers.get("Accept-Encoding", "")):
                answer = pack(answer)
                headers["Content-Encoding"] = "gzip"
        return web.Response(body=answer, status=status, headers=headers)

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get(_REQUEST_ID)
        if given and _VISIBLE.fullmatch(given):
            return given
        return f"{self._id_prefix}-{next(self._ids):x}"

    @contextmanager
    def _held(self) -> Iterator[Callable[[web.BaseRequest], Awaitable[bytes]]]:
        """Give what reads and unpacks a body, whose memory is accounted for until the block ends."""
        settings = self._settings
        held = 0

        async def hold(request: web.BaseRequest) -> bytes:
            nonlocal held
            body = await read(request, self._room, settings.max_body_bytes, settings.body_s)
            held = len(body)
            packing = request.headers.get("Content-Encoding")
            if packing is not None:
                body = unpack(body, packing, settings.max_body_bytes)
                self._room.take(max(0, len(body) - held))
                held = max(held, len(body))
            return body

        try:
            yield hold
        finally:
            self._room.give(held)

    async def _answer(self, request: web.BaseRequest, path: str, outcome: _Outcome) -> bytes:
        """Answer a request of the API."""
        method = request.method
        pattern = {"POST": _RUN, "GET": _LOOK}.get(method)
        found = pattern.fullmatch(path) if pattern is not None else None
        if found is None or (method == "POST" and found[4] not in _APIS):
            raise ServingError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")
        name, version, label, verb = found.groups()
        outcome.spec = spec = _spec(name or "", version, label)
        if method == "GET":
            outcome.api = "GetModelMetadata" if verb else "GetModelStatus"
            if not name:
                raise ServingError(Code.INVALID_ARGUMENT, "Missing model name in request.")
            if verb == "metadata":
                return rest_messages.metadata(spec, *self._core.metadata(spec))
            return rest_messages.status(self._core.status(spec.name, spec.version))
        outcome.api = _APIS[verb]
        run: Callable[[ModelSpec, bytes, _Outcome], Awaitable[bytes]] = getattr(self, f"_{verb}")
        with self._held() as hold:
            body = await hold(request)
            outcome.request_bytes = len(body)
            with self._core.admission.entered():
                return await run(spec, body, outcome)

    def _deadline(self) -> float | None:
        timeout_s = self._settings.timeout_s
        return time.monotonic() + timeout_s if timeout_s > 0 else None

    async def _predict(self, spec: ModelSpec, body: bytes, outcome: _Outcome) -> bytes:
        deadline = self._deadline()
        request = predict_request(body)
        outcome.spec = spec = replace(spec, signature=request.signature)
        # The version cannot change between here and the run: nothing is awaited in between.
        with self._core.resolve(spec) as lease:
            method = lease.servable.methods.get(spec.signature_name)
            if method is None:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f'Serving signature name: "{spec.signature_name}" not found in signature def',
                )
            inputs, rows = predict_inputs(request, method)
            del request  # the document is many times larger than the arrays
            answer = await self._core.predict(
                spec if spec.label is None else replace(spec, label=None, version=lease.version),
                inputs,
                deadline=deadline,
            )
        outcome.spec = answer.spec
        if self._listeners:
            outcome.request = lambda: rest_messages.predict_request(spec, inputs)
            outcome.response = lambda: rest_messages.predict_response(answer)
        return write_outputs(answer.outputs, rows)

    async def _classify(self, spec: ModelSpec, body: bytes, outcome: _Outcome) -> bytes:
        deadline = self._deadline()
        request = predict_request(body)
        outcome.spec = spec = replace(spec, signature=request.signature)
        context, examples = example_messages(request)
        answer = await self._core.classify(spec, merged_examples(context, examples), deadline=deadline)
        outcome.spec = answer.spec
        if self._listeners:
            outcome.request = lambda: rest_messages.classify_request(spec, context, examples)
            outcome.response = lambda: rest_messages.classify_response(answer)
        return write_classes(answer.outputs)

    async def _regress(self, spec: ModelSpec, body: bytes, outcome: _Outcome) -> bytes:
        deadline = self._deadline()
        request = predict_request(body)
        outcome.spec = spec = replace(spec, signature=request.signature)
        context, examples = example_messages(request)
        answer = await self._core.regress(spec, merged_examples(context, examples), deadline=deadline)
        outcome.spec = answer.spec
        if self._listeners:
            outcome.request = lambda: rest_messages.regress_request(spec, context, examples)
            outcome.response = lambda: rest_messages.regress_response(answer)
        return write_values(answer.outputs["outputs"])

    def _other(self, method: str, path: str) -> tuple[int, str, bytes]:
        """Answer what is not the API: health and metrics."""
        settings = self._settings
        if method in ("GET", "HEAD"):
            if path in ("/livez", "/healthz"):
                return 200, "text/plain", b"ok\n"
            if path == "/readyz":
                ready = self._ready and self._core.ready()
                return (200, "text/plain", b"ok\n") if ready else (503, "text/plain", b"not ready\n")
            if settings.metrics is not None and settings.metrics_path and path == settings.metrics_path:
                return 200, "text/plain; version=0.0.4", settings.metrics().encode("utf-8")
        return 404, _JSON, _error(f"Not Found: {method} {path}")

    def _tell(
        self,
        peer: str,
        start: float,
        outcome: _Outcome,
        failure: ServingError | None,
        request_id: str,
        response_bytes: int,
    ) -> None:
        event = Event(
            "REST",
            outcome.api,
            outcome.spec,
            Code.OK if failure is None else failure.code,
            "" if failure is None else failure.message,
            time.perf_counter() - start,
            peer,
            request_id,
            outcome.request_bytes,
            0 if failure else response_bytes,
            outcome.request,
            None if failure else outcome.response,
        )
        for listener in self._listeners:
            listener(event)


def _spec(name: str, version: str | None, label: str | None) -> ModelSpec:
    if version is None:
        return ModelSpec(unquote(name), None, None if label is None else unquote(label))
    digits = version.lstrip("0") or "0"
    if len(digits) > _MOST_DIGITS or int(digits) > _MAX_VERSION:
        raise ServingError(Code.INVALID_ARGUMENT, f"Failed to convert version: {version[:100]} to numeric.")
    return ModelSpec(unquote(name), int(digits))


def _check_origin(request: web.BaseRequest) -> None:
    if not _ORIGIN.search(request.headers.get("Origin", "")):
        raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")


def _error(message: str) -> bytes:
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return orjson.dumps({"error": text}, option=orjson.OPT_INDENT_2)
