"""Rows that hold lists and pictures: read in batches, shuffled whole, shown where the model is wrong."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from PIL import Image

from headrace.components.evaluation.importance import permutation_importance
from headrace.components.evaluation.judge import Judge
from headrace.components.evaluation.mistakes import Pixels, find_mistakes, pixels_of
from headrace.components.evaluation.predict import batch_rows
from headrace.components.evaluation.rows import (
    ExampleFiles,
    check_slices,
    decode,
    device_columns,
    model_columns,
)
from headrace.data.errors import ConfigError

TYPES = {"photo": "image", "sound": "floats", "pixels": "floats", "words": "string", "age": "int"}


def encode(row: Mapping[str, Any]) -> bytes:
    """Encode as ingest does: a missing value is left out."""
    features = {}
    for name, value in row.items():
        if isinstance(value, bytes | str):
            content = value if isinstance(value, bytes) else value.encode()
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
        elif isinstance(value, list):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        elif value is not None:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def picture(seed: int, side: int = 120) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def table(rows: int) -> list[dict[str, Any]]:
    """Rows of every type; of every fifth each value is missing in turn."""
    made = []
    for n in range(rows):
        row: dict[str, Any] = {
            "photo": picture(n),
            "sound": [float(n), float("nan"), 2.0][: 1 + n % 3],
            "pixels": [float(n % 2)] * 6,
            "words": f"row {n} " + "long " * 200,
            "age": n,
        }
        if n % 5 == 4:
            row[list(TYPES)[n // 5 % 5]] = None
        made.append(row)
    return made


def write(folder: Path, rows: list[dict[str, Any]]) -> ExampleFiles:
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    half = len(rows) // 2
    for shard, part in enumerate((rows[:half], rows[half:])):
        with tf.io.TFRecordWriter(str(folder / f"data-{shard}.gz"), options) as writer:
            for row in part:
                writer.write(encode(row))
    return ExampleFiles(str(folder), TYPES)


def test_decode_keeps_lists_and_files_whole() -> None:
    rows = table(26)
    found = decode(np.array([encode(row) for row in rows], object), TYPES)
    for name in ("photo", "words", "age"):
        assert found[name].to_pylist() == [row[name] for row in rows]
    assert [None if v is None else len(v) for v in found["sound"].to_pylist()] == [
        None if row["sound"] is None else len(row["sound"]) for row in rows
    ]
    given = model_columns(found, list(TYPES))
    assert given["sound"].shape == (26, 3)
    expected = np.array([(row["sound"] or []) + [np.nan] * (3 - len(row["sound"] or [])) for row in rows])
    np.testing.assert_array_equal(given["sound"], expected)
    assert given["photo"].dtype == object
    assert given["photo"][4] == b""  # missing
    assert given["words"][19] == ""
    device = device_columns(found, ["sound", "photo", "age"])
    assert device["sound"][9] is None
    assert device["photo"][0] == rows[0]["photo"]
    assert device["age"][24] is None


def test_a_column_of_missing_lists() -> None:
    found = decode(np.array([encode({"age": 1})] * 2, object), TYPES)
    assert found["sound"].type == pa.large_list(pa.float32())
    given = model_columns(found, ["sound", "photo"])
    assert given["sound"].shape == (2, 1)
    assert np.isnan(given["sound"]).all()
    assert given["photo"].tolist() == [b"", b""]


def test_files_are_read_batch_by_batch(tmp_path: Path) -> None:
    rows = table(11)
    files = write(tmp_path, rows)
    assert [len(batch) for batch in files.batches(4)] == [4, 4, 3]
    parts = [part["age"].to_pylist() for part in files.columns(["age"], 4)]
    assert [len(part) for part in parts] == [4, 4, 3]
    picked = files.pick(["age", "words"], np.array([1, 7, 10]))
    assert picked["age"].to_pylist() == [1, 7, 10]
    assert files.pick(["age"], np.array([], int))["age"].to_pylist() == []


def test_large_rows_are_predicted_few_at_once() -> None:
    assert batch_rows({"features": [{"width": 224 * 224 * 3}]}) == 55
    assert batch_rows({"features": [{"width": 3}, {"width": 1}]}) == 4096
    assert batch_rows({"features": [{"width": 10**9}]}) == 1
    assert batch_rows({}) == 4096


def test_slices_by_pictures_are_refused() -> None:
    check_slices(TYPES, ["age", "words"])
    with pytest.raises(ConfigError, match=r"one number or text a row\. Received: photo, of type image"):
        check_slices(TYPES, ["photo"])


def test_lists_and_pictures_are_shuffled_whole() -> None:
    random = np.random.default_rng(0)
    lists = random.normal(size=(200, 4)).astype(np.float32)
    files = np.array([bytes([n % 2]) * 3 for n in range(200)], object)
    labels = ((lists.sum(1) > 0) ^ np.array([file[0] == 1 for file in files])).astype(int)

    def predict(columns: Mapping[str, np.ndarray]) -> np.ndarray:
        assert set(columns["files"].tolist()) == {b"\0\0\0", b"\1\1\1"}
        assert sorted(map(tuple, columns["lists"].tolist())) == sorted(map(tuple, lists.tolist()))
        flip = np.array([file[0] == 1 for file in columns["files"]])
        chance = 1 / (1 + np.exp(-columns["lists"].sum(1) * np.where(flip, -1, 1)))
        return np.stack([1 - chance, chance], 1)

    found = permutation_importance(
        predict, {"lists": lists, "files": files}, labels, np.ones(200), "binary", 2, 0
    )
    assert {entry["feature"] for entry in found if entry["drop"] > 0.3} == {"lists", "files"}


def judge(task: Any, labels: np.ndarray, **more: Any) -> Judge:
    classes = {"binary": ("no", "yes"), "multilabel": ("a", "b")}.get(task, ())
    threshold = 0.5 if task == "binary" else None
    return Judge(task, classes, labels, np.ones(len(labels)), (), threshold, None, 1, 0, **more)


def test_the_most_confident_mistakes_come_first(tmp_path: Path) -> None:
    files = write(tmp_path, table(12))
    chance = np.array([0.9, 0.2, 0.99, 0.4, 0.6, 0.1, 0.55, 0.3, 0.3, 0.8, 0.05, 0.45], np.float32)
    found = find_mistakes(
        judge("binary", np.zeros(12, int)), np.stack([1 - chance, chance], 1), files, list(TYPES),
        {"pixels": Pixels(2, 3, 1.0)},
    )  # fmt: skip
    assert found["total"] == 5
    assert [row["row"] for row in found["rows"]] == [2, 0, 9, 4, 6]
    first = found["rows"][0]
    assert (first["label"], first["predicted"]) == ("no", "yes")
    assert (first["score"], first["label_score"]) == pytest.approx((0.99, 0.01))
    assert found["columns"] == {
        "photo": "image", "pixels": "image", "sound": "series", "words": "text", "age": "number"
    }  # fmt: skip
    assert first["values"]["sound"] == [2.0, None, 2.0]
    assert first["values"]["words"].startswith("row 2 long")
    assert len(first["values"]["words"]) == 400
    assert first["values"]["age"] == 2
    assert found["rows"][2]["values"]["sound"] is None
    drawn = Image.open(io.BytesIO(base64.b64decode(found["rows"][1]["values"]["pixels"].split(",")[1])))
    assert (drawn.size, drawn.mode) == ((3, 2), "L")
    thumbnail = Image.open(io.BytesIO(base64.b64decode(first["values"]["photo"].split(",")[1])))
    assert thumbnail.size == (96, 96)


def test_thumbnails_stay_within_their_budget(tmp_path: Path) -> None:
    files = write(tmp_path, [{"photo": picture(n, 400)} for n in range(60)])
    outputs = np.linspace(1, 2, 60).astype(np.float32)
    found = find_mistakes(judge("regression", np.zeros(60)), outputs, files, ["photo"], {})
    sizes = [len(row["values"]["photo"] or "") for row in found["rows"]]
    assert len(sizes) == 24
    assert 0 < sum(sizes) <= 180_000
    assert [row["row"] for row in found["rows"][:2]] == [59, 58]


def test_mistakes_of_labels_are_sets(tmp_path: Path) -> None:
    files = write(tmp_path, table(3))
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    scores = np.array([[0.9, 0.2], [0.3, 0.1], [0.6, 0.7]], np.float32)
    found = find_mistakes(
        judge("multilabel", labels, label_thresholds=(0.5, 0.5)), scores, files, ["age"], {}
    )
    assert [(row["row"], row["label"], row["predicted"]) for row in found["rows"]] == [(1, ["b"], [])]
    assert found["rows"][0]["loss"] == pytest.approx(-np.log(0.1))


def test_a_picture_that_cannot_be_drawn_is_missing(tmp_path: Path) -> None:
    files = write(tmp_path, [{"photo": b"not a picture"}, {"photo": None}])
    found = find_mistakes(judge("regression", np.zeros(2)), np.ones(2, np.float32), files, ["photo"], {})
    assert [row["values"] for row in found["rows"]] == [{"photo": None}, {"photo": None}]


def test_pixels_are_told_by_the_sidecar() -> None:
    place = {"height": 2, "width": 3, "max_value": 255.0}
    sidecar = {
        "outputs": [
            {"op": "picture", "column": "p", "pixels": place},
            {"op": "picture", "column": "f", "pixels": None},
            {"op": "number", "column": "n"},
        ]
    }
    assert pixels_of(sidecar) == {"p": Pixels(2, 3, 255.0)}
