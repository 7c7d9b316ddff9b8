"""Requests put together as they queue: what each is answered, who waits, and who is refused."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from headrace.serving.server.batching import Adaptive, Batcher, Limits
from headrace.serving.server.errors import ServingError
from headrace.serving.server.servable import load
from tests.serving import saved_models
from tests.serving.watched import Watched, drive, row, until


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    servable = load("zoo", 1, saved_models.zoo(Path(tmp_path_factory.mktemp("zoo"))))
    yield servable
    servable.close()


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
