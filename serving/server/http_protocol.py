"""HTTP connections that answer what is no HTTP as every other fault: in JSON, and without a traceback."""

import asyncio
import logging
from typing import Any

import orjson
from aiohttp import web

__all__ = ["FIRST_REQUEST_S", "HttpServer"]

FIRST_REQUEST_S = 60.0
"""Seconds that a new connection may take to send the head of its first request."""

_log = logging.getLogger(__name__)


class HttpServer(web.Server):
    """aiohttp's low-level server, with connections of its own kind."""

    def __call__(self) -> web.RequestHandler:
        """Return what speaks on a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """Tells scanners and broken clients what is wrong, and nobody else: anyone could fill the log with it."""

    __slots__ = ("_unused",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._unused = self._loop.call_later(FIRST_REQUEST_S, self._close_unused)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unused.cancel()  # or it would hold this object until then
        super().connection_lost(exc)

    def _close_unused(self) -> None:
        """Hang up on who has sent no whole head by now; kept connections have aiohttp's own limit."""
        if self._request_count == 0:
            self.force_close()

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
