"""Small examples, and the validation nodes run on folders as the pipeline does."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from headrace.components.gates import verdict
from headrace.components.node import NodeContext, NodeResult
from headrace.components.validation import anomalies, schema, statistics
from headrace.components.validation.schema_file import curation_hash

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
        ingest = {"columns": columns, **told_of(splits)}
        (base / "examples/ingest.json").write_text(json.dumps(ingest))
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
        given = {"validation.schema_path": None if self.schema_path is None else str(self.schema_path)}
        ctx = NodeContext("data_verdict", "r", {"gates": [str(base / "gates")]}, {}, given, str(base))
        return verdict.data(ctx)


def told_of(splits: Mapping[str, list[Row]]) -> dict[str, Any]:
    """What ingest.json tells of rows and labels, by hand."""
    labels = sorted({str(row["late"]) for rows in splits.values() for row in rows})
    features = [tuple(sorted((k, str(v)) for k, v in row.items() if k != "late")) for row in splits["test"]]
    return {
        "splits": {split: len(rows) for split, rows in splits.items()},
        "split": {"distinct": {"test_rows": len({*features})}},
        "label": {
            "counts": {
                split: {label: sum(str(row["late"]) == label for row in rows) for label in labels}
                for split, rows in splits.items()
            }
        },
    }


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
