"""HTTP connections that refuse early, and answer what is no HTTP in JSON and without a traceback."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from .refusal import Head, read_head

__all__ = ["FIRST_REQUEST_S", "HttpServer"]

FIRST_REQUEST_S = 60.0
"""Seconds that a new connection may take to send the head of its first request."""

_TURN_S = 0.002
_REFUSALS_PER_S = 15_000
"""So many refused connections are read further in a second: a flood of them takes half of the time at most,
and those whose requests are in work are not looked for among thousands of others."""

_log = logging.getLogger(__name__)


class HttpServer(web.Server):
    """aiohttp's low-level server, with connections of its own kind.

    Args:
        handler: Answers a request.
        refuse: Returns the bytes of an answer to a request that is not to be read, for a client's address;
            None for one that is welcome.
        full: Whether `refuse` is to be asked.
        options: aiohttp's.
    """

    def __init__(
        self,
        handler: Any,
        *,
        refuse: Callable[[Head, str], bytes | None],
        full: Callable[[], bool],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.refuse = refuse
        self.full = full
        self._waiting: deque[_Connection] = deque()
        self._last_turn = 0.0

    def rest(self, connection: "_Connection") -> None:
        """Read a refused connection further when it is its turn."""
        if not self._waiting:
            self._last_turn = self._loop.time()
            self._loop.call_later(_TURN_S, self._next_turn)
        self._waiting.append(connection)

    def _next_turn(self) -> None:
        now = self._loop.time()
        count = 1 + int((now - self._last_turn) * _REFUSALS_PER_S)
        self._last_turn = now
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft().read_on()
        if self._waiting:
            self._loop.call_later(_TURN_S, self._next_turn)

    def __call__(self) -> web.RequestHandler:
        """Return what speaks on a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """Tells scanners and broken clients what is wrong, and nobody else: anyone could fill the log with it.

    As long as requests are plain it knows where each ends, so that it may refuse the next one itself.
    """

    __slots__ = ("_door", "_left", "_passing", "_plain", "_refused_at", "_resting", "_unused")

    def __init__(self, manager: HttpServer, **options: Any) -> None:
        super().__init__(manager, **options)
        self._door = manager
        self._plain = True
        self._left = 0  # bytes of the present request that have not come yet
        self._passing = False  # they are read past, for the request was refused
        self._refused_at = -1.0
        self._resting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._unused = self._loop.call_later(FIRST_REQUEST_S, self._close_unused)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unused.cancel()  # or it would hold this object until then
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand to aiohttp what is not refused."""
        if self._plain:
            data = self._welcome(data)
        if data:
            super().data_received(data)

    def _welcome(self, data: bytes) -> bytes:
        """Refuse what may be, and return the rest of `data`."""
        start = at = 0
        while at < len(data):
            if not self._left:
                head = read_head(data[at:] if at else data)
                if head is None:
                    self._plain = False
                    break
                self._left = head.size + head.body
                # What came before has to be answered before.
                self._passing = start == at and self._door.full() and self._idle() and self._refuse(head)
            here = min(self._left, len(data) - at)
            self._left -= here
            at += here
            if self._passing:
                start = at
        return data[start:] if start else data

    def _idle(self) -> bool:
        """Whether aiohttp has answered everything that it was given, and takes more."""
        waiting = self._waiter is not None and not self._waiter.done()
        return (
            (waiting or self._request_count == 0)
            and not (self._messages or self._close or self._force_close or self.writing_paused)
            and self.transport is not None
        )

    def _refuse(self, head: Head) -> bool:
        assert self.transport is not None
        address = self.transport.get_extra_info("peername")
        answer = self._door.refuse(head, address[0] if isinstance(address, tuple) else "")
        if answer is None:
            return False
        self.transport.write(answer)
        self._refused_at = self._loop.time()
        self._next_keepalive_close_time = self._refused_at + self._keepalive_timeout
        if not self._resting:
            self._resting = True
            self.transport.pause_reading()
            self._door.rest(self)
        return True

    def read_on(self) -> None:
        """Take more from the client."""
        self._resting = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _close_unused(self) -> None:
        """Hang up on who has sent no whole head by now; kept connections have aiohttp's own limit."""
        if self._request_count:
            return
        rest = self._refused_at + self._keepalive_timeout - self._loop.time()
        if self._refused_at < 0 or rest <= 0:
            self.force_close()
        else:
            self._unused = self._loop.call_later(rest, self._close_unused)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("a connection failed in an unexpected way", exc_info=exc)
        else:
            _log.debug("a request was no HTTP: %s", exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was cut off by an error")
        text = " ".join(str(message or exc or "").split())
        body: dict[str, Any] = {"error": f"Malformed request: {text[:500]}"}
        response = web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
        response.force_close()
        return response
