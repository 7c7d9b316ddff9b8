"""REST and gRPC clients, in threads and in event loops, against a server of tiny models."""

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from headrace.data.errors import ConfigError
from headrace.serving.client import (
    AsyncGrpcClient,
    AsyncRestClient,
    GrpcClient,
    Predictions,
    RequestFailed,
    RestClient,
    connect,
)
from headrace.serving.client.failures import Code
from headrace.serving.columns import InvalidRow
from tests.serving import client_models
from tests.serving.client_models import SHOP_LABELS, TAG_LABELS, Served, serving, shop_yes

PHOTO = b"\x89PNG\r\n\x1a\n" + bytes(30)
ROWS: list[dict[str, Any]] = [
    {"price": 10.0, "name": "tea", "steps": [1.0, 2.0], "photo": PHOTO},
    {"price": 50, "name": "größe", "steps": [], "photo": None},
    {"price": None, "name": None, "steps": None},
    {},
    {"price": math.nan, "name": "", "steps": [None, 4.0, math.nan], "photo": b""},
    {"price": -20.5, "name": "never seen \U0001f600", "steps": [0.1] * 7},
]
ALL = ("rest", "grpc", "async rest", "async grpc")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    client_models.shop(root / "shop" / "1")
    client_models.tags(root / "tags" / "1")
    client_models.value(root / "value" / "7")
    with serving(root, ("shop", "tags", "value")) as found:
        yield found


def ask(
    served: Served, face: str, model: str, rows: Any, options: Any = None, **settings: Any
) -> Predictions:
    """Predict with a client of any face."""
    url = served.url(face.split()[-1], model)
    if not face.startswith("async"):
        with connect(url, **settings) as client:
            return client.predict(rows, **(options or {}))

    async def predict() -> Predictions:
        kind = AsyncRestClient if face == "async rest" else AsyncGrpcClient
        async with kind(url, **settings) as client:
            return await client.predict(rows, **(options or {}))

    return asyncio.run(predict())


@pytest.mark.parametrize("face", ALL)
def test_answers_rows_with_values_missing_and_unseen(served: Served, face: str) -> None:
    found = ask(served, face, "shop", ROWS, labels=SHOP_LABELS)
    expected = [shop_yes(row) for row in ROWS]
    np.testing.assert_allclose(found.scores[:, 1], expected, atol=1e-6)
    assert found.classes == ("no", "yes")
    assert [row.label for row in found] == ["yes" if yes >= 0.3 else "no" for yes in expected]
    assert found[1].probability == pytest.approx(expected[1], abs=1e-6)
    assert found.decided_by == "threshold 0.3 of labels="


@pytest.mark.parametrize("face", ALL)
def test_parts_of_a_large_request_come_back_in_order(served: Served, face: str) -> None:
    rows = [{"price": float(price), "steps": [1.0] * (price % 5)} for price in range(53)]
    told: list[tuple[int, int]] = []
    found = ask(
        served,
        face,
        "shop",
        rows,
        {"progress": lambda done, total: told.append((done, total))},
        batch_rows=10,
    )
    np.testing.assert_allclose(found.scores[:, 1], [shop_yes(row) for row in rows], atol=1e-6)
    assert told == [(10, 53), (20, 53), (30, 53), (40, 53), (50, 53), (53, 53)]
    assert found.version == 1


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_a_part_of_many_bytes_is_cut_further(served: Served, scheme: str) -> None:
    rows = [{"photo": b"\xff" * 100} for _ in range(9)]
    told: list[int] = []
    found = ask(
        served, scheme, "shop", rows, {"progress": lambda done, _: told.append(done)}, batch_bytes=300
    )
    np.testing.assert_allclose(found.scores[:, 1], 0.25 + 0.1, atol=1e-6)
    assert told[-1] == 9
    assert found.version == 1  # all parts were sent to it
    assert max(np.diff([0, *told])) <= 2


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_every_form_of_rows_is_the_same_request(served: Served, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PHOTO)
    rows = ROWS[:3]
    columns = {name: [row.get(name) for row in rows] for name in ("price", "name", "steps", "photo")}
    frame = pd.DataFrame({"price": pd.array([10, 50, None], "Int64"), "name": columns["name"]}).assign(
        steps=columns["steps"], photo=columns["photo"]
    )
    table = pa.table(
        {
            "price": pa.array([10, 50, None], pa.int32()),
            "name": pa.array(columns["name"]).dictionary_encode(),
            "steps": pa.array(columns["steps"], pa.list_(pa.float64())),
            "photo": pa.array(columns["photo"], pa.binary()),
        }
    )
    by_path = [{**rows[0], "photo": path}, *rows[1:]]
    by_text = [{**rows[0], "photo": str(path)}, *rows[1:]]
    expected = [shop_yes(row) for row in rows]
    with connect(served.url(scheme, "shop"), images=["photo"]) as client:
        for form in (rows, columns, frame, table, table.to_batches()[0], by_path, by_text, iter(rows)):
            np.testing.assert_allclose(client.predict(form).scores[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_a_model_of_one_column_takes_its_values(served: Served, scheme: str) -> None:
    texts = ["aab", "", "cb"]
    found = ask(served, scheme, "tags", texts, labels=TAG_LABELS)
    np.testing.assert_allclose(found.scores, [[2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0.5, 0.5]], atol=1e-6)
    assert [row.labels for row in found] == [("a",), (), ("b", "c")]
    assert ask(served, scheme, "tags", "ab", labels=TAG_LABELS)[0].labels == ("a", "b")
    values = ask(served, scheme, "value", np.array([1.5, np.inf, -np.inf, np.nan]))
    np.testing.assert_array_equal(values.values, [3.0, np.inf, -np.inf, np.nan])
    assert (values.task, values.version) == ("regression", 7 if scheme == "grpc" else None)


def test_pictures_may_be_arrays(served: Served) -> None:
    from headrace.serving.images import decode_image

    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    sent: list[bytes] = []
    with RestClient(served.rest("shop")) as client:
        run = client._prepared
        client._prepared = lambda *given: (sent.append(given[1]["photo"][0]), run(*given))[1]  # type: ignore[method-assign]
        client.predict([{"photo": pixels}])
    np.testing.assert_array_equal(decode_image(sent[0]), pixels)


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
class TestWithoutLabels:
    def test_the_largest_score_decides_and_the_result_says_so(self, served: Served, scheme: str) -> None:
        found = ask(served, scheme, "shop", [{"price": 40.0}, {"price": 60.0}])
        assert [row.label for row in found] == ["no", "yes"]
        assert found.decided_by.startswith("largest score, since the server tells no threshold")

    def test_a_threshold_may_be_given(self, served: Served, scheme: str) -> None:
        found = ask(served, scheme, "shop", [{"price": 40.0}, {"price": 20.0}], threshold=0.35)
        assert [row.label for row in found] == ["yes", "no"]
        assert found.decided_by == "threshold 0.35, as given"

    def test_multilabel_scores_are_not_taken_for_one_class(self, served: Served, scheme: str) -> None:
        with pytest.raises(ConfigError, match=r"must sum to 1. Received: a row that sums to 0"):
            ask(served, scheme, "tags", ["x", "y"])

    def test_labels_come_from_a_pushed_version(self, served: Served, scheme: str) -> None:
        found = ask(served, scheme, "shop", [{"price": 31.0}], labels=served.root / "shop")
        assert found[0].label == "yes"
        assert found.decided_by == "threshold 0.3 of labels.json"


@pytest.mark.parametrize("face", ALL)
@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"prise": 1}, {}, r"one that the model reads. Received: 'prise' \(row 12, column 'prise'\)"),
        (
            {"price": "dear"},
            {},
            r"must be a number. Received: 'dear', of type str \(row 12, column 'price'\)",
        ),
        ({"steps": 3}, {}, r"must be a list of numbers. Received: 3, .*\(row 12, column 'steps'\)"),
        ({"photo": Path("none.png")}, {}, r"file must be readable. Received: .*\(row 12, column 'photo'\)"),
        ({"photo": np.zeros((2, 2))}, {}, r"must be uint8 .*Received: float64 \[2, 2\] \(row 12"),
        ({"price": 1}, {"complete": True}, r"must be given. Received: none for 'name', 'photo', 'steps'"),
    ],
)
def test_what_does_not_fit_is_named(served: Served, face: str, row: Any, options: Any, words: str) -> None:
    rows = [{"price": 1.0} for _ in range(12)] + [row]
    with pytest.raises(InvalidRow, match=words):
        ask(served, face, "shop", rows, options, batch_rows=5)


def test_a_near_name_is_a_hint_and_more_columns_may_be_passed_over(served: Served) -> None:
    with RestClient(served.rest("shop")) as client:
        with pytest.raises(InvalidRow) as caught:
            client.predict([{"prise": 1}])
        assert caught.value.hint == "did you mean 'price'?"
        found = client.predict(pd.DataFrame({"price": [40], "id": ["x"]}), ignore_unknown=True)
    assert found[0].scores["yes"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "at least one row. Received: none"),
        ({}, "at least one row. Received: none"),
        (["tea"], "each row must be a dict, since the model reads 4 columns. Received: str"),
        ({"price": 3}, "a column must be a sequence. Received: 3, of type int"),
        (3, "rows must be dicts, columns, a table, or values of the one column that is read. Received: int"),
        ({"price": [1, 2], "name": ["a"]}, "columns must be of one length. Received: 1 values"),
    ],
)
def test_what_is_no_rows_is_refused(served: Served, rows: Any, words: str) -> None:
    with RestClient(served.rest("shop")) as client, pytest.raises((ConfigError, InvalidRow), match=words):
        client.predict(rows)


@pytest.mark.parametrize("face", ALL)
def test_a_model_or_version_that_is_not_there(served: Served, face: str) -> None:
    for model in ("nowhere", "shop/versions/9"):
        with pytest.raises(RequestFailed, match=r"NOT_FOUND: .*not found") as caught:
            ask(served, face, model, ROWS)
        assert caught.value.code is Code.NOT_FOUND
        assert model in str(caught.value)


@pytest.mark.parametrize("face", ALL)
def test_a_signature_that_is_not_there(served: Served, face: str) -> None:
    with pytest.raises(
        ConfigError, match=r"signature for rows. Received: 'odd' \(.*serving_default, serving_raw"
    ):
        ask(served, face, "shop", ROWS, signature="odd")


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_tensors_go_to_any_signature_as_they_are(served: Served, scheme: str) -> None:
    with connect(served.url(scheme, "value")) as client:
        found = client.run({"x": np.array([2.0, 4.0], np.float32)}, outputs=["outputs"])
        np.testing.assert_array_equal(found.outputs["outputs"], [4.0, 8.0])
        assert set(client.signatures()) == {"serving_default", "serving_raw"}
        with pytest.raises(RequestFailed) as caught:
            client.run({"y": np.array([2.0], np.float32)}, "serving_raw")
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_threads_share_a_client(served: Served) -> None:
    for scheme in ("rest", "grpc"):
        with connect(served.url(scheme, "shop")) as client, ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda price: client.predict([{"price": price}])[0].scores["yes"], range(64))
            np.testing.assert_allclose(list(found), np.arange(64) / 100, atol=1e-6)


def test_connections_are_used_again(served: Served) -> None:
    with RestClient(served.rest("shop")) as client:
        client.predict(ROWS)
        (wire,) = client._wires._idle
        port = wire.sock.getsockname()[1]
        for _ in range(3):
            client.predict(ROWS)
        assert [idle.sock.getsockname()[1] for idle in client._wires._idle] == [port]


def test_a_connection_that_the_server_closed_is_replaced(served: Served) -> None:
    with RestClient(served.rest("shop")) as client:
        client.predict(ROWS)
        (wire,) = client._wires._idle
        wire.sock.shutdown(2)
        assert len(client.predict(ROWS)) == len(ROWS)


@pytest.mark.parametrize("face", ALL)
def test_many_at_once_in_one_loop(served: Served, face: str) -> None:
    if not face.startswith("async"):
        face = f"async {face}"

    async def predict() -> list[float]:
        kind = AsyncRestClient if face == "async rest" else AsyncGrpcClient
        async with kind(served.url(face.split()[-1], "shop")) as client:
            parts = await asyncio.gather(*(client.predict([{"price": price}]) for price in range(20)))
        return [part[0].scores["yes"] for part in parts]

    np.testing.assert_allclose(asyncio.run(predict()), np.arange(20) / 100, atol=1e-6)


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout_s": 0}, "`timeout_s` must be > 0. Received: 0"),
        ({"batch_rows": 0}, "`batch_rows` must be >= 1. Received: 0"),
        ({"labels": "nowhere.json"}, "labels must be a labels.json. Received: .*nowhere.json"),
        ({"labels": {"task": "odd"}}, "labels must be an object with `task`"),
    ],
)
def test_settings_are_checked_at_once(kind: Any, settings: Any, words: str) -> None:
    url = "http://localhost:1/v1/models/m" if kind is RestClient else "grpc://localhost:1/m"
    with pytest.raises(ConfigError, match=words):
        kind(url, **settings)


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_labels_of_another_model_are_noticed(served: Served, scheme: str) -> None:
    labels = {"task": "multiclass", "classes": ["a", "b", "c"], "threshold": None}
    with pytest.raises(ConfigError, match="Received: 3 names for 2 scores"):
        ask(served, scheme, "shop", ROWS, labels=labels)
    for threshold, model, own in (([0.1, 0.2], "shop", SHOP_LABELS), ([0.1], "tags", TAG_LABELS)):
        rows = ["a"] if model == "tags" else ROWS
        with pytest.raises(ConfigError, match="`threshold` must be a number"):
            ask(served, scheme, model, rows, labels=own, threshold=threshold)
