"""A server in a thread of the test process, on free ports."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from headrace.serving.server.grpc_door import GrpcDoor, GrpcSettings
from headrace.serving.server.run import RunSettings, Server


class RunningServer:
    """A started server, and a way to run coroutines in its loop."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.core = server.core
        self._loop = loop

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.server.doors[0].port}"

    def channel(self) -> grpc.Channel:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.insecure_channel(self.grpc_address, options=options)

    def do(self, work: Coroutine[Any, Any, Any], timeout_s: float = 60.0) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)


@contextmanager
def running(settings: RunSettings, *, wait: bool = True, **grpc_settings: Any) -> Iterator[RunningServer]:
    """Run a server with a gRPC door until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def door(core: Any, listeners: Any) -> GrpcDoor:
        return GrpcDoor(core, GrpcSettings("127.0.0.1:0", **grpc_settings), listeners)

    async def make() -> Server:
        server = Server(RunSettings(**{**settings.__dict__, "doors": (door, *settings.doors)}))
        try:
            await server.start(wait=wait)
        except BaseException:
            await server.stop()
            raise
        return server

    server = None
    try:
        server = asyncio.run_coroutine_threadsafe(make(), loop).result(120)
        yield RunningServer(server, loop)
    finally:
        if server is not None:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
