"""The REST API of TensorFlow Serving, from threads (http.client) and from an event loop (aiohttp)."""

import asyncio
import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from headrace.data.errors import EnvironmentProblem
from headrace.data.extras import how_to_install

from .address import Address
from .failures import Code, RequestFailed
from .remote import Answer, AsyncRemoteClient, RemoteClient, RemoteSettings
from .rest_json import read_outputs, read_signatures, refusal, write_request
from .signatures import ModelSignature

__all__ = ["AsyncRestClient", "RestClient"]

Array = np.ndarray[Any, Any]

_SCHEMES = ("http", "https")
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_READ_BYTES = 1 << 20
_IDLE = 16
"""Most connections that are kept open while they have nothing to do."""


class RestClient(RemoteClient):
    """A client of `http(s)://HOST:8501/v1/models/MODEL[/versions/N | /labels/NAME]`.

    Connections are kept open and used again. Arguments are those of `RemoteClient`.

    Example:
        with RestClient("http://localhost:8501/v1/models/flights", labels="push/serving/flights") as client:
            for found in client.predict([{"carrier": "UA", "distance": 1400.0}]):
                print(found.label, found.probability)
    """

    _schemes = _SCHEMES

    def __init__(self, url: str, **settings: Unpack[RemoteSettings]) -> None:
        super().__init__(url, **settings)
        self._wires = _Wires(self.address, _context(self))

    def close(self) -> None:
        """Close the connections."""
        self._wires.close()

    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Callable[[float], Answer]:
        body, known = write_request(inputs, signature), _known_outputs(self, signature)
        path, place = f"{address.path}:predict", address.url

        def ask(left_s: float) -> Answer:
            found = read_outputs(self._wires.exchange("POST", path, body, left_s, place), known, place)
            return Answer(_chosen(found, outputs, place), address.version)

        return ask

    def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        place = self.address.url
        body = self._wires.exchange("GET", f"{self.address.path}/metadata", b"", left_s, place)
        return read_signatures(body, place)


class AsyncRestClient(AsyncRemoteClient):
    """The same for an event loop: `await client.predict(rows)`.

    Example:
        async with AsyncRestClient("http://localhost:8501/v1/models/flights") as client:
            found = await client.predict([{"carrier": "UA", "distance": 1400.0}])
    """

    _schemes = _SCHEMES

    def __init__(self, url: str, **settings: Unpack[RemoteSettings]) -> None:
        super().__init__(url, **settings)
        self._context = _context(self)
        self._session: Any = None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Callable[[float], Awaitable[Answer]]:
        body, known = write_request(inputs, signature), _known_outputs(self, signature)
        path, place = f"{address.path}:predict", address.url

        async def ask(left_s: float) -> Answer:
            found = read_outputs(await self._exchange("POST", path, body, left_s), known, place)
            return Answer(_chosen(found, outputs, place), address.version)

        return ask

    async def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        body = await self._exchange("GET", f"{self.address.path}/metadata", b"", left_s)
        return read_signatures(body, self.address.url)

    async def _exchange(self, method: str, path: str, body: bytes, left_s: float) -> bytes:
        try:
            import aiohttp
        except ImportError as error:
            raise EnvironmentProblem(
                f"`AsyncRestClient` needs aiohttp. Received: {error}", how_to_install("client")
            ) from error
        if self._session is None:
            self._session = aiohttp.ClientSession()
        place = self.address.url
        try:
            async with self._session.request(
                method,
                f"{self.address.scheme}://{self.address.netloc}{path}",
                data=body or None,
                headers=_HEADERS,
                ssl=self._context or True,
                timeout=aiohttp.ClientTimeout(total=left_s),
                allow_redirects=False,
            ) as response:
                found: bytes = await response.read()
                status = response.status
        except asyncio.TimeoutError as error:  # noqa: UP041 - aiohttp's own are of this type
            raise _late(place) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, place) from error
        if status != 200:
            raise refusal(status, found, place)
        return found


class _Wires:
    """Open connections to one server, each used by one thread at a time."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        self._address, self._context = address, context
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, deque()
        for wire in idle:
            wire.close()

    def exchange(self, method: str, path: str, body: bytes, left_s: float, place: str) -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            RequestFailed: If there is none, or its status is not 200.
        """
        deadline = time.monotonic() + left_s
        while True:
            with self._lock:
                wire = self._idle.pop() if self._idle else None
            is_used = wire is not None
            wire = wire or self._new(left_s)
            try:
                status, found = _asked(wire, method, path, body, deadline)
                break
            except TimeoutError as error:
                wire.close()
                raise _late(place) from error
            except (OSError, http.client.HTTPException) as error:
                wire.close()
                # A kept connection may have been closed by the server meanwhile: another one will tell.
                if not is_used:
                    raise _broken(error, place) from error
        self._keep(wire)
        if status != 200:
            raise refusal(status, found, place)
        return found

    def _new(self, left_s: float) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=left_s, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=left_s)

    def _keep(self, wire: http.client.HTTPConnection) -> None:
        with self._lock:
            if wire.sock is not None and len(self._idle) < _IDLE:
                self._idle.append(wire)
                return
        wire.close()


def _asked(
    wire: http.client.HTTPConnection, method: str, path: str, body: bytes, deadline: float
) -> tuple[int, bytes]:
    """Return status and body; every step gets the time that is left."""

    def limit() -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if wire.sock is not None:
            wire.sock.settimeout(left_s)

    limit()
    wire.request(method, path, body or None, _HEADERS)
    limit()
    sock = wire.sock  # the response takes it away from a connection that will be closed
    response = wire.getresponse()
    parts = []
    while not response.isclosed():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        part = response.read1(_READ_BYTES)
        if not part:
            break
        parts.append(part)
    if response.length:
        raise http.client.IncompleteRead(b"".join(parts), response.length)
    response.close()  # without this the connection would not take another request
    if response.will_close:
        wire.close()
    return response.status, b"".join(parts)


def _context(client: RestClient | AsyncRestClient) -> ssl.SSLContext | None:
    if not client.address.is_secure:
        return None
    return client._tls.context() if client._tls is not None else ssl.create_default_context()


def _known_outputs(client: RestClient | AsyncRestClient, signature: str) -> Any:
    known = client._known
    return known.outputs if known is not None and known.name == signature else None


def _chosen(found: dict[str, Array], outputs: Sequence[str], place: str) -> dict[str, Array]:
    """Return the outputs wanted: the REST API answers all of them."""
    if not outputs:
        return found
    absent = [name for name in outputs if name not in found]
    if absent:
        raise RequestFailed(
            Code.INVALID_ARGUMENT, f"the signature has no output {', '.join(map(repr, absent))}", place
        )
    return {name: found[name] for name in outputs}


def _broken(error: Exception, place: str) -> RequestFailed:
    """Return the failure that a broken connection is: of trust, which no try mends, or of the network."""
    cause = getattr(error, "certificate_error", getattr(error, "os_error", error))  # aiohttp's name for it
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return RequestFailed(Code.UNAUTHENTICATED, f"TLS failed: {cause}", place)
    return RequestFailed(Code.UNAVAILABLE, f"no connection: {str(error) or type(error).__name__}", place)


def _late(place: str) -> RequestFailed:
    return RequestFailed(Code.DEADLINE_EXCEEDED, "no answer in the time given", place)
