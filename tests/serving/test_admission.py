"""How many computations are taken on at once, on a clock that the test turns."""

from contextlib import ExitStack

import pytest

from headrace.serving.server.admission import Admission, AdmissionSettings
from headrace.serving.server.errors import Code, ServingError

SETTINGS = AdmissionSettings(most=100, busy=4, busy_s=0.1, flooded_s=0.02)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(SETTINGS, clock)


def taken_on(admission: Admission, clock: Clock, most: int = 200) -> int:
    """Enter until it refuses; returns how many it took on. They leave without having taken any time."""
    with ExitStack() as stack:
        for count in range(most):
            if admission.full():
                return count
            stack.enter_context(admission.entered())
        return most


def serve(admission: Admission, clock: Clock, seconds: float, times: int = 300) -> None:
    """Answer requests one by one, each in so many seconds."""
    for _ in range(times):
        with admission.entered():
            clock.now += seconds


def test_it_starts_with_all_that_it_may(admission, clock):
    assert taken_on(admission, clock) == 100


def test_what_is_too_much_is_unavailable_and_names_the_limit(admission):
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(admission.entered())
        with pytest.raises(ServingError, match=r"more than 100 requests at once\.") as caught:
            stack.enter_context(admission.entered())
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(("seconds", "limit"), [(0.0005, 100), (0.002, 50), (0.01, 10), (0.05, 4), (1.0, 4)])
def test_no_more_are_taken_on_than_are_answered_in_a_tenth_of_a_second(admission, clock, seconds, limit):
    serve(admission, clock, seconds)
    assert taken_on(admission, clock) == pytest.approx(limit, abs=1)


def test_it_recovers_when_answers_are_quick_again(admission, clock):
    serve(admission, clock, 0.1)
    assert taken_on(admission, clock) == 4
    serve(admission, clock, 1e-5)
    assert taken_on(admission, clock) == 100


def test_a_flood_is_answered_with_a_shorter_queue_until_it_ends(admission, clock):
    serve(admission, clock, 0.002)
    for _ in range(400):  # ten requests come for each that is answered
        for _ in range(9):
            admission.refused()
        serve(admission, clock, 0.002, 1)
    assert taken_on(admission, clock) == 10
    serve(admission, clock, 0.002, 300)
    assert taken_on(admission, clock) == 50


def test_many_clients_that_wait_for_their_answers_are_no_flood(admission, clock):
    serve(admission, clock, 0.002)
    clients = [ExitStack() for _ in range(50)]
    for client in clients:
        client.enter_context(admission.entered())
    for turn in range(1000):  # whoever is answered asks again
        clock.now += 0.002
        clients[turn % 50].close()
        assert not admission.full()
        clients[turn % 50].enter_context(admission.entered())


def test_a_request_counts_until_it_has_failed(admission, clock):
    for _ in range(200):
        with pytest.raises(RuntimeError), admission.entered():
            raise RuntimeError
    assert taken_on(admission, clock) == 100
