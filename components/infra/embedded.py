"""The embedded server in this process, on one SavedModel, for as long as a block runs."""

import asyncio
import threading
from types import TracebackType
from typing import Any

import uvloop

from headrace.data.errors import EnvironmentProblem
from headrace.serving.server.core import Settings
from headrace.serving.server.grpc_door import GrpcDoor, GrpcSettings
from headrace.serving.server.manager import ManagerSettings
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import DoorMaker, RunSettings, Server, entry_of_folder
from headrace.serving.server.servable import Servable

__all__ = ["Embedded"]

_ADDRESS = "127.0.0.1"
_DRAIN_S = 1.0


def _grpc(core: Any, listeners: Any) -> GrpcDoor:
    return GrpcDoor(core, GrpcSettings(f"{_ADDRESS}:0"), listeners)


def _rest(core: Any, listeners: Any) -> RestDoor:
    return RestDoor(core, RestSettings(host=_ADDRESS, port=0), listeners)


class Embedded:
    """A server whose one model is loaded, or has failed, once the block is entered.

    The loop only turns in `run_until`; until then the doors listen, and nobody answers.

    Args:
        path: Folder of the SavedModel.
        name: Name to serve it by.
        doors: Whether to open REST and gRPC, on free ports of 127.0.0.1.
    """

    def __init__(self, path: str, name: str, doors: bool) -> None:
        makers: tuple[DoorMaker, ...] = (_grpc, _rest) if doors else ()
        self._settings = RunSettings(
            entries=(entry_of_folder(path, name),),
            core=Settings(manager=ManagerSettings(poll_wait_s=0, max_load_retries=0)),
            doors=makers,
            drain_s=_DRAIN_S,
        )
        self._name = name
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._server: Server | None = None

    def __enter__(self) -> "Embedded":
        self._runner.__enter__()
        try:
            self._server = self._runner.run(self._started())
            self._check()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def servable(self) -> Servable:
        """The loaded version."""
        assert self._server is not None
        (found,) = self._server.core.manager.serving[self._name].values()
        return found

    @property
    def ports(self) -> dict[str, int]:
        """`grpc` and `rest`, where the doors are open."""
        assert self._server is not None
        return {name: door.port for name, door in zip(("grpc", "rest"), self._server.doors, strict=False)}

    def run_until(self, event: threading.Event) -> None:
        """Answer requests until `event` is set, which another thread does."""

        async def wait() -> None:
            await asyncio.get_running_loop().run_in_executor(None, event.wait)

        self._runner.run(wait())

    async def _started(self) -> Server:
        server = Server(self._settings)
        try:
            await server.start(wait=False)
            await server.core.wait_loaded()
        except BaseException:
            await server.stop()
            raise
        return server

    def _check(self) -> None:
        assert self._server is not None
        manager = self._server.core.manager
        if not manager.serving.get(self._name):
            said = "; ".join(status.error_message for status in manager.statuses(self._name))
            raise EnvironmentProblem(said or "no version of it was found")

    def _stop(self) -> None:
        if self._server is not None:
            self._runner.run(self._server.stop())
            self._server = None
        self._runner.__exit__(None, None, None)
