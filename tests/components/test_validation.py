import gzip
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from headrace.components.gates import verdict
from headrace.components.gates.state import read_gates
from headrace.components.node import NodeContext, NodeResult
from headrace.components.validation import anomalies, schema, statistics
from headrace.components.validation.schema_file import curation_hash, read_origin
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected

DATA = {"path": "flights.csv", "label": "late", "task": "binary"}
CARRIERS = ["AA", "B6", "DL", "UA"]
Row = dict[str, Any]


def make_rows(count: int, seed: int, **overrides: Any) -> list[Row]:
    """Rows with one column of each type, 10 % missing in `tail`; overrides replace a column's value."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        row: Row = {
            "carrier": rng.choice(CARRIERS),
            "month": rng.randint(1, 12),
            "distance": rng.uniform(100, 2000),
            "tail": f"N{rng.randint(0, 10**6)}" if number % 10 else None,
            "day": f"2013-{rng.randint(1, 12):02}-{rng.randint(1, 5):02}",
            "late": rng.choice(["0", "1"]),
        }
        rows.append({**row, **{k: v(number) if callable(v) else v for k, v in overrides.items()}})
    return rows


def write_split(folder: Path, rows: list[Row], shards: int = 2) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard in range(shards):
        path = folder / f"data_tfrecord-{shard:05}-of-{shards:05}.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in rows[shard::shards]:
                writer.write(encode(row))
        paths.append(path)
    return paths


def encode(row: Row) -> bytes:
    features = {}
    for name, value in row.items():
        if isinstance(value, str):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        elif isinstance(value, int):
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        elif value is not None:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        else:
            continue
        features[name] = feature
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


class Room:
    """Runs the three validation nodes on folders, as the pipeline does."""

    def __init__(self, root: Path, schema_path: Path | None = None) -> None:
        self.root = root
        self.schema_path = schema_path

    def run(
        self, splits: Mapping[str, list[Row]], name: str = "run", **config: Any
    ) -> tuple[dict[str, NodeResult], Path]:
        base = self.root / name
        for split, rows in splits.items():
            write_split(base / "examples" / f"Split-{split}", rows)
        columns = [{"name": key} for key in next(iter(splits.values()))[0]]
        (base / "examples/ingest.json").write_text(
            json.dumps({"columns": columns, "splits": {split: len(rows) for split, rows in splits.items()}})
        )
        path = None if self.schema_path is None else str(self.schema_path)
        given = {
            "data": DATA,
            "data.label": "late",
            "data.weight": None,
            "validation.schema_path": path,
            "validation.schema_sha256": None if path is None else curation_hash(path),
            "validation.max_skew": 0.2,
            "validation.skew_is_error": False,
            **config,
        }
        results = {}
        for node, function, inputs, outputs in (
            ("statistics", statistics.run, ("examples",), ("statistics",)),
            ("schema", schema.run, ("statistics",), ("schema",)),
            ("validation", anomalies.run, ("examples", "statistics", "schema"), ("anomalies", "gates")),
        ):
            ctx = NodeContext(
                node,
                "r",
                {i: [str(base / i)] for i in inputs},
                {o: str(base / o) for o in outputs},
                given,
                str(base),
            )
            results[node] = function(ctx)
        return results, base

    def verdict(self, base: Path) -> NodeResult:
        ctx = NodeContext("data_verdict", "r", {"gates": [str(base / "gates")]}, {}, {}, str(base))
        return verdict.data(ctx)


def usual(seed: int = 0, **overrides: Any) -> dict[str, list[Row]]:
    return {
        "train": make_rows(600, seed, **overrides),
        "eval": make_rows(200, seed + 1, **overrides),
        "test": make_rows(200, seed + 2, **overrides),
    }


def feature_stats(message: Any, name: str) -> Any:
    return next(f for f in message.datasets[0].features if list(f.path.step) == [name])


def rows_of(base: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((base / "gates/anomalies.json").read_text())
    return found


# --- statistics


def test_statistics_agree_with_stock_tfdv(tmp_path: Path) -> None:
    rows = make_rows(3000, 7)
    paths = write_split(tmp_path / "Split-train", rows, shards=3)
    # Batches far smaller than the data, so that accumulators are merged and compacted on the way.
    ours = statistics.compute_statistics(statistics.read_record_batches(paths, batch_rows=128))
    stock = tfdv.generate_statistics_from_tfrecord(
        str(tmp_path / "Split-train" / "*.gz"),
        pipeline_options=_fn_api_runner(),
    )
    (mine,), (theirs,) = ours.datasets, stock.datasets
    assert mine.num_examples == theirs.num_examples == 3000
    assert {tuple(f.path.step) for f in mine.features} == {tuple(f.path.step) for f in theirs.features}
    for name in rows[0]:
        a, b = feature_stats(ours, name), feature_stats(stock, name)
        assert a.type == b.type
        kind = a.WhichOneof("stats")
        assert kind == b.WhichOneof("stats")
        a, b = getattr(a, kind), getattr(b, kind)
        assert a.common_stats.num_non_missing == b.common_stats.num_non_missing
        assert a.common_stats.num_missing == b.common_stats.num_missing
        assert a.common_stats.min_num_values == b.common_stats.min_num_values
        if kind == "num_stats":
            for field in ("mean", "std_dev", "min", "max", "num_zeros"):
                assert getattr(a, field) == pytest.approx(getattr(b, field), rel=1e-9)
            # TFDV's quantile sketch promises ranks within 1 %; both estimates may be off.
            values = np.sort([row[name] for row in rows])
            assert np.searchsorted(values, a.median) / 3000 == pytest.approx(
                0.5, abs=0.1 if name == "month" else 0.01
            )
            spread = float(values[-1] - values[0])
            assert a.median == pytest.approx(b.median, abs=0.02 * spread)
        else:
            assert a.unique == b.unique == len({row[name] for row in rows} - {None})
            assert [(v.value, v.frequency) for v in a.top_values] == [
                (v.value, v.frequency) for v in b.top_values
            ]


def _fn_api_runner() -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"])


def test_the_statistics_node_writes_stock_files(tmp_path: Path) -> None:
    results, base = Room(tmp_path).run(usual())
    assert results["statistics"].finding == "6 columns; rows: eval 200, test 200, train 600"
    for split, count in (("train", 600), ("eval", 200), ("test", 200)):
        message = tfdv.load_stats_binary(str(base / f"statistics/Split-{split}/FeatureStats.pb"))
        assert message.datasets[0].num_examples == count
        assert feature_stats(message, "tail").string_stats.common_stats.num_missing == count // 10


def test_statistics_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    _, first = Room(tmp_path).run(usual(), "a")
    _, second = Room(tmp_path).run(usual(), "b")
    path = "statistics/Split-train/FeatureStats.pb"
    assert (first / path).read_bytes() == (second / path).read_bytes()


def test_weighted_statistics(tmp_path: Path) -> None:
    paths = write_split(
        tmp_path, make_rows(100, 0, w=lambda i: 2.0 if i < 50 else 0.0, month=lambda i: int(i < 50))
    )
    message = statistics.compute_statistics(statistics.read_record_batches(paths), "w")
    stats = feature_stats(message, "month").num_stats
    assert stats.mean == pytest.approx(0.5)
    assert stats.weighted_numeric_stats.mean == pytest.approx(1.0)


def test_an_empty_split_has_empty_statistics() -> None:
    message = statistics.compute_statistics([])
    assert message.datasets[0].num_examples == 0
    assert isinstance(message, statistics_pb2.DatasetFeatureStatisticsList)


@pytest.mark.parametrize("damage", ["flipped", "not gzip", "not an example"])
def test_a_damaged_shard_is_rejected_by_name(tmp_path: Path, damage: str) -> None:
    good, bad = write_split(tmp_path, make_rows(200, 0))
    content = bad.read_bytes()
    if damage == "flipped":
        plain = bytearray(gzip.decompress(content))
        plain[40] ^= 255
        bad.write_bytes(gzip.compress(bytes(plain)))
    elif damage == "not gzip":
        bad.write_bytes(b"plain text, and long enough to be read as a header of a record")
    else:
        with tf.io.TFRecordWriter(str(bad), "GZIP") as writer:
            writer.write(b"\xff\xff not a proto")
    with pytest.raises(DataRejected, match=rf"must be whole TFRecord files.*{re.escape(bad.name)}"):
        list(statistics.read_record_batches([good, bad]))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.9])
def test_a_shard_cut_short_is_rejected(tmp_path: Path, kept: float) -> None:
    room = Room(tmp_path)
    _, base = room.run(usual())
    shard = base / "examples/Split-eval/data_tfrecord-00000-of-00002.gz"
    content = shard.read_bytes()
    # Where the cut falls between two records TensorFlow sees no damage; the count of rows does.
    shard.write_bytes(content[: int(kept * len(content))])
    ctx = NodeContext(
        "statistics", "r", {"examples": [str(base / "examples")]}, {"statistics": str(base / "again")}, {}, ""
    )
    with pytest.raises(
        DataRejected, match=r"must be whole TFRecord files|must hold every row.*: 200\. Received: 1"
    ):
        statistics.run(ctx)


# --- schema


def infer(tmp_path: Path, splits: Mapping[str, list[Row]], **data: Any) -> dict[str, Any]:
    """Return the inferred schema's features by name, with domains resolved under `.values`."""
    found = {
        split: statistics.compute_statistics(
            statistics.read_record_batches(write_split(tmp_path / split, rows))
        )
        for split, rows in splits.items()
    }
    message = schema.infer_schema(found, DataConfig.model_validate({**DATA, **data}))
    domains = {d.name: list(d.value) for d in message.string_domain}
    return {f.name: (f, domains.get(f.domain)) for f in message.feature}


def test_the_inferred_schema_is_fit_for_gates(tmp_path: Path) -> None:
    found = infer(tmp_path, usual())
    carrier, values = found["carrier"]
    assert values == CARRIERS
    assert carrier.distribution_constraints.min_domain_mass == 0.99
    assert (carrier.value_count.min, carrier.value_count.max) == (1, 1)
    assert carrier.presence.min_fraction == 0.99
    late, classes = found["late"]
    assert classes == ["0", "1"]
    assert late.distribution_constraints.min_domain_mass == 1.0
    assert late.presence.min_fraction == 1.0
    tail, values = found["tail"]
    assert values is None
    assert tail.presence.min_fraction == pytest.approx(0.8)  # 10 % were missing: twice that may be.
    assert found["day"][1] is None  # 60 dates recur, but the next month brings others.
    month, distance = found["month"][0], found["distance"][0]
    assert month.type == schema_pb2.INT
    assert not month.HasField("int_domain")
    assert distance.type == schema_pb2.FLOAT
    assert distance.float_domain.disallow_inf
    assert not distance.float_domain.HasField("min")


def test_the_schema_is_widened_by_the_other_splits(tmp_path: Path) -> None:
    splits = usual()
    for row in splits["eval"][:150]:
        row["carrier"] = "HA"
        row["distance"] = None
    found = infer(tmp_path, splits)
    assert found["carrier"][1] == [*CARRIERS[:3], "HA", "UA"]
    assert found["distance"][0].presence.min_fraction == 0.0


def test_labels_of_every_task(tmp_path: Path) -> None:
    label, _ = infer(tmp_path / "int", usual(late=lambda i: i % 3), task="multiclass")["late"]
    assert (label.int_domain.min, label.int_domain.max) == (0, 2)
    label, _ = infer(tmp_path / "float", usual(late=lambda i: i / 7), task="regression")["late"]
    assert label.float_domain.disallow_nan
    many = [f"class {i:03}" for i in range(150)]
    label, values = infer(tmp_path / "many", usual(late=lambda i: many[i % 150]), task="multiclass")["late"]
    assert values == many
    label, values = infer(tmp_path / "given", usual(), task="multiclass", classes=["0", "1", "2"])["late"]
    assert values == ["0", "1", "2"]


def test_few_rows_give_no_domain(tmp_path: Path) -> None:
    splits = {s: make_rows(20, 0, carrier=lambda i: f"id{i}") for s in ("train", "eval", "test")}
    assert infer(tmp_path, splits)["carrier"][1] is None


def test_the_weight_must_not_be_negative_or_missing(tmp_path: Path) -> None:
    weight, _ = infer(tmp_path, usual(w=1.5), weight="w")["w"]
    assert weight.float_domain.min == 0.0
    assert weight.float_domain.HasField("min")
    assert weight.presence.min_fraction == 1.0


def test_the_artifact_opens_in_tfx(tmp_path: Path) -> None:
    from tfx.utils import io_utils

    _, base = Room(tmp_path).run(usual())
    message = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(str(base / "schema")))
    assert {feature.name for feature in message.feature} == set(make_rows(1, 0)[0])


def test_the_first_run_writes_the_file_and_later_runs_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "flights.schema.pbtxt"
    room = Room(tmp_path, path)
    assert curation_hash(path) is None
    first, base = room.run(usual(), "first")
    assert first["schema"].finding == "inferred 6 features, written to flights.schema.pbtxt"
    assert read_origin((base / "schema/schema.pbtxt").read_text()).origin == "inferred"
    written = path.read_text()
    assert curation_hash(path) is None
    second, base = room.run(usual(50), "second")
    assert second["schema"].finding == "kept 6 features from flights.schema.pbtxt"
    assert read_origin((base / "schema/schema.pbtxt").read_text()).origin == "kept"
    assert path.read_text() == written
    path.write_text(written + "# mine\n")
    assert curation_hash(path) not in (None, "")
    room.run(usual(60), "third")
    assert path.read_text() == written + "# mine\n"


def test_a_new_column_is_added_to_the_kept_schema(tmp_path: Path) -> None:
    path = tmp_path / "s.pbtxt"
    room = Room(tmp_path, path)
    room.run(usual(), "first")
    results, base = room.run(usual(origin=lambda i: ["JFK", "LGA"][i % 2]), "second")
    assert results["schema"].finding.endswith("new and inferred: origin")
    (row,) = rows_of(base)
    assert (row["feature"], row["severity"]) == ("origin", "warning")
    room.verdict(base)


def test_a_column_that_the_config_dropped_is_a_warning(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    room.run(usual(), "first")
    splits = {s: [{k: v for k, v in r.items() if k != "month"} for r in rows] for s, rows in usual().items()}
    _, base = room.run(splits, "second")
    assert {(row["feature"], row["rule"], row["severity"]) for row in rows_of(base)} == {
        ("month", "column present", "warning")
    }
    room.verdict(base)


def test_a_folder_that_takes_no_files_does_not_stop_the_run(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "no such folder" / "s.pbtxt")
    results, base = room.run(usual())
    assert results["schema"].finding.endswith("kept in the run only: the config's folder takes no files")
    assert (base / "schema/schema.pbtxt").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('feature {\n  name: "a"\n  sort: INT\n}\n', r'no field named "sort".*s\.pbtxt, line 3'),
        ("feature {", r"must be a TFMD Schema in text form.*s\.pbtxt"),
        ("", r"must describe at least one feature.*s\.pbtxt"),
        (b"\xff\xfe", r"must be a UTF-8 text file\. Received: byte 0.*s\.pbtxt"),
    ],
)
def test_a_file_that_is_no_schema_is_a_config_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "s.pbtxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        Room(tmp_path, path).run(usual())


# --- anomalies and gates


def test_the_first_run_has_no_baseline(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    _, base = room.run(usual())
    gates = read_gates(base / "gates/gates.json")
    assert [(g.metric, g.slice, g.state) for g in gates] == [
        ("anomalies", {"split": "train"}, "NO_BASELINE"),
        ("anomalies", {"split": "eval"}, "NO_BASELINE"),
        ("anomalies", {"split": "test"}, "NO_BASELINE"),
        ("skew", {"split": "eval"}, "PASS"),
    ]
    assert rows_of(base) == []
    assert room.verdict(base).finding == "4 data gates: NO_BASELINE, PASS"


def test_like_data_passes_the_kept_schema(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    room.run(usual(), "first")
    _, base = room.run(usual(100), "second")
    assert [g.state for g in read_gates(base / "gates/gates.json")] == ["PASS"] * 4
    diff = anomalies_pb2.Anomalies.FromString((base / "anomalies/Split-train/SchemaDiff.pb").read_bytes())
    assert not diff.anomaly_info


BREAKS = {
    "unseen categories": (
        {"carrier": lambda i: "ZZ" if i % 4 == 0 else "AA"},
        ("carrier", "known categories", "one of AA, B6, DL, UA, 99.00% of values", "also ZZ", 150),
    ),
    "an unseen label": (
        {"late": lambda i: "2" if i == 5 else "1"},
        ("late", "known categories", "one of 0, 1", "also 2", 1),
    ),
    "missing values": (
        {"distance": lambda i: None if i % 3 == 0 else 500.0},
        ("distance", "share of rows with a value", ">= 99.0000%", "66.6667%", 200),
    ),
    "another type": (
        {"month": lambda i: f"m{i % 12}"},
        ("month", "type", "INT", "BYTES", 600),
    ),
    "a column without values": (
        {"tail": None},
        ("tail", "column present", "present", "no row has a value", 600),
    ),
    "infinities": (
        {"distance": lambda i: float("inf") if i == 3 else 500.0},
        ("distance", "no infinities", "finite numbers", "infinity", None),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_data_that_breaks_the_kept_schema_is_rejected(tmp_path: Path, name: str) -> None:
    overrides, expected = BREAKS[name]
    room = Room(tmp_path, tmp_path / "flights.schema.pbtxt")
    room.run(usual(), "first")
    _, base = room.run({**usual(10), "train": make_rows(600, 10, **overrides)}, "second")
    (row,) = [r for r in rows_of(base) if r["severity"] == "error"]
    assert row["split"] == "train"
    assert (row["feature"], row["rule"], row["expected"], row["found"], row["count"]) == expected
    states = {
        g.slice["split"]: g.state
        for g in read_gates(base / "gates/gates.json")
        if g.metric == "anomalies" and g.slice
    }
    assert states == {"train": "FAIL", "eval": "PASS", "test": "PASS"}
    for _ in range(2):  # Launched again it fails again.
        with pytest.raises(DataRejected, match=re.escape(expected[0])) as caught:
            room.verdict(base)
    lines = caught.value.message.splitlines()
    header = next(line for line in lines if line.startswith("split"))
    assert header.split() == ["split", "feature", "rule", "expected", "found", "count"]
    assert lines[-1].split()[:2] == ["train", expected[0]]
    assert "flights.schema.pbtxt" in caught.value.hint
    assert caught.value.exit_code == 4
    diff = anomalies_pb2.Anomalies.FromString((base / "anomalies/Split-train/SchemaDiff.pb").read_bytes())
    assert set(diff.anomaly_info) == {expected[0]}


def test_a_curated_bound_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.pbtxt"
    room = Room(tmp_path, path)
    room.run(usual(), "first")
    message = text_format.Parse(path.read_text(), schema_pb2.Schema())
    next(f for f in message.feature if f.name == "distance").float_domain.max = 1000
    path.write_text(text_format.MessageToString(message))
    _, base = room.run(usual(), "second")
    rows = [r for r in rows_of(base) if r["severity"] == "error"]
    assert {(r["feature"], r["rule"], r["expected"]) for r in rows} == {
        ("distance", "largest value", "<= 1000")
    }


def test_deleting_a_rejecting_schema_changes_the_cache_key(tmp_path: Path) -> None:
    path = tmp_path / "s.pbtxt"
    room = Room(tmp_path, path)
    room.run(usual(), "first")
    other = usual(0, carrier=lambda i: f"X{i % 3}")
    room.run(other, "rejected")
    assert curation_hash(path) is None  # The untouched file still has the key of the first run.
    path.unlink()
    key = curation_hash(path)
    assert key is not None
    results, base = room.run(other, "again")
    assert results["schema"].finding.startswith("inferred")
    room.verdict(base)
    assert curation_hash(path) == key


def test_skew_is_a_warning_or_an_error(tmp_path: Path) -> None:
    splits = usual()
    splits["eval"] = make_rows(200, 1, carrier="AA", distance=lambda i: 100.0 + i / 10)
    room = Room(tmp_path)
    _, base = room.run(splits, "warning")
    gate = read_gates(base / "gates/gates.json")[-1]
    assert (gate.metric, gate.state) == ("skew", "PASS")
    assert "a warning" in gate.reason
    assert {r["feature"]: r["severity"] for r in rows_of(base)} == {
        "carrier": "warning",
        "distance": "warning",
    }
    share = sum(row["carrier"] != "AA" for row in splits["train"]) / 600
    skew = {e["feature"]: e for e in json.loads((base / "gates/skew.json").read_text())}
    assert skew["carrier"]["measure"] == "l_infinity"
    assert skew["carrier"]["value"] == pytest.approx(share, abs=1e-6)
    room.verdict(base)
    _, base = room.run(splits, "error", **{"validation.skew_is_error": True})
    gate = read_gates(base / "gates/gates.json")[-1]
    assert gate.state == "FAIL"
    with pytest.raises(DataRejected, match="skew"):
        room.verdict(base)
    _, base = room.run(splits, "off", **{"validation.max_skew": None})
    assert "skew" not in [g.metric for g in read_gates(base / "gates/gates.json")]
