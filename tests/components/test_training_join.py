"""When a worker trains along, when it has nothing to do, and when it must be started again."""

import threading
from pathlib import Path

import pytest
import tensorflow as tf

from headrace.components.team import Team
from headrace.components.training.join import WorkerLost, explained, join


@pytest.fixture
def team(tmp_path: Path) -> tuple[Team, Team]:
    """A chief and a worker."""
    return Team(tmp_path, 2, 0), Team(tmp_path, 2, 1)


def test_with_a_cached_model_there_is_nothing_to_do(team: tuple[Team, Team]) -> None:
    chief, worker = team
    with chief.alive():
        chief.end("cached")
    assert join(worker) == "the trainer is cached"


def test_a_failed_chief_asks_for_another_try(team: tuple[Team, Team]) -> None:
    chief, worker = team
    fail = threading.Timer(0.5, chief.end, args=("failed",))
    with chief.alive():
        fail.start()
        with pytest.raises(WorkerLost, match=r"the chief must succeed.*Received: it failed"):
            join(worker)
        fail.join()


def test_a_failure_of_an_earlier_try_is_no_reason_to_fail(team: tuple[Team, Team]) -> None:
    chief, worker = team
    with chief.alive():
        chief.end("failed")
    with pytest.raises(WorkerLost, match=r"the chief must call within 0.5 s. Received: nothing"):
        join(worker, wait_s=0.5)


def test_a_chief_that_counts_on_somebody_else_is_not_joined(team: tuple[Team, Team]) -> None:
    chief, worker = team
    with chief.alive():
        # The call of a chief that was killed with its team, and is not missed yet.
        chief.call(addresses=["127.0.0.1:1", "127.0.0.1:2"], members={"1": "the worker of then"})
        with pytest.raises(WorkerLost, match=r"Received: nothing"):
            join(worker, wait_s=0.5)


def test_a_lost_machine_is_told_in_words() -> None:
    with pytest.raises(WorkerLost, match=r"Received: one is gone \(Connection reset by peer\)"), explained():
        raise tf.errors.UnavailableError(None, None, "Connection reset by peer")
