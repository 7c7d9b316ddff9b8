"""Requests put together: what each is answered, who waits, and who is refused."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.data.errors import ConfigError
from headrace.serving.server.batching import Adaptive, Batcher, Limits
from headrace.serving.server.batching_parameters import BatchingParameters, parse_batching_parameters
from headrace.serving.server.dynamic_batching import Dynamic
from headrace.serving.server.errors import Code, ServingError
from headrace.serving.server.servable import Servable, load
from tests.serving import saved_models

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    servable = load("zoo", 1, saved_models.zoo(Path(tmp_path_factory.mktemp("zoo"))))
    yield servable
    servable.close()


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
    make: Callable[..., Batcher],
    work: Callable[[Batcher, Watched], Awaitable[None]],
    settings: Any,
    signature: str = "any_rows",
    threads: int = 2,
) -> None:
    method = zoo.methods[{"any_rows": "slow"}.get(signature, signature)]
    watched = Watched(zoo)

    async def whole() -> None:
        with ThreadPoolExecutor(threads) as pool:
            batcher = make(watched, method, tuple(method.outputs), pool, settings)
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


# Adaptive


def test_an_idle_adaptive_batcher_runs_at_once(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for value in range(3):
            assert (await batcher.run(row(value)))[0].tolist() == [value]
        assert watched.batches == [1, 1, 1]

    drive(zoo, Adaptive, work, Limits())


def test_quick_runs_stay_in_the_event_loop(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(8):
            await batcher.run(row(1.0))
        assert watched.threads[-1] == threading.get_ident()
        assert watched.threads[0] != threading.get_ident()

    drive(zoo, Adaptive, work, Limits(inline_s=10.0))


def test_what_queues_while_a_run_is_in_flight_goes_into_the_next(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        first = asyncio.create_task(batcher.run(row(0.0)))
        await until(lambda: watched.batches == [1])
        rest = [asyncio.create_task(batcher.run(row(*[float(n)] * n))) for n in range(1, 6)]
        await asyncio.sleep(0.01)
        watched.gate.set()
        assert [task[0].tolist() for task in await asyncio.gather(first, *rest)] == [
            [0.0],
            *([float(n)] * n for n in range(1, 6)),
        ]
        assert watched.batches[:2] == [1, 15]

    drive(zoo, Adaptive, work, Limits(in_flight=1, inline_s=0.0))


async def one_a_turn(batcher: Batcher, requests: int) -> list[list[float]]:
    """Send a request every other turn of the loop, as gRPC hands them over."""
    tasks = []
    for number in range(requests):
        tasks.append(asyncio.create_task(batcher.run(row(float(number)))))
        for _ in range(2):
            await asyncio.sleep(0)
    return [answer[0].tolist() for answer in await asyncio.gather(*tasks)]


@pytest.mark.parametrize(("patience", "runs"), [(8, [10]), (1, [1] * 10)])
def test_requests_of_successive_turns_go_into_one_run(zoo, patience, runs):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(6):  # the first merged runs are checked by further ones
            await asyncio.gather(*(batcher.run(row(0.0)) for _ in range(3)))
        watched.batches.clear()
        assert await one_a_turn(batcher, 10) == [[float(number)] for number in range(10)]
        assert watched.batches == runs

    drive(zoo, Adaptive, work, Limits(inline_s=10.0, patience=patience))


def test_longer_runs_stay_in_the_event_loop_for_a_single_client(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(40):
            await batcher.run(row(1.0))
            batcher._run_s = 3.0  # as if it had been measured
        assert watched.threads[-1] == threading.get_ident()
        watched.threads.clear()
        for _ in range(3):
            await asyncio.gather(*(batcher.run(row(1.0)) for _ in range(3)))
            batcher._run_s = 3.0
        assert threading.get_ident() not in watched.threads

    drive(zoo, Adaptive, work, Limits(inline_s=1.0))


def test_a_single_client_does_not_wait_for_others(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(20):
            await batcher.run(row(0.0))
        watched.batches.clear()
        await one_a_turn(batcher, 3)
        assert watched.batches == [1, 1, 1]

    drive(zoo, Adaptive, work, Limits(inline_s=10.0))


def test_runs_hold_no_more_than_max_rows_but_for_one_large_request(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(0.0)))]
        await until(lambda: watched.batches == [1])
        tasks += [asyncio.create_task(batcher.run(row(*[1.0] * n))) for n in (2, 2, 2, 9, 1)]
        await asyncio.sleep(0.01)
        watched.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [len(answer[0]) for answer in answers] == [1, 2, 2, 2, 9, 1]
        checks = [batch for batch in watched.batches[1:] if batch in (4, 2, 9, 1)]
        assert checks == watched.batches[1:]

    drive(zoo, Adaptive, work, Limits(max_rows=4, in_flight=1, inline_s=0.0))


def test_models_whose_rows_see_each_other_are_run_apart(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(3):
            watched.gate.clear()
            tasks = [asyncio.create_task(batcher.run(row(1.0, 3.0))) for _ in range(4)]
            await asyncio.sleep(0.01)
            watched.gate.set()
            assert [task[0].tolist() for task in await asyncio.gather(*tasks)] == [[0.25, 0.75]] * 4
        assert watched.batches[-4:] == [2, 2, 2, 2]

    drive(zoo, Adaptive, work, Limits(in_flight=1, inline_s=0.0), signature="share")


@pytest.mark.parametrize("signature", ["summed", "any_shape"])
def test_signatures_without_rows_are_run_apart(zoo, signature):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run(row(1.0, 3.0))) for _ in range(4)]
        expected = 4.0 if signature == "summed" else [1.0, 3.0]
        assert [task[0].tolist() for task in await asyncio.gather(*tasks)] == [expected] * 4
        assert watched.batches == [2, 2, 2, 2]

    drive(zoo, Adaptive, work, Limits(), signature=signature)


def test_one_that_fails_takes_no_other_with_it(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(value))) for value in [1.0, 1.0, -1.0, 2.0]]
        await asyncio.sleep(0.01)
        watched.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [list, list, ServingError, list]

    drive(zoo, Adaptive, work, Limits(in_flight=1, inline_s=0.0), signature="positive")


def test_hung_up_requests_are_not_run(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        first = asyncio.create_task(batcher.run(row(0.0)))
        await until(lambda: watched.batches == [1])
        gone = [asyncio.create_task(batcher.run(row(5.0))) for _ in range(5)]
        late = asyncio.create_task(batcher.run(row(6.0), deadline=time.monotonic() + 0.01))
        stays = asyncio.create_task(batcher.run(row(7.0)))
        await asyncio.sleep(0.03)
        for task in gone:
            task.cancel()
        watched.gate.set()
        await first
        assert (await stays)[0].tolist() == [7.0]
        assert watched.batches == [1, 1]
        late.cancel()

    drive(zoo, Adaptive, work, Limits(in_flight=1, inline_s=0.0))


def test_a_full_queue_refuses_at_once_and_recovers(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        first = asyncio.create_task(batcher.run(row(0.0)))
        await until(lambda: watched.batches == [1])
        waiting = [asyncio.create_task(batcher.run(row(1.0))) for _ in range(8)]
        await asyncio.sleep(0.01)
        start = time.perf_counter()
        with pytest.raises(ServingError, match="queue to which this task was submitted is full"):
            await batcher.run(row(2.0))
        assert time.perf_counter() - start < 0.1
        watched.gate.set()
        await asyncio.gather(first, *waiting)
        assert (await batcher.run(row(3.0)))[0].tolist() == [3.0]

    drive(zoo, Adaptive, work, Limits(max_queued=8, in_flight=1, inline_s=0.0))


# Dynamic


def test_a_dynamic_batch_runs_when_it_is_full_or_old(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run(row(float(n)))) for n in range(4)]
        answers = await asyncio.gather(*tasks)
        assert [answer[0].tolist() for answer in answers] == [[0.0], [1.0], [2.0], [3.0]]
        assert watched.batches == [4]
        start = time.perf_counter()
        await batcher.run(row(9.0))
        assert 0.19 < time.perf_counter() - start < 2.0
        assert watched.batches == [4, 1]

    drive(zoo, Dynamic, work, BatchingParameters(max_batch_size=4, batch_timeout_s=0.2))


def test_runs_are_padded_to_allowed_sizes(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run(row(float(n)))) for n in range(3)]
        assert [task[0].tolist() for task in await asyncio.gather(*tasks)] == [[0.0], [1.0], [2.0]]
        await batcher.run(row(1.0, 2.0))
        assert watched.batches == [4, 2]

    parameters = BatchingParameters(max_batch_size=8, batch_timeout_s=0.02, allowed_batch_sizes=(2, 4, 8))
    drive(zoo, Dynamic, work, parameters)


def test_inputs_of_different_lengths_are_padded_if_asked(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run([np.ones((1, n), np.float32)])) for n in (1, 3)]
        answers = await asyncio.gather(*tasks)
        assert [answer[0].tolist() for answer in answers] == [[[1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]

    parameters = BatchingParameters(4, 0.02, allowed_batch_sizes=(2, 4), pad_variable_length_inputs=True)
    drive(zoo, Dynamic, work, parameters, signature="any_shape")


def test_enough_enqueued_batches_refuse_the_next(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(1.0, 1.0))) for _ in range(4)]
        await until(lambda: watched.batches == [2])
        await asyncio.sleep(0.01)
        with pytest.raises(ServingError) as caught:
            await batcher.run(row(1.0))
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.message == (
            "The batch scheduling queue to which this task was submitted is full; "
            "currently 3 batches enqueued and max_enqueued_batches is 3"
        )
        tasks[-1].cancel()
        await asyncio.sleep(0)
        accepted = asyncio.create_task(batcher.run(row(8.0)))
        await asyncio.sleep(0)
        watched.gate.set()
        assert (await accepted)[0].tolist() == [8.0]
        await asyncio.gather(*tasks[:-1])

    drive(zoo, Dynamic, work, BatchingParameters(2, 0.0, max_enqueued_batches=3, num_batch_threads=1))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (row(*range(5)), "Task size 5 is larger than maximum input batch size 4"),
        ([np.float32(1.0).reshape(())], "Batching Run() input tensors must have at least one dimension"),
    ],
)
def test_what_does_not_fit_a_batch(zoo, inputs, text):
    async def work(batcher: Batcher, watched: Watched) -> None:
        with pytest.raises(ServingError) as caught:
            await batcher.run(inputs)
        assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)

    drive(zoo, Dynamic, work, BatchingParameters(max_batch_size=4))


def test_inputs_with_different_numbers_of_rows(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        texts = np.array([b"a", b"b"], object)
        with pytest.raises(ServingError, match="input tensors must have equal 0th-dimension size"):
            await batcher.run([np.ones((1, 2), np.float32), texts])

    drive(zoo, Dynamic, work, BatchingParameters(), signature="serving_default")


def test_outputs_without_a_row_for_every_row(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run(row(1.0))) for _ in range(2)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer[0].tolist() for answer in answers] == [1.0, 1.0]

    drive(zoo, Dynamic, work, BatchingParameters(max_batch_size=2, batch_timeout_s=1.0), signature="summed")


# The parameters file


def test_the_parameters_file_of_upstreams_guide():
    text = """
    max_batch_size { value: 128 }
    batch_timeout_micros { value: 1000 }
    max_enqueued_batches { value: 1000000 }
    num_batch_threads { value: 8 }
    pad_variable_length_inputs: true
    allowed_batch_sizes: 64
    allowed_batch_sizes: 128
    thread_pool_name { value: "pool" }
    """
    assert parse_batching_parameters(text) == BatchingParameters(
        128, 0.001, 1_000_000, 8, (64, 128), True, ("thread_pool_name",)
    )
    assert parse_batching_parameters("").max_batch_size == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 3", "batching parameters must be a BatchingParameters text"),
        ("colour { value: 3 }", "has no field named"),
        ("max_batch_size { value: 0 }", "max_batch_size must be >= 1. Received: 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be >= 0. Received: -1"),
        ("allowed_batch_sizes: 4 allowed_batch_sizes: 2", "entries must be monotonically increasing"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
    ],
)
def test_a_parameters_file_that_cannot_be(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_batching_parameters(text)
