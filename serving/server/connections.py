"""HTTP connections of the REST door: aiohttp's, which answer what is no HTTP in JSON, without a traceback."""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

__all__ = ["FIRST_REQUEST_S", "Connections"]

FIRST_REQUEST_S = 60.0
"""Seconds that a new connection may take to send the head of its first request."""

_OPTIONS: Mapping[str, Any] = {"access_log": None, "auto_decompress": False, "keepalive_timeout": 75.0}

_QUOTED = re.compile(r""":?\s*(?:bytearray\()?\bb['"]""")
"""Where aiohttp's texts begin to repeat what was sent."""

_log = logging.getLogger(__name__)


class Connections:
    """Makes connections, and hangs up on those that never ask anything.

    Args:
        server: aiohttp's low-level server, whose handler calls `used`.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._unused: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> web.RequestHandler:
        """Return what speaks on a new connection."""
        # Bodies are unpacked by the door, where their size can be bounded and faults have a JSON answer.
        made = _Connection(self._server, loop=self._loop, **_OPTIONS)
        self._unused[made] = self._loop.call_later(FIRST_REQUEST_S, self._close_unused, made)
        return made

    def used(self, connection: web.RequestHandler) -> None:
        """Note that a request has come; kept connections have aiohttp's own limit from now on."""
        waiting = self._unused.pop(connection, None)
        if waiting is not None:
            waiting.cancel()

    def _close_unused(self, connection: web.RequestHandler) -> None:
        del self._unused[connection]
        connection.force_close()

    def close(self) -> None:
        """Wait for no first request any more."""
        for waiting in self._unused.values():
            waiting.cancel()
        self._unused.clear()


class _Connection(web.RequestHandler):
    """Tells scanners and broken clients what is wrong, and nobody else: anyone could fill the log with it."""

    __slots__ = ()

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
        body: dict[str, Any] = {"error": f"Malformed request: {_rule(str(message or exc or ''))}"}
        headers = {"Server": "headrace"}
        response = web.Response(
            body=orjson.dumps(body), status=status, headers=headers, content_type="application/json"
        )
        response.force_close()
        return response


def _rule(text: str) -> str:
    """Return what aiohttp says of a request that is no HTTP, without the bytes of it that follow."""
    return _QUOTED.split(" ".join(text.split()), maxsplit=1)[0][:500]
