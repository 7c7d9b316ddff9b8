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
        batch = self._batches[-1] if self._batches else None
        if batch is None or not self._fits(batch, task):
            batch = self._open()
        batch.tasks.append(task)
        batch.rows += task.rows
        self._dispatch()

    def _fits(self, batch: _Batch, task: Task) -> bool:
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
