"""HTTP as a client of the REST door speaks it: one request a call, or raw bytes on a socket."""

import gzip
import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        packed = self.headers.get("content-encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if packed else self.body)

    @property
    def error(self) -> str:
        """The text of an error body, which holds nothing else."""
        found = self.json
        assert list(found) == ["error"], found
        return str(found["error"])


class Rest:
    """A REST door at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request; a body that is neither bytes, text nor an iterator is sent as JSON."""
        if isinstance(body, dict | list):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            chunked = body is not None and not isinstance(body, bytes)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None or method in ("POST", "PUT"):
                connection.putheader("Content-Length", str(len(body or b"")))
            connection.endheaders(body, encode_chunked=chunked)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, found, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any) -> Reply:
        return self.call("POST", path, body)

    def predict(self, model: str, body: Any) -> Reply:
        return self.call("POST", f"/v1/models/{model}:predict", body)

    def raw(self, data: bytes, answers: int = 1) -> list[Reply]:
        """Send bytes on one connection, and read so many answers from it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(data)
            stream = connection.makefile("rb")
            return [_read(stream) for _ in range(answers)]


def _read(stream: Any) -> Reply:
    status = int(stream.readline().split()[1])
    headers: dict[str, str] = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Reply(status, headers, stream.read(int(headers.get("content-length", 0))))
