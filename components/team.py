"""Processes on several machines that share one node's work: how they find each other.

A cluster starts them one by one, gives them no names that resolve, and starts those that fail again under
another address. What they do have in common is the folder of the run. There each leaves where it is reached,
and touches that file as long as it lives; ages are told by that folder's clock alone.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.data.errors import EnvironmentProblem

__all__ = ["FOLDER_VARIABLE", "HOST_VARIABLE", "ID_VARIABLE", "NUMBER_VARIABLE", "SIZE_VARIABLE", "Team"]

FOLDER_VARIABLE = "HEADRACE_TEAM_FOLDER"
SIZE_VARIABLE = "HEADRACE_TEAM_SIZE"
NUMBER_VARIABLE = "HEADRACE_TEAM_NUMBER"
ID_VARIABLE = "HEADRACE_TEAM_ID"
HOST_VARIABLE = "HEADRACE_POD_IP"
"""Environment variables: where the team meets, how many it is, which of them this process is (0: the chief),
what it is called, and the address under which the others reach this machine."""

_BEAT_S = 2.0
_LOST_S = 60.0
_POLL_S = 0.2
_GATHER_S = 1800.0
_LEAVE_S = 30.0


@dataclass
class Team:
    """One process's view of its team.

    Attributes:
        folder: Where the team meets; all of them see it.
        size: How many they are, chief included.
        number: Which of them this is; 0 is the chief.
        host: Address of this machine.
        id: Of this process: one that is started again is another.
    """

    folder: Path
    size: int
    number: int
    host: str = "127.0.0.1"
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    lost_s: float = _LOST_S

    @classmethod
    def from_environment(cls) -> "Team | None":
        """Return the team that the environment names, or None where a node works alone."""
        folder, size = os.environ.get(FOLDER_VARIABLE), int(os.environ.get(SIZE_VARIABLE, "1"))
        if folder is None or size < 2:
            return None
        made = cls(Path(folder), size, int(os.environ.get(NUMBER_VARIABLE, "0")))
        made.host = os.environ.get(HOST_VARIABLE) or made.host
        made.id = os.environ.get(ID_VARIABLE) or made.id
        return made

    @property
    def bare_host(self) -> str:
        """The host as it stands before a port: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Let the others see this process until the block ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, ended = self._member(self.number), threading.Event()
        self.tell()

        def beat() -> None:
            while not ended.wait(_BEAT_S):
                with contextlib.suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):
                path.unlink()

    def tell(self, **told: Any) -> None:
        """Let the others know something of this process: `call`, the chief that it answers."""
        _write(self._member(self.number), {"id": self.id, **told})

    def others(self) -> dict[int, Mapping[str, Any]]:
        """Return what the others tell that are alive; this process must be, too."""
        found: dict[int, Mapping[str, Any]] = {}
        for number in range(self.size):
            told = None if number == self.number else _read(self._member(number))
            if told is not None and not self._is_lost(number):
                found[number] = told
        return found

    def call(self, **work: Any) -> None:
        """As the chief: say what is to be done."""
        _write(self.folder / "call.json", {**work, "chief": self.id})

    def called(self) -> Mapping[str, Any] | None:
        """Return what a living chief has said is to be done."""
        call, chief = _read(self.folder / "call.json"), self.others().get(0)
        return call if call is not None and chief is not None and call["chief"] == chief["id"] else None

    def answers(self) -> dict[int, Mapping[str, Any]]:
        """As the chief: return the others that have answered the call of this very process."""
        return {number: told for number, told in self.others().items() if told.get("call") == self.id}

    def gather(self, wait_s: float = _GATHER_S) -> dict[int, Mapping[str, Any]]:
        """As the chief: wait until all others have answered, and return what they tell.

        Raises:
            EnvironmentProblem: If some do not come.
        """
        deadline = time.monotonic() + wait_s
        while len(found := self.answers()) < self.size - 1:
            if time.monotonic() > deadline:
                missing = ", ".join(str(n) for n in range(1, self.size) if n not in found)
                raise EnvironmentProblem(
                    f"all {self.size} workers must have come within {wait_s:.0f} s. "
                    f"Received: no worker {missing}",
                    "their pods' events say why: often the cluster has no room for all of them at once",
                )
            time.sleep(_POLL_S)
        return found

    def end(self, state: str) -> None:
        """As the chief: say that the work has ended, and if it ended well let the others leave first.

        Args:
            state: "complete", "cached" or "failed".
        """
        _write(self.folder / "end.json", {"chief": self.id, "state": state})
        # After a failure a worker that has started again may wait for the next chief.
        deadline = time.monotonic() + (0 if state == "failed" else _LEAVE_S)
        while self.answers() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def ended(self) -> Mapping[str, Any] | None:
        """Return what the last chief that ended has said."""
        return _read(self.folder / "end.json")

    def watch(self, members: Mapping[int, str], on_lost: Callable[[int], None]) -> threading.Event:
        """Look after others in a thread of its own.

        Args:
            members: Number -> id.
            on_lost: Told the number of the first that is gone, once.

        Returns:
            An event that ends the watch when set.
        """
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_BEAT_S):
                for number, member in members.items():
                    told = _read(self._member(number))
                    # One that has left has done its work; one that was killed leaves its file behind.
                    if told is not None and (told["id"] != member or self._is_lost(number)):
                        on_lost(number)
                        return

        threading.Thread(target=look, daemon=True).start()
        return ended

    def _member(self, number: int) -> Path:
        return self.folder / f"member-{number}.json"

    def _is_lost(self, number: int) -> bool:
        """Return whether a member's file is much older than this process's, which is touched all the time."""
        try:
            own = self._member(self.number).stat().st_mtime
            return own - self._member(number).stat().st_mtime > self.lost_s
        except FileNotFoundError:
            return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    os.replace(temporary, path)
