"""How long a call takes: median and 99th percentile."""

import time
from collections.abc import Callable

import numpy as np

__all__ = ["BATCHES", "measure"]

BATCHES = {"b1": 1, "b100": 100}
"""Name of a batch size in infra.json -> rows."""


def measure(
    call: Callable[[], object], budget_s: float, *, warm_up: int = 20, most: int = 5000, least: int = 100
) -> dict[str, float]:
    """Time `call` again and again.

    Args:
        call: What to time.
        budget_s: Seconds to spend, warm-up left out; up to three times that to reach `least` calls.
        warm_up: Calls before the first that counts.
        most: Calls after which to stop early.
        least: Calls below which the 99th percentile would be the maximum.

    Returns:
        `{"p50": microseconds, "p99": microseconds}`.
    """
    now = time.perf_counter
    start = now()
    for _ in range(warm_up):
        call()
        if now() - start > budget_s:
            break
    times: list[float] = []
    start = now()
    while len(times) < most:
        before = now()
        call()
        after = now()
        times.append(after - before)
        spent = after - start
        if spent > 3 * budget_s or (spent > budget_s and len(times) >= least):
            break
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
