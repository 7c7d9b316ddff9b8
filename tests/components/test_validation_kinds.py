"""Statistics, schema, anomalies, skew and the gate of pictures for lists and pictures."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from headrace.components.gates import verdict
from headrace.components.gates.state import read_gates
from headrace.components.ingest.run import run as ingest
from headrace.components.node import NodeContext
from headrace.components.validation import anomalies, schema, statistics
from headrace.components.validation.anomalies import judge_pictures
from headrace.components.validation.schema_file import curation_hash, parse_schema
from headrace.data.errors import DataRejected

FEATURES = [("image", "image"), ("ragged", "series"), ("fixed", "series")]
ROWS = 300


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 5 + number % 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def table(seed: int, **columns: Any) -> dict[str, list[Any]]:
    """Return pictures, ragged lists with steps that are missing, lists of five, and many labels."""
    rng = np.random.default_rng(seed)
    ragged = [rng.normal(size=1 + index % 4).tolist() for index in range(ROWS)]
    ragged[5][0] = None
    return {
        "image": [None if index % 20 == 0 else picture(index) for index in range(ROWS)],
        "ragged": [None if index % 10 == 3 else steps for index, steps in enumerate(ragged)],
        "fixed": rng.integers(0, 256, (ROWS, 5)).tolist(),
        "y": ["a|b", "b", None] * (ROWS // 3),
        **columns,
    }


class Room:
    """Runs ingest and the validation nodes on a Parquet file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, name: str, columns: dict[str, list[Any]], **data: Any) -> Path:
        base = self.root / name
        (base / "examples").mkdir(parents=True)
        pq.write_table(pa.table(columns), base / "rows.parquet")
        path = str(self.root / "rows.schema.pbtxt")
        section = {"path": str(base / "rows.parquet"), "label": "y", "task": "multilabel", **data}
        config = {
            "data": section,
            "usages": FEATURES,
            "evaluation.slices": [],
            "seed": 1,
            "data.label": "y",
            "data.weight": None,
            "validation.schema_path": path,
            "validation.schema_sha256": curation_hash(path),
            "validation.max_skew": 0.9,
            "validation.skew_is_error": False,
        }
        for function, inputs, outputs in (
            (ingest, (), ("examples",)),
            (statistics.run, ("examples",), ("statistics",)),
            (schema.run, ("statistics",), ("schema",)),
            (anomalies.run, ("examples", "statistics", "schema"), ("anomalies", "gates")),
        ):
            given = {name: [str(base / name)] for name in inputs}
            function(
                NodeContext("n", "r", given, {o: str(base / o) for o in outputs}, config, str(base / "t"))
            )
        return base


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    room = Room(tmp_path_factory.mktemp("kinds"))
    room.run("first", table(0))
    return room


def stats_of(base: Path, split: str) -> dict[str, Any]:
    content = (base / f"statistics/Split-{split}/FeatureStats.pb").read_bytes()
    (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets
    return {feature.path.step[0]: feature for feature in dataset.features}


def test_statistics_of_pictures_are_their_sizes_alone(room):
    base = room.root / "first"
    sizes = [len(content) for content in table(0)["image"] if content]
    found = [stats_of(base, split)["image"] for split in ("train", "eval", "test")]
    assert sum(feature.bytes_stats.common_stats.num_non_missing for feature in found) == len(sizes)
    assert max(feature.bytes_stats.max_num_bytes for feature in found) == max(sizes)
    # The bytes themselves are in no part of the statistics.
    text = b"".join((base / f"statistics/Split-{s}/FeatureStats.pb").read_bytes() for s in ("train", "eval"))
    assert b"IHDR" not in text


def test_statistics_of_lists_are_of_all_steps(room):
    base = room.root / "first"
    found = [stats_of(base, split)["fixed"].num_stats for split in ("train", "eval", "test")]
    values = np.array(table(0)["fixed"])
    assert sum(stats.common_stats.tot_num_values for stats in found) == values.size
    assert max(stats.max for stats in found) == values.max()
    total = sum(stats.mean * stats.common_stats.tot_num_values for stats in found)
    assert total == pytest.approx(values.sum())


def test_schema_knows_lists_and_pictures(room):
    text = (room.root / "first/schema/schema.pbtxt").read_text()
    found = {feature.name: feature for feature in parse_schema(text, "x").feature}
    assert found["image"].type == schema_pb2.BYTES
    assert found["image"].HasField("image_domain")
    assert (found["image"].value_count.min, found["image"].value_count.max) == (1, 1)
    assert (found["fixed"].value_count.min, found["fixed"].value_count.max) == (5, 5)
    assert found["ragged"].value_count.min == 1
    assert found["ragged"].value_count.max == 0  # no upper end
    assert found["ragged"].float_domain.disallow_inf
    assert not found["ragged"].float_domain.disallow_nan
    # Sets of labels are no categories, and a row may have none.
    assert not found["y"].domain
    assert found["y"].presence.min_fraction < 0.67


def test_skew_leaves_pictures_out(room):
    skew = json.loads((room.root / "first/gates/skew.json").read_text())
    assert {entry["feature"] for entry in skew} == {"ragged", "fixed", "y"}
    assert all(0 <= entry["value"] <= 1 for entry in skew)


def test_like_data_keeps_the_schema(room):
    longer = table(7)
    longer["ragged"][0] = [1.0] * 40
    base = room.run("like", longer)
    gates = read_gates(base / "gates/gates.json")
    assert [(gate.metric, gate.state) for gate in gates] == [
        ("anomalies", "PASS"), ("anomalies", "PASS"), ("anomalies", "PASS"),
        ("corrupt_share", "PASS"), ("rows", "WARN"), ("skew", "PASS"), ("skew", "PASS"),
    ]  # fmt: skip


def test_lists_of_another_length_break_the_schema(room):
    other = table(8)
    other["fixed"] = [[*steps, 1] for steps in other["fixed"]]
    base = room.run("longer", other)
    found = json.loads((base / "gates/anomalies.json").read_text())
    errors = [
        (row["feature"], row["rule"], row["expected"], row["found"])
        for row in found
        if row["split"] == "train"
    ]
    assert errors == [("fixed", "values in a row", "5", "6")]


def test_shares_of_corrupt_pictures_are_bounded(room):
    other = table(9)
    for index in (1, 2, 4):
        other["image"][index] = b"\x89PNG\r\n\x1a\n"
    for name, most, state in (("few", 0.02, "PASS"), ("many", 0.005, "FAIL")):
        base = room.run(name, other, max_corrupt_share=most)
        (gate,) = [g for g in read_gates(base / "gates/gates.json") if g.metric == "corrupt_share"]
        assert (gate.state, gate.bound.value) == (state, most)
        assert gate.value == pytest.approx(3 / 300)
        assert "3 of 300 rows were left out, 1.00%" in gate.reason
        assert "image in row 2 of" in gate.reason
    judged = NodeContext("data_verdict", "r", {"gates": [str(base / "gates")]}, {}, {}, str(base))
    with pytest.raises(DataRejected) as caught:
        verdict.data(judged)
    assert "data.max_corrupt_share" in str(caught.value.hint)


def test_at_most_ten_pictures_are_named():
    told = {
        "columns": [{"name": "i", "type": "image"}], "rows": 88, "corrupt_rows": 12,
        "corrupt": [{"path": f"{index}.png", "reason": "cut"} for index in range(12)],
    }  # fmt: skip
    (gate,) = judge_pictures(told, 0.5)
    assert "9.png (cut) and 2 more; at most 50.00% is allowed" in gate.reason
    assert judge_pictures({"columns": [{"name": "i", "type": "int"}], "rows": 1}, 0.5) == []


def test_batches_are_bounded_by_bytes(tmp_path, monkeypatch):
    import tensorflow as tf

    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(40):
            image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(1000)]))
            number = tf.train.Feature(int64_list=tf.train.Int64List(value=[index]))
            features = tf.train.Features(feature={"i": image, "n": number})
            writer.write(tf.train.Example(features=features).SerializeToString())
    monkeypatch.setattr(statistics, "_STEP_ROWS", 2)
    monkeypatch.setattr(statistics, "_BATCH_BYTES", 5000)
    batches = list(statistics.read_record_batches([path]))
    assert [batch.num_rows for batch in batches] == [6] * 6 + [4]
    numbers = [value[0] for batch in batches for value in batch.column(1).to_pylist()]
    assert numbers == list(range(40))
