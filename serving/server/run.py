"""Running a server: core and doors, the config file's changes, and a quiet end on SIGTERM."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headrace.data.errors import ConfigError, EnvironmentProblem

from .config_file import read_config
from .core import Core, Settings
from .errors import ServingError
from .events import Listener
from .source import ModelEntry, VersionPolicy, entries_of

__all__ = ["Door", "DoorMaker", "RunSettings", "Server", "entry_of_folder", "run"]

_log = logging.getLogger(__name__)

_SWITCH_S = 0.001
_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


class Door(Protocol):
    """A way in: gRPC or REST."""

    @property
    def port(self) -> int:
        """Port that it listens on, once started."""

    async def start(self) -> None:
        """Listen."""

    async def set_serving(self, serving: bool) -> None:
        """Tell clients and load balancers whether requests are answered."""

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, and give those in flight `grace_s` seconds."""


DoorMaker = Callable[[Core, Sequence[Listener]], Door]


@dataclass(frozen=True)
class RunSettings:
    """A whole server.

    Attributes:
        entries: Models; of the config file, if one is given.
        core: How they are loaded and run.
        doors: Make the doors.
        listeners: Told of every request.
        config_file: ModelServerConfig in text form; empty for none.
        config_poll_s: Seconds between two looks at the config file; 0 for never.
        drain_delay_s: Seconds between telling load balancers and closing the doors on SIGTERM.
        drain_s: Seconds that requests in flight are given.
    """

    entries: tuple[ModelEntry, ...] = ()
    core: Settings = field(default_factory=Settings)
    doors: tuple[DoorMaker, ...] = ()
    listeners: tuple[Listener, ...] = ()
    config_file: str = ""
    config_poll_s: float = 0.0
    drain_delay_s: float = 0.0
    drain_s: float = 30.0


class Server:
    """A core with its doors, from start to drain.

    Args:
        settings: What to run.

    Attributes:
        core: Models and their computations.
        doors: In the order of the settings.
    """

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self.core = Core(settings.core)
        self.doors: list[Door] = [make(self.core, settings.listeners) for make in settings.doors]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, wait: bool = True) -> None:
        """Open the doors and load the models.

        Args:
            wait: Return only when every model is available or has failed for good.

        Raises:
            EnvironmentProblem: If a door cannot open, or no model became available though there are versions,
                or none may come.
        """
        entries = list(self._settings.entries)
        if self._settings.config_file:
            entries = entries_of(read_config(self._settings.config_file))
        try:
            await self.core.start(entries)
        except ServingError as error:
            raise EnvironmentProblem(f"Failed to start server. Error: {_named(error)}") from error
        for door in self.doors:
            try:
                await door.start()
            except (OSError, RuntimeError) as error:
                raise EnvironmentProblem(f"a port must be free. Received: {error}") from error
        self._tasks.append(asyncio.create_task(self._follow_readiness()))
        if self._settings.config_file and self._settings.config_poll_s > 0:
            self._tasks.append(asyncio.create_task(self._follow_config()))
        if wait:
            await self.core.wait_loaded()
            self._check_loaded(entries)
            await self._tell(self.core.ready())

    async def stop(self) -> None:
        """Drain: readiness first, then the doors, then the models."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tell(False)
        if self._settings.drain_delay_s:
            await asyncio.sleep(self._settings.drain_delay_s)
        await asyncio.gather(*(door.stop(self._settings.drain_s) for door in self.doors))
        await self.core.close()

    def _check_loaded(self, entries: Sequence[ModelEntry]) -> None:
        absent = [entry.name for entry in entries if not self.core.manager.serving.get(entry.name)]
        if not entries or len(absent) < len(entries):
            return
        may_come = self._settings.core.manager.poll_wait_s > 0
        if may_come and not any(self.core.manager.statuses(name) for name in absent):
            return  # waits for the first version, as tensorflow_model_server does
        found = [reason for name in absent for reason in self.core.manager.reasons(name)]
        told = "".join(f"{{{reason}}}, " for reason in found)
        raise EnvironmentProblem(
            f"Failed to start server. Error: {len(found)} servable(s) did not become available: {{{told}}}"
        )

    async def _tell(self, serving: bool) -> None:
        for door in self.doors:
            await door.set_serving(serving)

    async def _follow_readiness(self) -> None:
        told: bool | None = None
        while True:
            ready = self.core.ready()
            if ready != told:
                await self._tell(ready)
                told = ready
            await asyncio.sleep(0.2)

    async def _follow_config(self) -> None:
        """Reload the config file again and again, changed or not: a label may wait for its version."""
        told = ""
        while True:
            await asyncio.sleep(self._settings.config_poll_s)
            try:
                await self.core.reload(read_config(self._settings.config_file))
                now = ""
            except (ServingError, ConfigError) as error:
                now = f"PollFilesystemAndReloadConfig failed to ReloadConfig: {error}"
            if now and now != told:  # once, not at every look
                _log.error(now)
            told = now


def run(settings: RunSettings, announce: Callable[[Server], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: What to run.
        announce: Called once the models are loaded.

    Returns:
        Exit code: 0 after a drain.
    """
    import uvloop

    # So long a thread that ends a run waits for a busy event loop; 5 ms is the default.
    sys.setswitchinterval(_SWITCH_S)
    return int(uvloop.run(_until_told(settings, announce)))


async def _until_told(settings: RunSettings, announce: Callable[[Server], None] | None) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():  # a second signal does not wait for the drain
            os._exit(130)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    server = Server(settings)
    starting = asyncio.create_task(server.start())
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            if announce is not None:
                announce(server)
            await waiting
    finally:
        for task in (starting, waiting):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await server.stop()
    return 0


def entry_of_folder(path: str, name: str = "", policy: VersionPolicy | None = None) -> ModelEntry:
    """Return the model in a folder: one with numbered versions, or one SavedModel.

    Args:
        path: Folder.
        name: Name to serve it by; the folder's own if empty (its parent's, if it is a numbered version).
        policy: Which versions are served, if it has several.

    Raises:
        ConfigError: If there is no such folder.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise ConfigError(f"a model must be a folder. Received: {path}")
    if not any((folder / file).is_file() for file in _MODEL_FILES):
        return ModelEntry(name or folder.name, str(folder), policy or VersionPolicy())
    numbered = folder.name.isdecimal()
    version = int(folder.name) if numbered else 1
    own_name = folder.parent.name if numbered else folder.name
    return ModelEntry(name or own_name, str(folder), VersionPolicy("folder", versions=(version,)))


def _named(error: ServingError) -> str:
    return f"{error.code.name}: {error.message}"
