"""How machines that share a node's work find each other, and notice that one is gone."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace.components import team as room
from headrace.components.team import Team
from headrace.data.errors import EnvironmentProblem


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def age(folder: Path, number: int, seconds: float) -> None:
    """Let a member's last sign of life lie back."""
    path = folder / f"member-{number}.json"
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))


def test_chief_and_worker_find_each_other(tmp_path: Path, stack: ExitStack) -> None:
    chief, worker = Team(tmp_path, 2, 0), Team(tmp_path, 2, 1)
    stack.enter_context(worker.alive())
    assert worker.called() is None
    stack.enter_context(chief.alive())
    chief.call(work="much")
    call = worker.called()
    assert call == {"work": "much", "chief": chief.id}
    assert chief.answers() == {}
    worker.tell(call=call["chief"], address="10.0.0.2:7000")
    assert chief.gather(5) == {1: {"id": worker.id, "call": chief.id, "address": "10.0.0.2:7000"}}


def test_a_chief_that_is_started_again_is_another(tmp_path: Path, stack: ExitStack) -> None:
    worker = Team(tmp_path, 2, 1)
    stack.enter_context(worker.alive())
    with Team(tmp_path, 2, 0).alive():
        first = Team(tmp_path, 2, 0)
        first.tell()
        first.call(work=1)
        worker.tell(call=first.id)
    assert worker.called() is None
    second = Team(tmp_path, 2, 0)
    stack.enter_context(second.alive())
    # The call of the first one still lies there, and so does the answer to it.
    assert worker.called() is None
    second.call(work=2)
    assert second.answers() == {}
    worker.tell(call=second.id)
    assert list(second.answers()) == [1]


def test_who_shows_no_sign_of_life_is_lost(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_BEAT_S", 0.05)
    chief, worker = Team(tmp_path, 3, 0), Team(tmp_path, 3, 1)
    stack.enter_context(chief.alive())
    worker.tell()
    assert list(chief.others()) == [1]
    lost, told = [], threading.Event()

    def on_lost(number: int) -> None:
        lost.append(number)
        told.set()

    chief.watch({1: worker.id}, on_lost)
    assert not told.wait(0.2)
    age(tmp_path, 1, 100)
    assert told.wait(10)
    assert lost == [1]
    assert chief.others() == {}


def test_who_has_left_in_order_is_not_lost(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_BEAT_S", 0.05)
    chief, worker, told = Team(tmp_path, 2, 0), Team(tmp_path, 2, 1), threading.Event()
    stack.enter_context(chief.alive())
    with worker.alive():
        chief.watch({1: worker.id}, lambda number: told.set())
    assert not told.wait(0.3)


def test_the_chief_lets_the_others_leave_first(tmp_path: Path, stack: ExitStack) -> None:
    chief, worker = Team(tmp_path, 2, 0), Team(tmp_path, 2, 1)
    stack.enter_context(chief.alive())
    with worker.alive():
        worker.tell(call=chief.id)
        ending = threading.Thread(target=chief.end, args=("complete",))
        ending.start()
        ending.join(0.5)
        assert ending.is_alive()
        assert worker.ended() == {"chief": chief.id, "state": "complete"}
    ending.join(10)
    assert not ending.is_alive()


def test_a_chief_that_failed_waits_for_nobody(tmp_path: Path, stack: ExitStack) -> None:
    chief = Team(tmp_path, 2, 0)
    stack.enter_context(chief.alive())
    Team(tmp_path, 2, 1).tell(call=chief.id)
    ending = threading.Thread(target=chief.end, args=("failed",))
    ending.start()
    ending.join(10)
    assert not ending.is_alive()


def test_workers_that_do_not_come_are_named(tmp_path: Path, stack: ExitStack) -> None:
    chief = Team(tmp_path, 3, 0)
    stack.enter_context(chief.alive())
    chief.call()
    Team(tmp_path, 3, 2).tell(call=chief.id)
    with pytest.raises(EnvironmentProblem, match=r"all 3 workers must have come.*Received: no worker 1$"):
        chief.gather(0)


def test_a_team_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Team.from_environment() is None
    monkeypatch.setenv(room.FOLDER_VARIABLE, str(tmp_path))
    assert Team.from_environment() is None
    for name, value in {"SIZE": "2", "NUMBER": "1", "ID": "x"}.items():
        monkeypatch.setenv(getattr(room, f"{name}_VARIABLE"), value)
    monkeypatch.setenv(room.HOST_VARIABLE, "fd00::7")
    made = Team.from_environment()
    assert made == Team(tmp_path, 2, 1, "fd00::7", "x")
    assert made.bare_host == "[fd00::7]"
    assert socket.getaddrinfo(made.host, 1)[0][0] == socket.AF_INET6
