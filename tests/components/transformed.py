"""A tiny examples artifact with every kind of column, and a feature spec with every kind of feature."""

import atexit
import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from headrace.components.features.run import run
from headrace.components.ingest.tfrecord import write_shards
from headrace.components.node import NodeContext, NodeResult

BEAM_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)

TYPES = {
    "amount": "float",
    "age": "int",
    "ratio": "float",
    "city": "string",
    "code": "int",
    "tags": "string",
    "when": "string",
}

DATE_PARTS = ["month", "day", "day_of_week", "day_of_year", "hour", "minute"]

FEATURES: dict[str, Any] = {
    "amount": {"kind": "numeric", "missing_indicator": True},
    "age": {"kind": "numeric", "impute": "median", "scale": "minmax"},
    "ratio": {"kind": "numeric", "impute": 2.0, "log": True, "clip": [0.5, 3.0]},
    "as_is": {"kind": "numeric", "column": "amount", "impute": -1.5, "scale": "none"},
    "fifths": {"kind": "numeric", "column": "amount", "buckets": {"quantiles": 5}},
    "ranges": {"kind": "numeric", "column": "age", "buckets": {"bounds": [0, 18, 40.5, 65]}},
    "log_ranges": {"kind": "numeric", "column": "ratio", "log": True, "buckets": {"bounds": [1, 2]}},
    "city": {"kind": "categorical", "vocabulary": {"top_k": 3, "oov_buckets": 4}},
    "often": {"kind": "categorical", "column": "city", "vocabulary": {"min_count": 40}, "encode": "one_hot"},
    "code": {"kind": "categorical", "embedding_dim": 5},
    "hashed": {"kind": "categorical", "column": "code", "hash_buckets": 7},
    "tags": {"kind": "categorical", "separator": "|", "max_values": 3, "encode": "multi_hot"},
    "words": {
        "kind": "categorical",
        "column": "tags",
        "separator": "||",
        "max_values": 2,
        "hash_buckets": 11,
    },
    "when": {"kind": "date", "parts": DATE_PARTS},
    "part": {"kind": "date", "column": "when", "parts": DATE_PARTS, "cyclical": False},
    "city_code": {"kind": "cross", "of": ["city", "code"], "vocabulary": {"oov_buckets": 2, "min_count": 2}},
    "triple": {
        "kind": "cross",
        "of": ["city", {"column": "amount", "bounds": [-1, 0, 2.5]}, "code"],
        "hash_buckets": 50,
    },
}

_CITIES = ["Oslo", "Zürich", "東京", "a b", "São Paulo\u2028x", "İzmir"]


def random_row(draw: random.Random, missing: float = 0.1) -> dict[str, Any]:
    """Draw a row as training sees them."""
    row = {
        "amount": draw.gauss(3, 10),
        "age": draw.randrange(0, 90),
        "ratio": draw.expovariate(0.2) - 0.5,
        "city": draw.choices(_CITIES, weights=[8, 6, 4, 3, 2, 1])[0],
        "code": draw.randrange(-3, 6),
        "tags": "|".join(draw.choices(["red", "green", "blue", "Ü"], k=draw.randrange(1, 5))),
        "when": f"20{draw.randrange(10, 30)}-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}",
    }
    return {name: None if draw.random() < missing else value for name, value in row.items()}


def write_examples(
    folder: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    types: Mapping[str, str] = TYPES,
    weight: str | None = "weight",
) -> None:
    """Write rows (with `label` "no" or "yes", and `weight`) as the ingest node does."""
    columns = {**types, "label": "string", **({weight: "float"} if weight else {})}
    arrow = {
        "int": pa.int64(),
        "float": pa.float64(),
        "string": pa.string(),
        "floats": pa.large_list(pa.float32()),
        "image": pa.binary(),
    }
    missing: dict[str, dict[str, int]] = {name: {} for name in columns}
    for split, rows in splits.items():
        os.makedirs(folder / f"Split-{split}")
        arrays = [
            pa.array([_with_nan(row[name]) for row in rows], arrow[kind]) for name, kind in columns.items()
        ]
        for name, array in zip(columns, arrays, strict=True):
            missing[name][split] = array.null_count
        batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
        write_shards(str(folder / f"Split-{split}"), [batch], len(rows), 2)
    content = {
        "splits": {split: len(rows) for split, rows in splits.items()},
        "columns": [{"name": name, "type": kind, "missing": missing[name]} for name, kind in columns.items()],
        "features": list(types),
        "label": {"name": "label", "task": "binary", "classes": ["no", "yes"]},
        "weight": weight,
    }
    (folder / "ingest.json").write_text(json.dumps(content), encoding="utf-8")


def _with_nan(value: Any) -> Any:
    """Write missing steps of a list as ingest does."""
    return [math.nan if step is None else step for step in value] if isinstance(value, list) else value


def make_splits(seed: int = 7) -> dict[str, list[dict[str, Any]]]:
    """Draw 300 train, 40 eval and 40 test rows."""
    draw = random.Random(seed)
    return {
        split: [
            random_row(draw) | {"label": draw.choice(["no", "yes"]), "weight": draw.random()}
            for _ in range(size)
        ]
        for split, size in (("train", 300), ("eval", 40), ("test", 40))
    }


@cache
def fitted_tabular() -> SimpleNamespace:
    """Run the transform node once for all tests of a process: `folder`, `splits`, and its `result`."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-tabular-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    splits = make_splits()
    write_examples(folder / "examples", splits)
    return SimpleNamespace(folder=folder, splits=splits, result=run_transform(folder))


def run_transform(
    folder: Path, features: Mapping[str, Any] = FEATURES, preprocessing_fn: str | None = None
) -> NodeResult:
    """Run the transform node on `folder/examples`, into `folder/graph` and `folder/transformed`."""
    for name in ("graph", "transformed", "temp"):
        os.makedirs(folder / name)
    return run(
        NodeContext(
            node_id="transform",
            run_id="test",
            inputs={"examples": [str(folder / "examples")], "schema": []},
            outputs={
                "transform_graph": str(folder / "graph"),
                "transformed_examples": str(folder / "transformed"),
            },
            config={"data": {}, "features": features, "preprocessing_fn": preprocessing_fn},
            temp_dir=str(folder / "temp"),
            beam_args=BEAM_ARGS,
        )
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
