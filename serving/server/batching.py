"""Running requests: alone, or the rows of several in one run where each row is answered by itself.

A run never waits: what arrived while one was in flight goes into the next. That costs an idle server nothing.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import Code, ServingError
from .merging import merge, row_shapes, rows_of, split
from .servable import Method, Servable

__all__ = ["Batcher", "Limits", "Task"]

Array = np.ndarray[Any, Any]

_SMOOTHING = 0.2
_ALONE_AFTER = 16
"""So many runs of one request each show a single client, who need not wait for others."""
_ALONE_LONGER = 5
_MOST_PATIENCE_S = 0.002
"""A turn of the loop takes long where a flood of requests is refused."""


@dataclass(frozen=True)
class Limits:
    """What one run may take on, and where it is carried out.

    Attributes:
        max_rows: Most rows in one run, >= 1.
        max_run_s: Rows that would take longer wait for the next run, > 0: everybody in a run waits for its
            end, and so do those that come after it.
        in_flight: Runs of one signature at the same time, >= 1.
        inline_s: Runs that take less are carried out in the event loop itself, for a single client those
            that take five times as long, too; 0 for none.
        patience: Turns of the loop without a new request after which a run starts, >= 1. A turn takes some
            microseconds, and gRPC needs several to hand over each request: with 1, half as many rows a
            second were answered.
    """

    max_rows: int = 512
    max_run_s: float = 0.05
    in_flight: int = field(default_factory=lambda: max(1, os.cpu_count() or 1))
    inline_s: float = 0.001
    patience: int = 8


@dataclass(slots=True)
class Task:
    """One request that waits for its answer.

    Attributes:
        inputs: Arrays in the order of the signature's inputs.
        rows: Their common first dimension; None if there is none.
        shapes: Shape of one row of every input.
        done: Set to the results, or to an error.
        deadline: Moment of `time.monotonic` after which nobody waits for it.
    """

    inputs: Sequence[Array]
    rows: int | None
    shapes: tuple[tuple[int, ...], ...]
    done: asyncio.Future[list[Array]]
    deadline: float | None

    def dead(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.done.done() or (self.deadline is not None and time.monotonic() >= self.deadline)


class Batcher:
    """Runs the requests of one signature and set of outputs of one servable.

    Before a run, some turns of the loop let in what has already arrived; a single client does not wait for
    them. Runs that are known to take less than 1 ms are carried out in the event loop itself: handing a run
    to a thread and back costs 0.2 ms, and the way back waits for the interpreter's lock. What runs take is
    counted in the thread's own CPU time, for the wall clock also counts that wait.

    Args:
        servable: The loaded version.
        method: Its signature.
        outputs: Aliases of the results, each once.
        threads: Where runs that take long are carried out.
        limits: What a run may take on.
        merging: Whether requests may share a run, if the signature's rows are independent.
    """

    def __init__(
        self,
        servable: Servable,
        method: Method,
        outputs: tuple[str, ...],
        threads: ThreadPoolExecutor,
        limits: Limits,
        *,
        merging: bool = True,
    ) -> None:
        self._servable = servable
        self._method = method
        self._outputs = outputs
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._mergeable = merging and method.mergeable
        self._limits = limits
        self._queue: deque[Task] = deque()
        self._queued_rows = 0
        self._flights = 0
        self._scheduled = False
        self._singles = _ALONE_AFTER
        self._seen = 0
        self._turns_left = 0
        self._patient_until = 0.0
        self._row_s: float | None = None
        self._run_s: float | None = None

    async def run(self, inputs: Sequence[Array], deadline: float | None = None) -> list[Array]:
        """Answer one request.

        Args:
            inputs: Arrays in the order of the signature's inputs.
            deadline: Moment of `time.monotonic` after which nobody waits for the answer.

        Returns:
            The results in the order of the outputs.
        """
        done: asyncio.Future[list[Array]] = self._loop.create_future()
        self._submit(Task(inputs, rows_of(inputs), row_shapes(inputs), done, deadline))
        return await done

    def _submit(self, task: Task) -> None:
        self._queue.append(task)
        self._queued_rows += task.rows or 1
        self._schedule()

    def _schedule(self) -> None:
        """Start a run at the end of this turn of the loop, when all that came in with it has queued."""
        if not self._scheduled and self._queue and self._flights < self._limits.in_flight:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        if self._more_may_come():
            self._loop.call_soon(self._start)
            return
        self._scheduled = False
        tasks, rows = self._take()
        self._singles = self._singles + 1 if len(tasks) < 2 and not self._queue else 0
        if not tasks:
            return
        # For a single client the way to a thread and back is all loss; others could not have waited long.
        inline_s = self._limits.inline_s * (_ALONE_LONGER if self._singles >= _ALONE_AFTER else 1)
        if self._expected_s(rows) < inline_s:
            answers, took = self._timed(tasks)
            self._learn(rows, took)
            self._settle(tasks, answers)
        else:
            self._flights += 1
            self._in_thread(lambda: self._timed(tasks), lambda future: self._landed(tasks, rows, future))
        self._schedule()

    def _more_may_come(self) -> bool:
        """Whether the queue grew in the last turns of the loop; gRPC takes some to hand over each request."""
        alone = self._singles >= _ALONE_AFTER and len(self._queue) < 2
        if alone or not self._mergeable or self._queued_rows >= self._limits.max_rows:
            return False
        now = time.monotonic()
        if not self._seen:
            self._patient_until = now + _MOST_PATIENCE_S
        if len(self._queue) > self._seen:
            self._seen, self._turns_left = len(self._queue), self._limits.patience
        self._turns_left -= 1
        if self._turns_left > 0 and now < self._patient_until:
            return True
        self._seen = 0
        return False

    def _take(self) -> tuple[list[Task], int]:
        tasks: list[Task] = []
        rows = 0
        most = self._limits.max_rows
        if self._row_s:
            most = min(most, int(self._limits.max_run_s / self._row_s))
        while self._queue:
            task = self._queue[0]
            if task.dead():
                self._pop()
                continue
            if tasks and not (
                self._mergeable
                and task.rows
                and tasks[0].rows
                and task.shapes == tasks[0].shapes
                and rows + task.rows <= most
            ):
                break
            self._pop()
            tasks.append(task)
            rows += task.rows or 1
        return tasks, rows

    def _pop(self) -> None:
        self._queued_rows -= self._queue.popleft().rows or 1

    def _expected_s(self, rows: int) -> float:
        if self._run_s is None or self._row_s is None:
            return float("inf")
        return max(self._run_s, self._row_s * rows)

    def _timed(self, tasks: Sequence[Task]) -> tuple[list[list[Array] | ServingError], float]:
        start = time.thread_time()
        answers = self._answer(tasks)
        return answers, time.thread_time() - start

    def _landed(self, tasks: Sequence[Task], rows: int, future: asyncio.Future[Any]) -> None:
        self._flights -= 1
        error = future.exception()
        if error is not None:
            self._settle(tasks, [ServingError(Code.INTERNAL, str(error))] * len(tasks))
        else:
            answers, took = future.result()
            self._learn(rows, took)
            self._settle(tasks, answers)
        self._schedule()

    def _learn(self, rows: int, took: float) -> None:
        """Follow what a run and a row take; the first run is left out, for it compiles."""
        if self._run_s is None:
            self._run_s = float("inf")
            return
        if self._run_s == float("inf") or self._row_s is None:
            self._run_s, self._row_s = took, took / rows
            return
        self._run_s += _SMOOTHING * (min(took, took / rows * 4) - self._run_s)
        self._row_s += _SMOOTHING * (took / rows - self._row_s)

    def _call(self, inputs: Sequence[Array]) -> list[Array]:
        return self._servable.run(self._method, inputs, self._outputs)

    def _answer(self, tasks: Sequence[Task]) -> list[list[Array] | ServingError]:
        """Run `tasks` together; if that fails each alone, for one that fails takes no other with it."""
        if len(tasks) > 1:
            with suppress(ServingError):
                found = self._call(merge([task.inputs for task in tasks]))
                return list(split(found, [task.rows or 0 for task in tasks]))
        return [self._alone(task) for task in tasks]

    def _alone(self, task: Task) -> list[Array] | ServingError:
        try:
            return self._call(task.inputs)
        except ServingError as error:
            return error

    def _settle(self, tasks: Sequence[Task], answers: Sequence[list[Array] | ServingError]) -> None:
        for task, answer in zip(tasks, answers, strict=True):
            if task.done.done():
                continue
            if isinstance(answer, ServingError):
                task.done.set_exception(answer)
            else:
                task.done.set_result(answer)

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Carry out `work` in a thread and `then` in the loop, holding the servable meanwhile."""
        self._servable.acquire()

        def finish(future: asyncio.Future[Any]) -> None:
            self._servable.release()
            then(future)

        self._loop.run_in_executor(self._threads, work).add_done_callback(finish)
