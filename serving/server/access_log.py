"""The access log: one JSON line for each request."""

import itertools
import json
import os
import queue
import sys
import threading
import time
from contextlib import suppress

from headrace.data.errors import ConfigError

from .errors import HTTP_STATUS
from .events import Event

__all__ = ["AccessLog"]

_MOST_WAITING = 10_000


class AccessLog:
    """Writes requests as JSON lines, in a thread: a slow disk or pipe never holds up an answer.

    Lines that do not fit into memory any more are dropped, and counted in the next one that does.

    Args:
        path: File to append to; "-" for stderr.

    Raises:
        ConfigError: If the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = sys.stderr if path == "-" else open(path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"an access log must be a writable file. Received: {error}") from error
        self._waiting: queue.Queue[Event | None] = queue.Queue(_MOST_WAITING)
        self._dropped = 0
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(4).hex()
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Log one request."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=1)
        self._thread.join(5)
        if self._file is not sys.stderr:
            self._file.close()

    def _write(self) -> None:
        while True:
            event = self._waiting.get()
            if event is None:
                return
            with suppress(OSError, ValueError):
                self._file.write(self._line(event) + "\n")
                if self._waiting.empty():
                    self._file.flush()

    def _line(self, event: Event) -> str:
        spec = event.spec
        now = time.time()
        found: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
            "request_id": event.request_id or f"{self._id_prefix}-{next(self._ids):x}",
            "door": event.entrypoint,
            "api": event.api,
            "model": spec.name,
            "version": spec.version,
            "label": spec.label,
            "signature": spec.signature,
            "code": event.code.name,
            "ms": round(event.seconds * 1000, 3),
            "peer": event.peer,
            "request_bytes": event.request_bytes,
            "response_bytes": event.response_bytes,
        }
        if event.entrypoint == "REST":
            found["status"] = HTTP_STATUS[event.code]
        if event.message:
            found["error"] = event.message[:1000]
        if self._dropped:
            found["dropped_before"], self._dropped = self._dropped, 0
        return json.dumps({name: value for name, value in found.items() if value not in (None, "")})
