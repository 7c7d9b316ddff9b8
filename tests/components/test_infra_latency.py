"""Median and 99th percentile of calls by a clock that the test turns."""

import itertools
from collections.abc import Iterable

import pytest

from headrace.components.infra import latency


class Clock:
    """Time that passes in calls alone: each takes the next of `seconds`."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self.now, self.calls, self._seconds = 0.0, 0, iter(seconds)

    def call(self) -> None:
        self.calls += 1
        self.now += next(self._seconds)


def timed(monkeypatch: pytest.MonkeyPatch, clock: Clock, budget_s: float, **bounds: int) -> dict[str, float]:
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock.now)
    return latency.measure(clock.call, budget_s, **bounds)


def test_percentiles_are_of_the_calls_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # 101 calls of 0, 1 ... 100 ms, slowest first: their percentiles are themselves.
    clock = Clock([0.5] * 3 + [place / 1000 for place in range(100, -1, -1)])
    found = timed(monkeypatch, clock, 1e9, warm_up=3, most=101)
    assert found == {"p50": 50_000.0, "p99": 99_000.0}
    assert clock.calls == 104


def test_one_slow_call_in_two_hundred_is_no_99th_percentile(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([*[0.001] * 199, 5.0])
    assert timed(monkeypatch, clock, 1e9, warm_up=0, most=200) == {"p50": 1000.0, "p99": 1000.0}
    clock = Clock([*[0.001] * 97, 5.0, 5.0, 5.0])
    assert timed(monkeypatch, clock, 1e9, warm_up=0, most=100)["p99"] == 5_000_000.0


@pytest.mark.parametrize(
    ("call_s", "budget_s", "calls"),
    [
        (0.25, 1.0, 13),  # too slow for the least number: three budgets, then the call that was under way
        (0.015625, 1.0, 100),  # the budget ends at 65 calls, the least number is waited for
        (0.0078125, 1.0, 129),  # enough calls when the budget ends
        (0.0009765625, 10.0, 5000),  # no more than the most
    ],
)
def test_how_many_calls_are_timed(
    monkeypatch: pytest.MonkeyPatch, call_s: float, budget_s: float, calls: int
) -> None:
    clock = Clock(itertools.repeat(call_s))
    found = timed(monkeypatch, clock, budget_s, warm_up=0)
    assert clock.calls == calls
    assert found["p50"] == found["p99"] == pytest.approx(call_s * 1e6, abs=0.1)


def test_the_warm_up_ends_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([0.5, 0.5, 0.5, *[0.001] * 10])
    timed(monkeypatch, clock, 1.0, most=10)
    assert clock.calls == 13
