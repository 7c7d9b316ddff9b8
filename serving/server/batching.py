"""Running requests: alone, or the rows of several in one run.

`Adaptive` never waits: what arrived while a run was in flight goes into the next one. It is the default, for
it costs an idle server nothing. `Dynamic` follows the batching parameters file of TensorFlow Serving.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .batching_parameters import BatchingParameters
from .errors import Code, ServingError
from .merging import agree, merge, pad_rows, row_shapes, rows_of, split
from .servable import Method, Servable

__all__ = ["Adaptive", "Batcher", "Dynamic", "Limits"]

Array = np.ndarray[Any, Any]

QUEUE_FULL = (
    "The batch scheduling queue to which this task was submitted is full; "
    "currently {queued} batches enqueued and max_enqueued_batches is {limit}"
)
_CHECKED_MERGES = 3
_SMOOTHING = 0.2


@dataclass(frozen=True)
class Limits:
    """What the adaptive batcher may take on.

    Attributes:
        max_rows: Most rows in one run, >= 1.
        max_queued: Most requests that wait, of one signature; more are refused at once.
        max_wait_s: Most seconds that the queue may take to empty, by what runs took; longer is refused.
        in_flight: Runs of one signature at the same time, >= 1.
        inline_s: Runs that take less are carried out in the event loop itself; 0 for none.
    """

    max_rows: int = 512
    max_queued: int = 2048
    max_wait_s: float = 5.0
    in_flight: int = field(default_factory=lambda: max(1, os.cpu_count() or 1))
    inline_s: float = 0.001


@dataclass(slots=True)
class _Task:
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

    Args:
        servable: The loaded version.
        method: Its signature.
        outputs: Aliases of the results, each once.
        threads: Where runs that take long are carried out.
    """

    def __init__(
        self, servable: Servable, method: Method, outputs: tuple[str, ...], threads: ThreadPoolExecutor
    ) -> None:
        self._servable = servable
        self._method = method
        self._outputs = outputs
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._mergeable = method.batched
        self._checks_left = _CHECKED_MERGES

    async def run(self, inputs: Sequence[Array], deadline: float | None = None) -> list[Array]:
        """Answer one request.

        Args:
            inputs: Arrays in the order of the signature's inputs.
            deadline: Moment of `time.monotonic` after which nobody waits for the answer.

        Returns:
            The results in the order of the outputs.
        """
        done: asyncio.Future[list[Array]] = self._loop.create_future()
        self._submit(_Task(inputs, rows_of(inputs), row_shapes(inputs), done, deadline))
        return await done

    def _submit(self, task: _Task) -> None:
        raise NotImplementedError

    def _call(self, inputs: Sequence[Array]) -> list[Array]:
        return self._servable.run(self._method, inputs, self._outputs)

    def _answer(
        self, tasks: Sequence[_Task], allowed: Sequence[int] = (), variable: bool = False
    ) -> list[list[Array] | ServingError]:
        """Run `tasks`, together if they can be; one that fails does not take the others with it."""
        if not self._mergeable or (len(tasks) == 1 and not allowed):
            return [self._alone(task) for task in tasks]
        sizes = [task.rows or 0 for task in tasks]
        rows = pad_rows(sum(sizes), allowed)
        try:
            found = split(
                self._call(merge([task.inputs for task in tasks], rows, variable=variable)), sizes, rows
            )
        except ServingError as error:
            if len(tasks) == 1:
                return [error]
            if error.code is Code.FAILED_PRECONDITION:
                self._mergeable = False  # its results have no row for every row of its inputs
            return [self._alone(task) for task in tasks]
        if self._checks_left:
            self._checks_left -= 1
            if not agree(found[0], self._call(tasks[0].inputs)):
                # Rows of this model see each other: every request needs a run of its own.
                self._mergeable = False
                return [self._alone(task) for task in tasks]
        return list(found)

    def _alone(self, task: _Task) -> list[Array] | ServingError:
        try:
            return self._call(task.inputs)
        except ServingError as error:
            return error

    def _settle(self, tasks: Sequence[_Task], answers: Sequence[list[Array] | ServingError]) -> None:
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


class Adaptive(Batcher):
    """Puts together what queued while a run was in flight, and never waits when idle.

    Runs that are known to take less than 1 ms are carried out in the event loop itself: handing a run to a
    thread and back costs 0.2 ms, and the way back waits for the interpreter's lock. What runs take is counted
    in the thread's own CPU time, for the wall clock also counts that wait.

    Args:
        servable: The loaded version.
        method: Its signature.
        outputs: Aliases of the results, each once.
        threads: Where runs that take long are carried out.
        limits: What it may take on.
    """

    def __init__(
        self,
        servable: Servable,
        method: Method,
        outputs: tuple[str, ...],
        threads: ThreadPoolExecutor,
        limits: Limits,
    ) -> None:
        super().__init__(servable, method, outputs, threads)
        self._limits = limits
        self._queue: deque[_Task] = deque()
        self._queued_rows = 0
        self._flights = 0
        self._scheduled = False
        self._row_s: float | None = None
        self._run_s: float | None = None

    def _submit(self, task: _Task) -> None:
        if len(self._queue) >= self._limits.max_queued or self._wait_s() > self._limits.max_wait_s:
            self._drop_dead()
            if len(self._queue) >= self._limits.max_queued or self._wait_s() > self._limits.max_wait_s:
                raise ServingError(
                    Code.UNAVAILABLE,
                    QUEUE_FULL.format(queued=len(self._queue), limit=self._limits.max_queued),
                )
        self._queue.append(task)
        self._queued_rows += task.rows or 1
        self._schedule()

    def _wait_s(self) -> float:
        return (self._row_s or 0.0) * self._queued_rows

    def _drop_dead(self) -> None:
        self._queue = deque(task for task in self._queue if not task.dead())
        self._queued_rows = sum(task.rows or 1 for task in self._queue)

    def _schedule(self) -> None:
        """Start a run at the end of this turn of the loop, when all that came in with it has queued."""
        if not self._scheduled and self._queue and self._flights < self._limits.in_flight:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        tasks, rows = self._take()
        if not tasks:
            return
        if self._expected_s(rows) < self._limits.inline_s:
            answers, took = self._timed(tasks)
            self._learn(rows, took)
            self._settle(tasks, answers)
        else:
            self._flights += 1
            self._in_thread(lambda: self._timed(tasks), lambda future: self._landed(tasks, rows, future))
        self._schedule()

    def _take(self) -> tuple[list[_Task], int]:
        tasks: list[_Task] = []
        rows = 0
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
                and rows + task.rows <= self._limits.max_rows
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

    def _timed(self, tasks: Sequence[_Task]) -> tuple[list[list[Array] | ServingError], float]:
        start = time.thread_time()
        answers = self._answer(tasks)
        return answers, time.thread_time() - start

    def _landed(self, tasks: Sequence[_Task], rows: int, future: asyncio.Future[Any]) -> None:
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


@dataclass(slots=True)
class _Batch:
    opened: float
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0


class Dynamic(Batcher):
    """Waits for a batch to fill or to grow old, as `BasicBatchScheduler` does.

    Args:
        servable: The loaded version.
        method: Its signature.
        outputs: Aliases of the results, each once.
        threads: As many threads as batches may run at once.
        parameters: The batching parameters file.
    """

    def __init__(
        self,
        servable: Servable,
        method: Method,
        outputs: tuple[str, ...],
        threads: ThreadPoolExecutor,
        parameters: BatchingParameters,
    ) -> None:
        super().__init__(servable, method, outputs, threads)
        self._mergeable = True  # whoever hands in the file says so
        self._checks_left = 0
        self._parameters = parameters
        self._batches: deque[_Batch] = deque()
        self._flights = 0
        self._timer: asyncio.TimerHandle | None = None

    def _submit(self, task: _Task) -> None:
        if any(not array.ndim for array in task.inputs):
            raise ServingError(
                Code.INVALID_ARGUMENT, "Batching Run() input tensors must have at least one dimension"
            )
        if task.rows is None:
            raise ServingError(
                Code.INVALID_ARGUMENT, "Batching Run() input tensors must have equal 0th-dimension size"
            )
        if task.rows > self._parameters.max_batch_size:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Task size {task.rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}",
            )
        batch = self._batches[-1] if self._batches else None
        if batch is None or not self._fits(batch, task):
            batch = self._open()
        batch.tasks.append(task)
        batch.rows += task.rows
        self._dispatch()

    def _fits(self, batch: _Batch, task: _Task) -> bool:
        same = self._parameters.pad_variable_length_inputs or batch.tasks[0].shapes == task.shapes
        return same and batch.rows + (task.rows or 0) <= self._parameters.max_batch_size

    def _open(self) -> _Batch:
        limit = self._parameters.max_enqueued_batches
        if len(self._batches) >= limit:
            self._drop_dead()
        if len(self._batches) >= limit:
            raise ServingError(Code.UNAVAILABLE, QUEUE_FULL.format(queued=len(self._batches), limit=limit))
        batch = _Batch(time.monotonic())
        self._batches.append(batch)
        return batch

    def _drop_dead(self) -> None:
        for batch in self._batches:
            batch.tasks = [task for task in batch.tasks if not task.dead()]
            batch.rows = sum(task.rows or 0 for task in batch.tasks)
        self._batches = deque(batch for batch in self._batches if batch.tasks)

    def _dispatch(self) -> None:
        """Start every batch that is full, followed by another or old enough, while a thread is free."""
        while self._batches and self._flights < self._parameters.num_batch_threads:
            oldest = self._batches[0]
            due = oldest.opened + self._parameters.batch_timeout_s - time.monotonic()
            if len(self._batches) == 1 and oldest.rows < self._parameters.max_batch_size and due > 0:
                if self._timer is None:
                    self._timer = self._loop.call_later(due, self._expired)
                return
            self._batches.popleft()
            tasks = [task for task in oldest.tasks if not task.dead()]
            if tasks:
                self._launch(tasks)

    def _expired(self) -> None:
        self._timer = None
        self._dispatch()

    def _launch(self, tasks: list[_Task]) -> None:
        self._flights += 1
        allowed = self._parameters.allowed_batch_sizes
        variable = self._parameters.pad_variable_length_inputs
        self._in_thread(
            lambda: self._answer(tasks, allowed, variable), lambda future: self._landed(tasks, future)
        )

    def _landed(self, tasks: Sequence[_Task], future: asyncio.Future[Any]) -> None:
        self._flights -= 1
        error = future.exception()
        failed = [ServingError(Code.INTERNAL, str(error))] * len(tasks)
        self._settle(tasks, failed if error is not None else future.result())
        self._dispatch()
