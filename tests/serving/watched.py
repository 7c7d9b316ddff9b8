"""A batcher over a servable whose runs are counted and can be held up."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from headrace.serving.server.batching import Batcher, Limits
from headrace.serving.server.servable import Servable

Array = np.ndarray[Any, Any]


class Watched:
    """A servable whose runs are counted and can be held up."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.batches: list[int] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, method: Any, inputs: Sequence[Array], outputs: tuple[str, ...]) -> list[Array]:
        self.threads.append(threading.get_ident())
        self.batches.append(len(inputs[0]) if inputs[0].ndim else -1)
        assert self.gate.wait(10)
        return self._servable.run(method, inputs, outputs)

    def acquire(self) -> None:
        self._servable.acquire()

    def release(self) -> None:
        self._servable.release()


def drive(
    zoo: Servable,
    work: Callable[[Batcher, Watched], Awaitable[None]],
    limits: Limits,
    signature: str = "any_rows",
    merging: bool = True,
) -> None:
    method = zoo.methods[{"any_rows": "slow"}.get(signature, signature)]
    watched = Watched(zoo)

    async def whole() -> None:
        with ThreadPoolExecutor(2) as pool:
            batcher = Batcher(watched, method, tuple(method.outputs), pool, limits, merging=merging)
            try:
                async with asyncio.timeout(30):
                    await work(batcher, watched)
            finally:
                watched.gate.set()

    asyncio.run(whole())
    assert zoo.leases == 0


def row(*values: float) -> list[Array]:
    return [np.array(values, np.float32)]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.002)
