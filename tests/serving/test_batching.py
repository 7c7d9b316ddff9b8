"""Requests put together as they queue: what each is answered, who waits."""

import asyncio
import json
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from headrace.serving.row_mark import ROW_MARK, read_row_mark, row_mark
from headrace.serving.server.batching import Batcher, Limits
from headrace.serving.server.errors import ServingError
from headrace.serving.server.run import RunSettings
from headrace.serving.server.servable import load
from headrace.serving.server.source import ModelEntry
from tests.serving import saved_models
from tests.serving.running import running
from tests.serving.watched import Watched, drive, row, until


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = Path(saved_models.zoo(Path(tmp_path_factory.mktemp("zoo"))))
    saved_models.mark(path, "slow", "positive", "summed", "any_shape")
    servable = load("zoo", 1, str(path))
    yield servable
    servable.close()


def test_an_idle_adaptive_batcher_runs_at_once(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for value in range(3):
            assert (await batcher.run(row(value)))[0].tolist() == [value]
        assert watched.batches == [1, 1, 1]

    drive(zoo, work, Limits())


def test_quick_runs_stay_in_the_event_loop(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(8):
            await batcher.run(row(1.0))
        assert watched.threads[-1] == threading.get_ident()
        assert watched.threads[0] != threading.get_ident()

    drive(zoo, work, Limits(inline_s=10.0))


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

    drive(zoo, work, Limits(in_flight=1, inline_s=0.0))


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
        for _ in range(6):  # until it knows what a run takes
            await asyncio.gather(*(batcher.run(row(0.0)) for _ in range(3)))
        watched.batches.clear()
        assert await one_a_turn(batcher, 10) == [[float(number)] for number in range(10)]
        assert watched.batches == runs

    drive(zoo, work, Limits(inline_s=10.0, patience=patience))


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

    drive(zoo, work, Limits(inline_s=1.0))


def test_a_single_client_does_not_wait_for_others(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        for _ in range(20):
            await batcher.run(row(0.0))
        watched.batches.clear()
        await one_a_turn(batcher, 3)
        assert watched.batches == [1, 1, 1]

    drive(zoo, work, Limits(inline_s=10.0))


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
        assert watched.batches[1:] == [4, 2, 9, 1]

    drive(zoo, work, Limits(max_rows=4, in_flight=1, inline_s=0.0))


@pytest.mark.parametrize(("signature", "merging"), [("share", True), ("slow", False)])
def test_requests_are_run_apart_unless_rows_are_known_to_be_independent(zoo, signature, merging):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(1.0, 3.0))) for _ in range(4)]
        await asyncio.sleep(0.01)
        watched.gate.set()
        expected = [0.25, 0.75] if signature == "share" else [1.0, 3.0]
        assert [task[0].tolist() for task in await asyncio.gather(*tasks)] == [expected] * 4
        assert watched.batches == [2, 2, 2, 2]

    drive(zoo, work, Limits(in_flight=1, inline_s=0.0), signature=signature, merging=merging)


@pytest.mark.parametrize("signature", ["summed", "any_shape"])
def test_signatures_without_rows_are_run_apart(zoo, signature):
    async def work(batcher: Batcher, watched: Watched) -> None:
        tasks = [asyncio.create_task(batcher.run(row(1.0, 3.0))) for _ in range(4)]
        expected = 4.0 if signature == "summed" else [1.0, 3.0]
        assert [task[0].tolist() for task in await asyncio.gather(*tasks)] == [expected] * 4
        assert watched.batches == [2, 2, 2, 2]

    drive(zoo, work, Limits(), signature=signature)


def test_one_that_fails_takes_no_other_with_it(zoo):
    async def work(batcher: Batcher, watched: Watched) -> None:
        watched.gate.clear()
        tasks = [asyncio.create_task(batcher.run(row(value))) for value in [1.0, 1.0, -1.0, 2.0]]
        await asyncio.sleep(0.01)
        watched.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [list, list, ServingError, list]

    drive(zoo, work, Limits(in_flight=1, inline_s=0.0), signature="positive")


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

    drive(zoo, work, Limits(in_flight=1, inline_s=0.0))


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"row_independent": 1}', "\udcff"])
def test_a_mark_that_cannot_be_read_marks_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "assets.extra").mkdir()
        (tmp_path / ROW_MARK).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_row_mark(tmp_path) == frozenset()
    (tmp_path / "assets.extra").mkdir(exist_ok=True)
    (tmp_path / ROW_MARK).write_text(json.dumps(row_mark(["b", "a"])))
    assert read_row_mark(tmp_path) == {"a", "b"}


async def ask_swayed(address: str, requests: int, clients: int = 64) -> list[tuple[float, float]]:
    """Ask from many clients at once, a fifth with values that sway a batch; return values and answers."""
    random = Random(requests)
    asked = [random.choice([2000.0, *(random.uniform(-9, 9) for _ in range(4))]) for _ in range(requests)]
    found: list[tuple[float, float]] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        async def ask() -> None:
            while asked:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = "swayed"
                request.inputs["x"].CopyFrom(tf.make_tensor_proto([value := asked.pop()], tf.float32))
                answer = await stub.Predict(request, timeout=60)
                found.append((value, float(tf.make_ndarray(answer.outputs["y"])[0])))

        await asyncio.gather(*(ask() for _ in range(clients)))
    return found


@pytest.mark.parametrize("requests", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_plain_model_whose_rows_see_each_other_answers_each_client_its_own(tmp_path, requests):
    saved_models.swayed(tmp_path / "swayed" / "1")
    settings = RunSettings(entries=(ModelEntry("swayed", str(tmp_path / "swayed")),))
    with running(settings) as server:
        found = asyncio.run(ask_swayed(server.grpc_address, requests))
    wrong = [(x, y) for x, y in found if abs(y - (-1.0 if x > 1000 else 2 * x)) > 1e-5 * max(1, abs(2 * x))]
    assert (len(found), wrong) == (requests, [])


def test_the_same_model_would_answer_wrongly_if_it_were_marked(tmp_path):
    """What the mark is trusted with: the load above does bring requests together."""
    saved_models.swayed(tmp_path / "swayed" / "1")
    saved_models.mark(tmp_path / "swayed" / "1", "serving_default")
    settings = RunSettings(entries=(ModelEntry("swayed", str(tmp_path / "swayed")),))
    with running(settings) as server:
        found = asyncio.run(ask_swayed(server.grpc_address, 1000))
    assert any(x < 1000 and y == -1.0 for x, y in found)
