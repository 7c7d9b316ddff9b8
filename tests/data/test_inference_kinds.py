"""A config from pictures, lists, wide rows of numbers and texts."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from headrace.components.features.columns import column_usages
from headrace.data import inference
from headrace.data.columns import plan_columns
from headrace.data.errors import ConfigError
from headrace.data.inference import infer_config
from headrace.data.source import check_source
from headrace.pipeline.config import parse_config

RNG = np.random.default_rng(1)


def infer(path, label="y"):
    """Infer a config and hold it to its data."""
    text = infer_config(str(path), label)
    raw = yaml.safe_load(text)
    config = parse_config(raw)
    check_source(
        config.data, plan_columns(config.data, column_usages(config.features), config.evaluation.slices)
    )
    return raw, text


def picture(width=8, height=6, mode="RGB", kind="PNG"):
    buffer = io.BytesIO()
    pixels = RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("RGB", (8, 6), {"height": 6, "width": 8, "channels": 3}),
        ("L", (300, 200), {"height": 64, "width": 96, "channels": 1}),
    ],
)
def test_a_folder_of_class_folders(tmp_path, mode, size, expected):
    for name in ("7", "12", "25"):
        (tmp_path / name).mkdir()
        for index in range(4):
            (tmp_path / name / f"{index}.png").write_bytes(picture(*size, mode=mode))
    raw, text = infer(tmp_path, "number")
    assert raw["data"]["format"] == "images"
    assert raw["data"]["task"] == "multiclass"
    assert raw["features"] == {"image": {"kind": "image", **expected}}
    assert raw["model"]["family"] == "cnn"
    assert "12 pictures, 3 classes" in text
    with pytest.raises(ConfigError, match=r"needs a name of its own\. Received: 'path'"):
        infer_config(str(tmp_path), "path")


@pytest.mark.parametrize(
    ("broken", "allowed", "words"),
    [
        (0, 0.01, ()),
        (
            3,
            0.05,
            ("3 of 100 pictures", "a/0.png", "(not a JPEG or PNG file)", "`data.max_corrupt_share: 0.05`"),
        ),
        (20, 0.01, ("20 of 100 pictures", "and 17 more", "the data gate will close")),
    ],
)
def test_corrupt_pictures_are_listed_and_a_few_are_allowed(tmp_path, broken, allowed, words):
    for index in range(100):
        path = tmp_path / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"junk" if index < broken else picture())
    found = inference.infer(str(tmp_path), "kind")
    config = parse_config(yaml.safe_load(found.text))
    assert config.data.max_corrupt_share == allowed
    assert all(word in "".join(found.notes) for word in words)
    assert len(found.notes) == (1 if broken else 0)
    # Of 20 test rows 14.5 are right by luck in one of forty tries: 0.5 + 2 * sqrt(0.25 / 20).
    assert config.gates.quality[-1].min == pytest.approx(0.724, abs=1e-9)
    assert config.training.learning_rate == 0.001
    # On 60 pictures of shapes the family's own defaults (2.7 million weights) got 49 % of 300 others right,
    # this for 99 %.
    assert (config.model.family, config.model.global_pool) == ("cnn", "average")


def test_pictures_named_in_text_and_held_in_parquet(tmp_path):
    contents = [picture() for _ in range(60)]
    for index, content in enumerate(contents):
        (tmp_path / f"{index}.png").write_bytes(content)
    labels = ["u", "v"] * 30
    pd.DataFrame({"file": [f"{i}.png" for i in range(60)], "y": labels}).to_csv(
        tmp_path / "a.csv", index=False
    )
    pq.write_table(pa.table({"file": contents, "y": labels}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        raw, _ = infer(tmp_path / name)
        assert raw["features"] == {"file": {"kind": "image", "height": 6, "width": 8, "channels": 3}}


def test_list_columns_are_channels_where_their_lengths_agree(tmp_path):
    lengths = RNG.integers(1, 9, 80)
    columns = {name: [RNG.normal(size=n).tolist() for n in lengths] for name in ("a", "b")}
    columns["c"] = [RNG.normal(size=700).tolist()] * 80
    columns["y"] = ["u", "v"] * 40
    pq.write_table(pa.table({name: columns[name] for name in ("a", "b", "y")}), tmp_path / "two.parquet")
    raw, text = infer(tmp_path / "two.parquet")
    assert raw["features"] == {
        "series": {"kind": "series", "of": ["a", "b"], "max_length": int(lengths.max())}
    }
    assert f"2 channels, {lengths.min()} to {lengths.max()} steps" in text
    assert raw["model"]["family"] == "conv1d"
    pq.write_table(pa.table(columns), tmp_path / "three.parquet")
    raw, text = infer(tmp_path / "three.parquet")
    assert list(raw["features"]) == ["a", "b", "c"]
    assert raw["features"]["c"]["max_length"] == 512
    assert "700 steps; the last 512 are kept" in text


@pytest.mark.parametrize(
    ("values", "pattern", "feature"),
    [
        (RNG.integers(0, 17, (90, 64)), "{0..63}", {"height": 8, "width": 8, "channels": 1, "max_value": 16}),
        (RNG.integers(0, 256, (90, 192)), "{001..192}", {"height": 8, "width": 8, "channels": 3}),
        (RNG.normal(size=(90, 70)), "{1..70}", {"max_length": 70}),
    ],
)
def test_wide_rows_of_numbers(tmp_path, values, pattern, feature):
    first, last = pattern.strip("{}").split("..")
    names = [f"px_{index:0{len(first)}d}" for index in range(int(first), int(last) + 1)]
    table = pd.DataFrame(values, columns=names)
    table["y"] = ["u", "v"] * 45
    table.to_csv(tmp_path / "wide.csv", index=False)
    raw, _ = infer(tmp_path / "wide.csv")
    assert raw["data"]["pack"] == {"px": f"px_{pattern}"}
    kind = "series" if "max_length" in feature else "image"
    assert raw["features"] == {"px": {"kind": kind, **feature}}


def test_many_measures_of_different_scale_are_no_series(tmp_path):
    scales = 10.0 ** np.arange(64)[::-1] / 1e30
    table = pd.DataFrame(RNG.normal(size=(90, 64)) * scales, columns=[f"f{i}" for i in range(64)])
    table["y"] = ["u", "v"] * 45
    table.to_csv(tmp_path / "wide.csv", index=False)
    raw, _ = infer(tmp_path / "wide.csv")
    assert "pack" not in raw["data"]
    assert raw["features"]["f0"]["kind"] == "numeric"


def test_texts_in_latin_1(tmp_path):
    words = np.array(["café", "soirée", "the", "weather", "was", "fine", "today", "again", "and", "warm"])
    texts = [" ".join(RNG.choice(words, 12)) for _ in range(200)]
    table = pd.DataFrame({"comment": texts, "y": RNG.choice(["good", "bad"], 200)})
    table.to_csv(tmp_path / "a.csv", index=False, encoding="latin-1")
    raw, text = infer(tmp_path / "a.csv")
    assert raw["data"]["csv"] == {"encoding": "latin-1"}
    assert raw["features"]["comment"] == {
        "kind": "text",
        "ngrams": [1, 2],
        "output": "tfidf",
        "max_length": 64,
    }
    assert "12 words on average" in text


def test_tfrecords(tmp_path):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))

    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for index in range(80):
            row = {
                "x": [index / 7],
                "s": [1.0] * (1 + index % 3),
                "p": picture(),
                "y": b"uv"[index % 2 :][:1],
            }
            features = tf.train.Features(feature={name: feature(value) for name, value in row.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    raw, _ = infer(tmp_path / "a.tfrecord")
    assert {name: feature["kind"] for name, feature in raw["features"].items()} == {
        "s": "series", "p": "image", "x": "numeric",
    }  # fmt: skip


def test_a_column_that_tells_the_split(tmp_path):
    table = pd.DataFrame(
        {"x": np.sin(np.arange(90)), "part": ["Train", "dev", "test"] * 30, "y": ["u", "v"] * 45}
    )
    table.to_csv(tmp_path / "a.csv", index=False)
    raw, text = infer(tmp_path / "a.csv")
    assert raw["data"]["split"] == {
        "method": "column", "column": "part", "train": ["Train"], "eval": ["dev"], "test": ["test"],
    }  # fmt: skip
    assert list(raw["features"]) == ["x"]
    assert "part: tells the split" in text


def test_a_list_is_no_label(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [[1.0], [2.0]]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"one value a row\. Received: column 'y' with several"):
        infer_config(str(tmp_path / "a.parquet"), "y")
