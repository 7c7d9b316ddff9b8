"""Versions of models: their states, what is known of each, and leases that hold one while it is in use."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType

from .errors import Code, ServingError
from .integrity import Fingerprint
from .servable import Servable
from .source import ModelEntry

__all__ = ["Lease", "Model", "Record", "State", "VersionStatus"]


class State(IntEnum):
    """State of a version, with the numbers of `ModelVersionStatus.State`."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """State of one version.

    Attributes:
        version: Version number.
        state: Where it is in its life.
        error_code: Canonical code of what went wrong; OK if nothing did.
        error_message: The text that belongs to it.
    """

    version: int
    state: State
    error_code: Code = Code.OK
    error_message: str = ""


class Lease:
    """Holds a version while a request is answered; a context manager.

    Args:
        servable: The version.

    Attributes:
        servable: As given.
        version: Its number.
    """

    __slots__ = ("servable", "version")

    def __init__(self, servable: Servable) -> None:
        self.servable = servable
        self.version = servable.version
        servable.acquire()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.servable.release()


@dataclass
class Record:
    """One version of one model.

    Attributes:
        version: Version number.
        path: Its folder.
        state: Where it is in its life.
        error: Why it was not loaded.
        servable: What was loaded.
        task: Brings it up.
        failed_at: State of the folder when it failed for good.
    """

    version: int
    path: str
    state: State = State.START
    error: ServingError | None = None
    servable: Servable | None = None
    task: asyncio.Task[None] | None = None
    failed_at: Fingerprint | None = None

    def status(self) -> VersionStatus:
        """Return what is told of it."""
        if self.error is None:
            return VersionStatus(self.version, self.state)
        return VersionStatus(self.version, self.state, self.error.code, self.error.message)


@dataclass
class Model:
    """One model: what is wanted, and what is there.

    Attributes:
        entry: Its entry in the configuration.
        aspired: Version -> folder of what shall be served.
        records: Version -> what is known of it.
        polled: Whether its base path was looked at.
    """

    entry: ModelEntry
    aspired: Mapping[int, str] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    polled: bool = False

    def serving(self) -> dict[int, Servable]:
        """Return the versions that answer."""
        return {
            version: record.servable
            for version, record in self.records.items()
            if record.state is State.AVAILABLE and record.servable is not None
        }

    def coming(self, version: int | None) -> bool:
        """Whether a version, any if no number is given, may become available without a change on the disk."""
        if not self.polled:
            return True
        wanted = self.aspired if version is None else {version} & set(self.aspired)
        return any(
            number not in self.records or self.records[number].state in (State.START, State.LOADING)
            for number in wanted
        )

    def settled(self) -> bool:
        """Whether nothing more will happen without a change on the disk."""
        return self.polled and all(
            version in self.records and self.records[version].state in (State.AVAILABLE, State.END)
            for version in self.aspired
        )
