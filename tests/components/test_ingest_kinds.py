"""Lists of numbers, many labels, TFRecords and dated files through ingest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from headrace.components.ingest.run import run
from headrace.data.columns import plan_columns
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected
from headrace.data.hashing import hash_values
from headrace.data.readers.values import FLOATS
from headrace.data.source import check_source

from .test_ingest import context

ROWS = 400
SERIES = {"s": {"kind": "series", "of": ["a"], "max_length": 4}}


def ingest(tmp_path, path, **data):
    features = data.pop("features", SERIES)
    ctx = context(tmp_path, path, features=features, **{"split": {"method": "hash"}, **data})
    ctx.config["evaluation.slices"] = []
    run(ctx)
    told = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())
    return ctx.outputs["examples"], told


def read_all(folder: str) -> list[dict]:
    rows = []
    for path in sorted(tf.io.gfile.glob(f"{folder}/Split-*/*.gz")):
        for record in tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator():
            row = {}
            # A map has no order: sorted, rows that are equal look the same.
            for name, feature in sorted(tf.train.Example.FromString(record).features.feature.items()):
                kind = feature.WhichOneof("kind")
                row[name] = list(getattr(feature, kind).value) if kind else None
            rows.append(row)
    return rows


def lists(seed: int = 0) -> list[list[float | None] | None]:
    """Return lists of 0 to 8 numbers; some are null, some steps are."""
    rng = np.random.default_rng(seed)
    found: list[list[float | None] | None] = []
    for index in range(ROWS):
        steps: list[float | None] = [float(np.float32(x)) for x in rng.normal(size=rng.integers(0, 9))]
        if index % 7 == 0 and steps:
            steps[-1] = None
        found.append(None if index % 11 == 0 else steps)
    return found


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.list_(pa.float32()), lists()),
        (pa.large_list(pa.float64()), lists()),
        (pa.list_(pa.int16()), [None if x is None else [i for i, _ in enumerate(x)] for x in lists()]),
        (pa.list_(pa.float64(), 3), [[i, i / 2, None] for i in range(ROWS)]),
        (pa.list_(pa.bool_()), [[bit == "1" for bit in f"{i:b}"] for i in range(ROWS)]),
    ],
)
def test_lists_of_every_arrow_type(tmp_path, kind, values):
    table = pa.table({"a": pa.array(values, kind), "y": [str(i % 2) for i in range(ROWS)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=90)
    folder, told = ingest(tmp_path, tmp_path / "a.parquet")
    found = [row["a"] for row in read_all(folder)]
    # NaN is not equal to itself, but its text is.
    expected = [[np.nan if step is None else float(step) for step in row] if row else None for row in values]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    missing = sum(1 for row in values if not row)
    assert sum(told["columns"][0]["missing"].values()) == missing
    assert told["columns"][0]["type"] == "floats"


def test_infinite_steps_are_rejected_with_their_place(tmp_path):
    pq.write_table(pa.table({"a": [[1.0], [2.0, float("inf")]], "y": ["u", "v"]}), tmp_path / "a.parquet")
    with pytest.raises(
        DataRejected, match=r"finite in 32 bits\. Received: inf in column 'a', step 2 \(row 2 of"
    ):
        ingest(tmp_path, tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("column", "usage", "hint"),
    [(["x"], "series", ""), ([[1.0]], "number", "kind series"), ([["x"]], "series", "")],
)
def test_parquet_types_that_do_not_fit(tmp_path, column, usage, hint):
    pq.write_table(pa.table({"a": column, "y": ["u"]}), tmp_path / "a.parquet")
    data = DataConfig(path=str(tmp_path / "a.parquet"), label="y")
    with pytest.raises(
        ConfigError, match=r"column 'a' is read as floats?\. Received: Parquet type"
    ) as caught:
        check_source(data, plan_columns(data, [("a", usage)]))
    assert hint in caught.value.hint


def test_hashes_of_lists_tell_values_order_and_length_apart():
    nan = float("nan")
    values = [
        [1, 2],
        [2, 1],
        [1],
        [1, 2, 0],
        [0, 1, 2],
        None,
        [nan, 1],
        [0.0],
        [-0.0],
        [1, 2],
        [1, nan],
        [1.0],
    ]
    hashes = hash_values(pa.array(values, FLOATS))
    assert len(set(hashes.tolist())) == 9
    assert hashes[0] == hashes[9]
    assert hashes[7] == hashes[8]
    assert hashes[2] == hashes[11] == hash_values(pa.array([1]))[0]  # as tf.Example holds a number
    assert (
        hashes[5] == hash_values(pa.array([[]], FLOATS))[0] == hash_values(pa.array([[nan]], FLOATS))[0] == 0
    )
    np.testing.assert_array_equal(hashes, [hash_values(pa.array([value], FLOATS))[0] for value in values])
    np.testing.assert_array_equal(hashes[3:7], hash_values(pa.array(values, FLOATS).slice(3, 4)))


def test_many_labels_are_counted_singly(tmp_path):
    texts = ["drama|crime", "crime", "", "comedy|crime|comedy", "drama||comedy"] * 80
    pd.DataFrame({"n": range(400), "y": texts}).to_csv(tmp_path / "films.csv", index=False)
    features = {"n": {"kind": "numeric"}}
    folder, told = ingest(tmp_path, tmp_path / "films.csv", features=features, task="multilabel")
    assert told["label"]["classes"] == ["comedy", "crime", "drama"]
    found: dict[str, dict[str, int]] = {}
    for split in ("train", "eval", "test"):
        files = tf.io.gfile.glob(f"{folder}/Split-{split}/*.gz")
        records = tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
        labels = [
            tf.train.Example.FromString(record).features.feature["y"].bytes_list.value for record in records
        ]
        sets = [set(label[0].decode().split("|")) if label else set() for label in labels]
        found[split] = {name: sum(name in one for one in sets) for name in ("comedy", "crime", "drama")}
    assert told["label"]["counts"] == found
    assert sum(found[split]["crime"] for split in found) == 240


def test_declared_labels_are_the_only_ones(tmp_path):
    pd.DataFrame({"n": range(9), "y": ["a;b", "b", "c;a"] * 3}).to_csv(tmp_path / "x.csv", index=False)
    data = {"features": {"n": {"kind": "numeric"}}, "task": "multilabel", "label_separator": ";"}
    with pytest.raises(DataRejected, match=r"must hold only 'a', 'b' .*Received: 'c;a' \(row 3, line 4 of"):
        ingest(tmp_path, tmp_path / "x.csv", classes=["a", "b"], **data)


def test_lists_of_labels_in_parquet(tmp_path):
    pq.write_table(pa.table({"n": range(300), "y": [["a", "b"], ["b"], []] * 100}), tmp_path / "x.parquet")
    features = {"n": {"kind": "numeric"}}
    folder, told = ingest(tmp_path, tmp_path / "x.parquet", features=features, task="multilabel")
    assert told["label"]["classes"] == ["a", "b"]
    assert sorted(str(row["y"]) for row in read_all(folder)) == sorted(["[b'a|b']", "[b'b']", "None"] * 100)


def test_tfrecords_of_an_earlier_ingest_give_the_same_rows(tmp_path):
    table = pa.table({"a": pa.array(lists(), pa.list_(pa.float32())), "y": [str(i % 2) for i in range(ROWS)]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, told = ingest(tmp_path, tmp_path / "a.parquet")
    again, retold = ingest(tmp_path, f"{first}/Split-*/*.gz", format="tfrecord")
    assert sorted(map(str, read_all(again))) == sorted(map(str, read_all(first)))
    # Rows are dealt out by their own values, whatever files they come from.
    assert retold["splits"] == told["splits"]
    assert len(retold["files"]) == 12
