"""The life of versions: found, loaded, warmed up, served, and closed when the last request is done.

All state belongs to the event loop's thread. What is served is one immutable mapping that is replaced whole,
so that a request sees either the old version or the new one, and keeps the one that it started on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

from .errors import Code, ServingError
from .integrity import fingerprint
from .load_counts import LoadCounts
from .servable import Servable
from .source import ModelEntry, aspired_versions
from .versions import Lease, Model, Record, State, VersionStatus

__all__ = ["Lease", "Manager", "ManagerSettings", "State", "VersionStatus"]

_log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 1.0
_ENDED_KEPT = 64


@dataclass(frozen=True)
class ManagerSettings:
    """How versions are found and loaded.

    Attributes:
        poll_wait_s: Seconds between two looks at the base paths; 0 looks once, < 0 never.
        max_load_retries: How often a failed load is tried again, >= 0.
        load_retry_interval_s: Seconds before a failed load is tried again; a folder that changes is tried
            again at once.
        load_threads: Versions that are loaded at the same time, >= 1; one that is slow delays no other while
            there are more.
        versions_always_present: Whether a model whose last version vanished from the disk is served on.
    """

    poll_wait_s: float = 1.0
    max_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    load_threads: int = 16
    versions_always_present: bool = False


class Manager:
    """Serves the versions that the configuration asks for.

    Args:
        load: Loads one version and warms it up, in a thread: name, version, path -> servable.
        settings: How versions are found and loaded.

    Attributes:
        loads: Loads so far.
    """

    def __init__(self, load: Callable[[str, int, str], Servable], settings: ManagerSettings) -> None:
        self._load = load
        self._settings = settings
        self._models: dict[str, Model] = {}
        self._leaving: list[Model] = []
        self._serving: Mapping[str, Mapping[int, Servable]] = MappingProxyType({})
        self._loaders = ThreadPoolExecutor(settings.load_threads, "load")
        self._unloaders = ThreadPoolExecutor(1, "unload")
        self._changed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self.loads = LoadCounts()

    @property
    def serving(self) -> Mapping[str, Mapping[int, Servable]]:
        """Model name -> version -> what is served now, newest first."""
        return self._serving

    @property
    def entries(self) -> Mapping[str, ModelEntry]:
        """Model name -> its entry in the configuration."""
        return {name: model.entry for name, model in self._models.items()}

    def lease(self, name: str, version: int | None) -> Lease:
        """Hold a version, the newest one if no number is given.

        Raises:
            ServingError: NOT_FOUND, if it is not served; UNAVAILABLE, if it is on its way.
        """
        versions = self._serving.get(name, {})
        found = next(iter(versions.values()), None) if version is None else versions.get(version)
        if found is not None:
            return Lease(found)
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        model = self._models.get(name)
        if model is not None and model.coming(version):
            raise ServingError(Code.UNAVAILABLE, f"Servable is being loaded for request: {asked}")
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {asked}")

    def reasons(self, name: str) -> list[str]:
        """Return why the versions of a model are not available, a text for each."""
        return [
            f"{{name: {name} version: {status.version}}} due to error: {status.error_code.name}: "
            f"{status.error_message}"
            for status in self.statuses(name)
        ] or [f"{{name: {name}}}: no version found"]

    def statuses(self, name: str) -> list[VersionStatus]:
        """Return the state of every known version of a model, newest first."""
        found: dict[int, VersionStatus] = {}
        for model in [*self._leaving, *self._models.values()]:
            if model.entry.name == name:
                found.update((record.version, record.status()) for record in model.records.values())
        return [found[version] for version in sorted(found, reverse=True)]

    def ready(self) -> bool:
        """Whether every model of the configuration has a version that answers."""
        return bool(self._models) and all(self._serving.get(name) for name in self._models)

    async def start(self, entries: Sequence[ModelEntry]) -> None:
        """Take the first configuration and begin to look at the base paths."""
        await self.configure(entries)
        if self._settings.poll_wait_s > 0:
            self._poller = asyncio.create_task(self._poll_forever())

    async def configure(self, entries: Sequence[ModelEntry]) -> None:
        """Serve these models, and no others, from now on."""
        wanted = {entry.name: entry for entry in entries}
        for name in [name for name in self._models if name not in wanted]:
            model = self._models.pop(name)
            model.aspired = {}
            self._leaving.append(model)
        for name, entry in wanted.items():
            if name in self._models:
                self._models[name].entry = entry
            else:
                self._models[name] = Model(entry)
        for model in self._leaving:
            self._reconcile(model)
        if self._settings.poll_wait_s >= 0:
            await self.poll()

    async def poll(self) -> None:
        """Look at the base paths once."""
        loop = asyncio.get_running_loop()
        for model in list(self._models.values()):
            try:
                found = await loop.run_in_executor(None, aspired_versions, model.entry)
            except (ServingError, OSError) as error:
                _log.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error)
                model.polled = True
                self._notify()
                continue
            if not found and not model.polled:
                _log.warning(
                    "No versions of servable %s found under base path %s. "
                    "Did you forget to name your leaf directory as a number (eg. '/1/')?",
                    model.entry.name,
                    model.entry.base_path,
                )
            model.polled = True
            if found or not self._settings.versions_always_present:
                model.aspired = found
            await self._retry_changed(model)
            self._reconcile(model)

    async def wait_settled(self, names: Sequence[str]) -> None:
        """Wait until these models are available or have failed for good."""
        while not all(self._models[name].settled() for name in names if name in self._models):
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Stop looking and loading, and close every version."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        models = [*self._models.values(), *self._leaving]
        tasks = [record.task for model in models for record in model.records.values() if record.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._serving = MappingProxyType({})
        for model in models:
            for servable in model.serving().values():
                servable.retire()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._loaders.shutdown)
        await loop.run_in_executor(None, self._unloaders.shutdown)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_wait_s)
            try:
                await self.poll()
            except Exception:
                _log.exception("looking for versions failed; it is tried again")

    async def _retry_changed(self, model: Model) -> None:
        """Forget failed versions whose folders changed since: they may be whole by now."""
        loop = asyncio.get_running_loop()
        for record in list(model.records.values()):
            if record.state is State.END and record.failed_at is not None and record.version in model.aspired:
                now = await loop.run_in_executor(None, fingerprint, record.path)
                if now != record.failed_at:
                    del model.records[record.version]

    def _reconcile(self, model: Model) -> None:
        """Begin to load what is wanted, and let go what is not, as far as something stays available."""
        for version in sorted(model.aspired, reverse=True):
            record = model.records.get(version)
            ended = record is not None and record.state is State.END and record.error is None
            if record is None or ended:
                self._begin(model, Record(version, model.aspired[version]))
        unwanted = [record for version, record in model.records.items() if version not in model.aspired]
        for record in unwanted:
            if record.task is not None and not record.task.done():
                record.task.cancel()
                record.state = State.END
        leaving = sorted(set(model.serving()) - set(model.aspired), reverse=True)
        if model.aspired and not set(model.serving()) & set(model.aspired):
            leaving = leaving[1:]  # the newest old one serves on until a wanted one is there
        self._publish()
        for version in leaving:
            self._retire(model, model.records[version])
        self._publish()
        self._forget(model)

    def _publish(self) -> None:
        """Replace the mapping of what is served."""
        found = {}
        for name, model in self._models.items():
            serving = model.serving()
            if serving:
                found[name] = MappingProxyType({key: serving[key] for key in sorted(serving, reverse=True)})
        self._serving = MappingProxyType(found)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()

    def _begin(self, model: Model, record: Record) -> None:
        model.records[record.version] = record
        record.task = asyncio.create_task(self._bring_up(model, record))

    def _what_next(self, left: int) -> str:
        if not left:
            return ""
        wait_s = self._settings.load_retry_interval_s
        return f" (tried again in {wait_s:g} s, or when the folder changes; tries left: {left})"

    async def _bring_up(self, model: Model, record: Record) -> None:
        """Load one version, again and again if need be, and serve it."""
        name, version = model.entry.name, record.version
        retries = self._settings.max_load_retries
        record.state = State.LOADING
        for attempt in range(retries + 1):
            try:
                servable = await self._load_in_thread(name, version, record.path)
            except ServingError as error:
                record.error = error
                left = 0 if error.code is Code.PERMISSION_DENIED else retries - attempt
                _log.error(
                    "Loading servable: {name: %s version: %d} failed: %s%s",
                    name,
                    version,
                    error.message,
                    self._what_next(left),
                )
                if not left:  # what is forbidden now will be so again
                    break
                await self._pause(record.path)
            else:
                record.error = None
                record.servable = servable
                record.state = State.AVAILABLE
                _log.info("Successfully loaded servable version {name: %s version: %d}", name, version)
                self._reconcile(model)
                return
        record.failed_at = await asyncio.get_running_loop().run_in_executor(None, fingerprint, record.path)
        record.state = State.END
        self._reconcile(model)

    async def _load_in_thread(self, name: str, version: int, path: str) -> Servable:
        future = self._loaders.submit(self._timed, name, version, path)
        try:
            servable, seconds = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close_result)
            raise
        except ServingError:
            self.loads.add(path, None)
            raise
        except Exception as error:
            self.loads.add(path, None)
            raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error
        self.loads.add(path, seconds)
        return servable

    def _timed(self, name: str, version: int, path: str) -> tuple[Servable, float]:
        start = time.monotonic()
        return self._load(name, version, path), time.monotonic() - start

    async def _pause(self, path: str) -> None:
        """Wait for the next try: the retry interval, or less if the folder changes."""
        loop = asyncio.get_running_loop()
        before = await loop.run_in_executor(None, fingerprint, path)
        end = loop.time() + self._settings.load_retry_interval_s
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, _LOOK_AGAIN_S))
            if await loop.run_in_executor(None, fingerprint, path) != before:
                return

    def _retire(self, model: Model, record: Record) -> None:
        servable = record.servable
        if servable is None:
            return
        record.state = State.UNLOADING
        loop = asyncio.get_running_loop()

        def ended() -> None:
            record.state = State.END
            record.servable = None
            _log.info("Done unloading servable {name: %s version: %d}", model.entry.name, record.version)
            self._notify()

        def close() -> None:
            servable.close()
            loop.call_soon_threadsafe(ended)

        servable.retire(lambda: self._unloaders.submit(close))

    def _forget(self, model: Model) -> None:
        """Keep the states of at most so many ended versions, and of no model that has none left."""
        ended = [record.version for record in model.records.values() if record.state is State.END]
        for version in sorted(ended)[:-_ENDED_KEPT]:
            if version not in model.aspired:
                del model.records[version]
        if model in self._leaving and len(self._leaving) > _ENDED_KEPT:
            self._leaving.remove(model)


def _close_result(future: "Future[tuple[Servable, float]]") -> None:
    """Close a version that was loaded for nobody."""
    if not future.cancelled() and future.exception() is None:
        future.result()[0].close()
