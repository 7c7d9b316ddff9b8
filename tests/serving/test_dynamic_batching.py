"""Batching by TensorFlow Serving's parameters file: full and old batches, padding, splitting, refusals."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.data.errors import ConfigError
from headrace.serving.server.batching import Batcher
from headrace.serving.server.batching_parameters import BatchingParameters, parse_batching_parameters
from headrace.serving.server.dynamic_batching import Dynamic
from headrace.serving.server.errors import Code, ServingError
from headrace.serving.server.servable import load
from tests.serving import saved_models
from tests.serving.watched import Watched, drive, row, until

_SPLIT = "max_batch_size { value: 8 } enable_large_batch_splitting { value: true }"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    servable = load("zoo", 1, saved_models.zoo(Path(tmp_path_factory.mktemp("zoo"))))
    yield servable
    servable.close()


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


def splitting(**others: Any) -> BatchingParameters:
    return BatchingParameters(max_batch_size=16, split_large=True, max_execution_batch_size=4, **others)


def test_a_large_request_fills_the_waiting_batch_and_goes_on_in_others(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        first = asyncio.create_task(batcher.run(row(100.0)))
        await asyncio.sleep(0)
        large = asyncio.create_task(batcher.run(row(*range(9))))
        assert (await large)[0].tolist() == [float(n) for n in range(9)]
        assert (await first)[0].tolist() == [100.0]
        watched.batches.clear()
        assert (await batcher.run(row(*range(16))))[0].tolist() == [float(n) for n in range(16)]
        assert watched.batches == [4, 4, 4, 4]
        watched.batches.clear()
        first = asyncio.create_task(batcher.run(row(100.0)))
        await asyncio.sleep(0)
        await asyncio.gather(first, batcher.run(row(*range(9))))
        assert sorted(watched.batches) == [2, 4, 4]

    drive(zoo, Dynamic, work, splitting(batch_timeout_s=0.05))


def test_split_runs_are_padded_to_the_allowed_sizes(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        assert (await batcher.run(row(*range(5))))[0].tolist() == [float(n) for n in range(5)]
        assert sorted(watched.batches) == [2, 4]

    drive(zoo, Dynamic, work, splitting(batch_timeout_s=0.01, allowed_batch_sizes=(2, 4)))


def test_a_split_request_is_refused_whole(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        with pytest.raises(ServingError, match="Task size 17 is larger than maximum input batch size 16"):
            await batcher.run(row(*range(17)))
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(*[1.0] * n))) for n in (4, 3)]
        await until(lambda: watched.batches == [4])
        with pytest.raises(ServingError) as caught:
            await batcher.run(row(*range(10)))
        assert (caught.value.code, caught.value.message) == (
            Code.UNAVAILABLE,
            "The batch scheduling queue to which this task was submitted is full; task size is 10 but "
            "scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, "
            "open_batch_size=3, max_execution_batch_size=4)",
        )
        tasks.append(asyncio.create_task(batcher.run(row(*range(5)))))
        await asyncio.sleep(0)
        watched.gate.set()
        assert [len(answer[0]) for answer in await asyncio.gather(*tasks)] == [4, 3, 5]

    drive(zoo, Dynamic, work, splitting(max_enqueued_batches=2, num_batch_threads=1), threads=1)


def test_a_piece_that_fails_fails_its_request_alone(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        bad = batcher.run(row(1.0, 1.0, 1.0, 1.0, -1.0))
        good = batcher.run(row(2.0, 3.0))
        found = await asyncio.gather(bad, good, return_exceptions=True)
        assert isinstance(found[0], ServingError)
        assert not isinstance(found[1], BaseException)

    drive(zoo, Dynamic, work, splitting(batch_timeout_s=0.01), signature="positive")


def test_a_request_whose_results_are_no_rows_cannot_be_split(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        with pytest.raises(ServingError, match="Batched output tensor has 0 dimensions"):
            await batcher.run(row(*range(6)))
        assert (await batcher.run(row(1.0, 2.0)))[0].tolist() == 3.0

    drive(zoo, Dynamic, work, splitting(batch_timeout_s=0.01), signature="summed")


def test_pieces_of_a_request_that_hung_up_are_not_run(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        first = asyncio.create_task(batcher.run(row(0.0, 0.0, 0.0, 0.0)))
        await until(lambda: watched.batches == [4])
        gone = asyncio.create_task(batcher.run(row(*range(12))))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        watched.gate.set()
        await first
        await batcher.run(row(7.0))
        assert watched.batches == [4, 1]

    drive(zoo, Dynamic, work, splitting(num_batch_threads=1), threads=1)


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


def test_runs_are_smaller_than_requests_only_where_these_are_split():
    size = "max_batch_size { value: 8 } max_execution_batch_size { value: 2 }"
    found = parse_batching_parameters(f"{size} enable_large_batch_splitting {{ value: true }}")
    assert (found.run_limit, found.max_batch_size, found.ignored) == (2, 8, ())
    found = parse_batching_parameters(size)
    assert (found.run_limit, found.ignored) == (8, ("max_execution_batch_size",))
    found = parse_batching_parameters(
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true }"
    )
    assert (found.run_limit, found.split_large) == (8, True)


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
        (
            f"{_SPLIT} max_execution_batch_size {{ value: 4 }} allowed_batch_sizes: 2",
            "must be equal to max_execution_batch_size; last entry was 2; expected 4",
        ),
        (f"{_SPLIT} max_execution_batch_size {{ value: 9 }}", "must be at most max_batch_size. Received: 9"),
        (f"{_SPLIT} max_execution_batch_size {{ value: -1 }}", "must be >= 1. Received: -1"),
    ],
)
def test_a_parameters_file_that_cannot_be(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_batching_parameters(text)
