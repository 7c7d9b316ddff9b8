"""Dynamic batching by the batching parameters file of TensorFlow Serving."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .batching import QUEUE_FULL, Batcher, Task
from .batching_parameters import BatchingParameters
from .errors import Code, ServingError
from .merging import cut, join
from .servable import Method, Servable

__all__ = ["Dynamic"]


@dataclass(slots=True)
class _Batch:
    opened: float
    tasks: list[Task] = field(default_factory=list)
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

    def _submit(self, task: Task) -> None:
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
        for part in self._parts(task, task.rows):
            rows = part.rows or 0
            batch = self._batches[-1] if self._batches and rows <= self._room(task) else self._open()
            batch.tasks.append(part)
            batch.rows += rows
        self._dispatch()

    def _room(self, task: Task) -> int:
        """Return how many rows of `task` the last batch that waits can take."""
        if not self._batches:
            return 0
        batch = self._batches[-1]
        same = self._parameters.pad_variable_length_inputs or batch.tasks[0].shapes == task.shapes
        return self._parameters.run_limit - batch.rows if same else 0

    def _parts(self, task: Task, rows: int) -> list[Task]:
        """Return `task`, or the pieces that fill the last batch and those after it.

        Raises:
            ServingError: UNAVAILABLE, if the batches that may wait have no room for all of them: none waits
                then.
        """
        if not self._parameters.split_large:
            return [task]
        if rows > self._capacity(task):
            self._drop_dead()
        room, limit = self._room(task), self._parameters.run_limit
        if rows > self._capacity(task):
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; task size is "
                f"{rows} but scheduling capacity is only {self._capacity(task)} "
                f"(num_enqueued_batches={len(self._batches)}, "
                f"max_enqueued_batches={self._parameters.max_enqueued_batches}, "
                f"open_batch_size={self._batches[-1].rows if self._batches else 0}, "
                f"max_execution_batch_size={limit})",
            )
        if rows <= (room or limit):
            return [task]
        ends = [*range(room or limit, rows, limit), rows]
        return _divided(task, ends)

    def _capacity(self, task: Task) -> int:
        free = self._parameters.max_enqueued_batches - len(self._batches)
        return free * self._parameters.run_limit + self._room(task)

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
            if len(self._batches) == 1 and oldest.rows < self._parameters.run_limit and due > 0:
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

    def _launch(self, tasks: list[Task]) -> None:
        self._flights += 1
        allowed = self._parameters.allowed_batch_sizes
        variable = self._parameters.pad_variable_length_inputs
        self._in_thread(
            lambda: self._answer(tasks, allowed, variable), lambda future: self._landed(tasks, future)
        )

    def _landed(self, tasks: Sequence[Task], future: asyncio.Future[Any]) -> None:
        self._flights -= 1
        error = future.exception()
        failed = [ServingError(Code.INTERNAL, str(error))] * len(tasks)
        self._settle(tasks, failed if error is not None else future.result())
        self._dispatch()


def _divided(task: Task, ends: Sequence[int]) -> list[Task]:
    """Return pieces of a request, each ending at a row of `ends`; their answers together are its answer."""
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        done: asyncio.Future[Any] = task.done.get_loop().create_future()
        parts.append(Task(cut(task.inputs, start, end), end - start, task.shapes, done, task.deadline))

    def ended(_: asyncio.Future[Any]) -> None:
        if task.done.done():
            return
        failed = [part.done for part in parts if part.done.done() and _error(part.done)]
        if failed:
            task.done.set_exception(_error(failed[0]) or asyncio.CancelledError())
        elif all(part.done.done() for part in parts):
            try:
                found = join([part.done.result() for part in parts], [part.rows or 0 for part in parts])
            except ServingError as error:
                task.done.set_exception(error)
            else:
                task.done.set_result(found)

    def gone(_: asyncio.Future[Any]) -> None:
        for part in parts:  # those that wait are not run for nobody
            part.done.cancel()

    for part in parts:
        part.done.add_done_callback(ended)
    task.done.add_done_callback(gone)
    return parts


def _error(done: asyncio.Future[Any]) -> BaseException | None:
    return None if done.cancelled() else done.exception()
