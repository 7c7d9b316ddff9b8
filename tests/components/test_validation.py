import json
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from headrace.components.gates.state import Bound, read_gates
from headrace.components.validation.schema_file import curation_hash
from headrace.data.errors import DataRejected
from tests.components.validation_room import Room, make_rows, rows_of, usual


def test_the_first_run_has_no_baseline(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    _, base = room.run(usual())
    gates = read_gates(base / "gates/gates.json")
    assert [(g.metric, g.slice, g.state) for g in gates] == [
        ("anomalies", {"split": "train"}, "NO_BASELINE"),
        ("anomalies", {"split": "eval"}, "NO_BASELINE"),
        ("anomalies", {"split": "test"}, "NO_BASELINE"),
        ("skew", {"split": "eval"}, "PASS"),
        ("skew", {"split": "test"}, "PASS"),
    ]
    assert rows_of(base) == []
    assert room.verdict(base).finding == "go on; 5 gates: 3 NO_BASELINE, 2 PASS"


def test_like_data_passes_the_kept_schema(tmp_path: Path) -> None:
    room = Room(tmp_path, tmp_path / "s.pbtxt")
    room.run(usual(), "first")
    _, base = room.run(usual(100), "second")
    assert [g.state for g in read_gates(base / "gates/gates.json")] == ["PASS"] * 5
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
    gate, other = read_gates(base / "gates/gates.json")[-2:]
    assert (gate.metric, gate.state, gate.slice) == ("skew", "WARN", {"split": "eval"})
    assert (other.metric, other.state, other.slice) == ("skew", "PASS", {"split": "test"})
    assert "since `validation.skew_is_error` is false" in gate.reason
    assert gate.bound == Bound("<=", 0.2)
    assert {r["feature"]: r["severity"] for r in rows_of(base)} == {
        "carrier": "warning",
        "distance": "warning",
    }
    share = sum(row["carrier"] != "AA" for row in splits["train"]) / 600
    skew = {
        e["feature"]: e for e in json.loads((base / "gates/skew.json").read_text()) if e["split"] == "eval"
    }
    assert skew["carrier"]["measure"] == "l_infinity"
    assert skew["carrier"]["value"] == pytest.approx(share, abs=1e-6)
    assert room.verdict(base).finding == "go on; 5 gates: 1 WARN, 3 NO_BASELINE, 1 PASS"
    _, base = room.run(splits, "error", **{"validation.skew_is_error": True})
    assert [gate.state for gate in read_gates(base / "gates/gates.json")[-2:]] == ["FAIL", "PASS"]
    with pytest.raises(DataRejected, match="skew"):
        room.verdict(base)
    _, base = room.run(splits, "off", **{"validation.max_skew": None})
    assert "skew" not in [g.metric for g in read_gates(base / "gates/gates.json")]
