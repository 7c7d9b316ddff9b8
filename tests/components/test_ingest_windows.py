"""Windows over long series, against a loop by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from pydantic import ValidationError

from headrace.components.ingest import run as ingest_run
from headrace.components.ingest import windows as windows_module
from headrace.components.ingest.run import run
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected

from .test_ingest import context

TIMES = pd.date_range("2025-01-01", periods=60).strftime("%Y-%m-%d")
SPLIT = {"column": "day", "eval_from": "2025-02-10", "test_from": "2025-02-20"}
FEATURES = {
    "series": {"kind": "series", "of": ["past_y", "x"], "max_length": 8},
    "s": {"kind": "categorical"},
}


def frame() -> pd.DataFrame:
    """Return three series of 60, 45 and 3 days, in no order, with missing values."""
    rng = np.random.default_rng(5)
    parts = [
        pd.DataFrame({"shop": shop, "day": TIMES[:days], "y": rng.normal(size=days).round(3)})
        for shop, days in (("a", 60), ("b", 45), (None, 3))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["x"] = np.where(rng.random(len(table)) < 0.2, np.nan, rng.integers(0, 9, len(table)))
    table["s"] = rng.choice(["u", "v"], len(table))
    table.loc[[7, 50], "y"] = np.nan
    return table.sample(frac=1, random_state=1)


def by_hand(table: pd.DataFrame, length: int, horizon: int, stride: int) -> dict[str, list[dict]]:
    """Cut windows one by one; return the rows of each split."""
    found: dict[str, list[dict]] = {"train": [], "eval": [], "test": []}
    for _, series in table.groupby("shop", dropna=False):
        rows = series.sort_values("day").to_dict("records")
        for start in range(0, len(rows) - length - horizon + 1, stride):
            last, label = rows[start + length - 1], rows[start + length - 1 + horizon]
            if np.isnan(label["y"]):
                continue
            seen = rows[start : start + length]
            split = "train"
            if label["day"] >= SPLIT["eval_from"]:
                split = "test" if label["day"] >= SPLIT["test_from"] else "eval"
            found[split].append(
                {
                    "past_y": [row["y"] for row in seen],
                    "x": [row["x"] for row in seen],
                    "s": last["s"],
                    "y": label["y"],
                }
            )
    return found


def read_windows(folder: str, split: str) -> list[dict]:
    """Read the examples of a split with TensorFlow."""
    files = sorted(tf.io.gfile.glob(f"{folder}/Split-{split}/*.gz"))
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        row = {name: list(features[name].float_list.value) for name in ("past_y", "x")}
        rows.append(
            {**row, "s": features["s"].bytes_list.value[0].decode(), "y": features["y"].float_list.value[0]}
        )
    return rows


def windowed(tmp_path: Path, table: pd.DataFrame, split: dict = SPLIT, **windows: object):
    """Return the context of an ingest with windows."""
    path = tmp_path / "sales.csv"
    table.to_csv(path, index=False)
    section = {
        "order": "day",
        "columns": {"past_y": "y", "x": "x"},
        "length": 3,
        "group": ["shop"],
        **windows,
    }
    ctx = context(tmp_path, path, features=FEATURES, task="regression", split=split, windows=section)
    ctx.config["evaluation.slices"] = []
    return ctx


def comparable(rows: list[dict]) -> list[tuple]:
    """Sort rows and round to float32, so that NaN equals NaN."""
    texts = [
        (
            str(np.float32(row["past_y"]).tolist()),
            str(np.float32(row["x"]).tolist()),
            row["s"],
            np.float32(row["y"]),
        )
        for row in rows
    ]
    return sorted(texts)


@pytest.mark.parametrize(("length", "horizon", "stride"), [(3, 1, 1), (5, 0, 1), (4, 7, 3), (1, 1, 2)])
@pytest.mark.parametrize("buckets", [1, 7])
def test_windows_equal_a_loop_by_hand(tmp_path, monkeypatch, length, horizon, stride, buckets):
    monkeypatch.setattr(ingest_run, "bucket_count", lambda *_: buckets)
    monkeypatch.setattr(windows_module, "_CHUNK_VALUES", 20)
    ctx = windowed(tmp_path, frame(), length=length, horizon=horizon, stride=stride)
    run(ctx)
    expected = by_hand(frame(), length, horizon, stride)
    for split, rows in expected.items():
        # A window without any number is missing, so that its list is empty.
        for row in rows:
            row["x"] = [] if np.isnan(row["x"]).all() else row["x"]
            row["past_y"] = [] if np.isnan(row["past_y"]).all() else row["past_y"]
        assert comparable(read_windows(ctx.outputs["examples"], split)) == comparable(rows)
    told = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())
    assert told["windows"]["rows"] == 108
    assert told["splits"] == {split: len(rows) for split, rows in expected.items()}
    assert [column["type"] for column in told["columns"]] == ["floats", "floats", "string", "float"]


def test_windows_without_a_label_are_counted(tmp_path):
    ctx = windowed(tmp_path, frame())
    run(ctx)
    told = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())
    # 57 + 42 + 0 windows of 3 rows with a label a row later; the two missing labels end one each.
    assert told["rows"] == 97
    assert told["windows"] == {"rows": 108, "unlabelled": 2}


def test_numbers_order_a_series_as_numbers(tmp_path):
    table = pd.DataFrame({"t": range(120), "y": np.arange(120.0), "x": 1.0, "s": "u"})
    path = tmp_path / "one.csv"
    table.sample(frac=1, random_state=2).to_csv(path, index=False)
    windows = {"order": "t", "columns": {"past_y": "y", "x": "x"}, "length": 2}
    split = {"method": "time", "column": "t", "eval_from": 80, "test_from": 100}
    ctx = context(tmp_path, path, features=FEATURES, task="regression", split=split, windows=windows)
    ctx.config["evaluation.slices"] = []
    run(ctx)
    rows = read_windows(ctx.outputs["examples"], "train")
    assert sorted((row["past_y"], row["y"]) for row in rows) == [([t - 2, t - 1], t) for t in range(2, 80)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"group": []},
            r"rows of a series must differ in 'day'\. Received: '2025-01-01' twice \(row \d+ of .*, and",
        ),
        (
            {"length": 60},
            r"at least 61 rows .*windows of 60 and a horizon of 1\. Received: none among 108 rows",
        ),
    ],
)
def test_series_that_cannot_be_cut(tmp_path, change, message):
    ctx = windowed(tmp_path, frame(), **change)
    with pytest.raises(DataRejected, match=message):
        run(ctx)


def test_order_must_be_numbers_or_dates(tmp_path):
    table = frame()
    table["day"] = table["day"].str.replace("2025", "of 2025")
    ctx = windowed(tmp_path, table)
    ctx.config["data"]["split"] = {"method": "column", "column": "s", "train": ["u"], "eval": ["v"]}
    with pytest.raises(
        DataRejected, match=r"numbers, or ISO 8601 dates.*Received: 'of 2025-\d\d-\d\d' in column 'day'"
    ):
        run(ctx)


def test_order_must_not_be_missing(tmp_path):
    table = frame().reset_index(drop=True)
    table.loc[4, "day"] = None
    with pytest.raises(
        DataRejected, match=r"its place in the order\. Received: no value of 'day' \(row 5, line 6"
    ):
        run(windowed(tmp_path, table))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"columns": {"past_y": "z", "x": "x"}}, r"no column 'z' \(data\.windows\.columns"),
        ({"order": "when"}, r"no column 'when' \(data\.windows\.order"),
        ({"group": ["shops"]}, r"no column 'shops' \(data\.windows\.group"),
        (
            {"columns": {"past_y": "y", "x": "x", "s": "s"}},
            r"kind series\. Received: column 's' read as string",
        ),
        (
            {"columns": {"past_y": "s", "x": "x"}},
            r"windows must be made of numbers\. Received: column 's' read as str",
        ),
        ({"columns": {"past_y": "y"}}, r"every series must be one of its columns\. Received: 'x'"),
    ],
)
def test_columns_of_windows_are_checked_first(tmp_path, windows, message):
    with pytest.raises(ConfigError, match=message):
        run(windowed(tmp_path, frame(), **windows))


@pytest.mark.parametrize("split", [{}, {"key": ["day"]}, {"key": ["shop", "day"]}])
def test_windows_are_not_dealt_out_at_random(split):
    windows = {"order": "day", "columns": ["x"], "length": 3, "group": ["shop"]}
    with pytest.raises(
        ValidationError, match=r"by time, by a column, or by a hash of columns in `windows\.group`"
    ):
        DataConfig(path="x.csv", label="y", windows=windows, split={"method": "hash", **split})
    DataConfig(path="x.csv", label="y", windows=windows, split={"method": "hash", "key": ["shop"]})


def test_windows_of_one_series_are_not_spread():
    windows = {"order": "day", "columns": ["x"], "length": 3, "group": ["shop"]}
    with pytest.raises(ValidationError, match=r"must have `equal_keys: together`.* Received: spread"):
        DataConfig(path="x.csv", label="y", windows=windows, split={"key": ["shop"], "equal_keys": "spread"})


@pytest.mark.parametrize("shops", [20, 60])  # under and over a thousand windows
def test_a_hash_keeps_whole_series_together(tmp_path, shops):
    rng = np.random.default_rng(3)
    days = 30
    table = pd.DataFrame(
        {
            "shop": np.repeat([f"s{n}" for n in range(shops)], days),
            "day": np.tile(TIMES[:days], shops),
            "y": rng.normal(size=shops * days),
            "x": rng.normal(size=shops * days),
        }
    )
    table["s"] = table["shop"]
    result = windowed(tmp_path, table, split={"method": "hash", "key": ["shop"]}, length=4, horizon=1)
    run(result)
    rows = {split: read_windows(result.outputs["examples"], split) for split in ("train", "eval", "test")}
    held = {split: {row["s"] for row in found} for split, found in rows.items()}
    assert sum(map(len, held.values())) == len(set.union(*held.values())) == shops
    assert sum(map(len, rows.values())) == shops * (days - 4)
    if shops == 20:
        assert {split: len(found) for split, found in held.items()} == {"train": 16, "eval": 2, "test": 2}
