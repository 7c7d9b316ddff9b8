"""A small model carried from a CSV to its SavedModels by the real nodes, once for all tests of a process."""

import atexit
import csv
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from headrace.components.features.columns import column_usages
from headrace.components.features.config import FeaturesConfig
from headrace.components.features.run import run as transform
from headrace.components.ingest.run import run as ingest
from headrace.components.node import NodeContext
from headrace.components.training.run import run as train

BEAM = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)
FEATURES = {
    "distance": {"kind": "numeric", "impute": "median", "missing_indicator": True, "log": True},
    "carrier": {"kind": "categorical", "embedding_dim": 8},
    "tail": {"kind": "categorical", "hash_buckets": 3000, "embedding_dim": 8},
    "tags": {"kind": "categorical", "separator": "|", "max_values": 3, "encode": "multi_hot"},
    "month": {"kind": "categorical", "encode": "one_hot"},
}
MODEL = {"family": "mlp", "hidden": [96, 64], "batch_norm": True}


@dataclass(frozen=True)
class Trained:
    """Artifacts of the nodes before quantization."""

    root: Path
    data: dict[str, Any]

    def inputs(self) -> dict[str, list[str]]:
        """Return input name -> URIs, for `NodeContext.inputs`."""
        names = ("examples", "transform_graph", "transformed_examples", "model")
        return {name: [str(self.root / name)] for name in names}

    def features(self) -> dict[str, Any]:
        """Return the content of features.json."""
        return dict(json.loads((self.root / "transform_graph/headrace/features.json").read_text()))

    def golden_rows(self) -> list[dict[str, Any]]:
        """Return the raw golden rows."""
        return list(json.loads((self.root / "transform_graph/headrace/golden.json").read_text())["inputs"])


def context(
    node_id: str, root: Path, inputs: dict[str, list[str]], outputs: list[str], config: dict[str, Any]
) -> NodeContext:
    """Return a context that writes to folders of `root`."""
    temp = root / f"temp-{node_id}"
    for folder in (temp, *(root / name for name in outputs)):
        folder.mkdir(parents=True, exist_ok=True)
    return NodeContext(
        node_id, "run", inputs, {name: str(root / name) for name in outputs}, config, str(temp), BEAM
    )


@cache
def trained() -> Trained:
    """Make the artifacts: 3,000 rows, two classes, every role of a feature, values missing."""
    root = Path(tempfile.mkdtemp(prefix="headrace-trained-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    _write_csv(root / "rows.csv", 3000)
    data = {"path": str(root / "rows.csv"), "label": "late", "task": "binary", "columns": {"month": "int"}}
    config = {
        "data": data,
        "features": FEATURES,
        "usages": column_usages(TypeAdapter(FeaturesConfig).validate_python(FEATURES)),
        "evaluation.slices": [],
        "seed": 7,
        "preprocessing_fn": None,
    }
    ingest(context("ingest", root, {}, ["examples"], config))
    examples = {"examples": [str(root / "examples")], "schema": []}
    transform(context("transform", root, examples, ["transform_graph", "transformed_examples"], config))
    made = Trained(root, data)
    _train(made)
    return made


def _write_csv(path: Path, rows: int) -> None:
    random = np.random.default_rng(3)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["distance", "carrier", "tail", "tags", "month", "late"])
        for _ in range(rows):
            distance, carrier, month = random.gamma(2, 400), random.integers(0, 12), random.integers(1, 13)
            tags = "|".join(random.choice(["hub", "night", "cargo"], random.integers(0, 3), replace=False))
            late = 0.002 * (distance - 800) + 0.8 * (carrier % 3 - 1) + random.normal() > 0
            tail = f"N{random.integers(0, 400)}" if random.random() > 0.1 else ""
            shown = f"{distance:.1f}" if random.random() > 0.05 else ""
            writer.writerow([shown, f"C{carrier}", tail, tags, month, int(late)])


def _train(made: Trained) -> None:
    # Tuning is off: what the tuner writes then.
    tuned = made.root / "best_hyperparameters"
    tuned.mkdir()
    (tuned / "best.json").write_text(json.dumps({"values": {}, "score": None, "objective": "auto"}))
    training = {"batch_size": 64, "epochs": 4, "early_stopping": None, "tensorboard": False, "backup": False}
    config = {"data": made.data, "model": MODEL, "training": training, "seed": 7}
    inputs = made.inputs() | {"best_hyperparameters": [str(tuned)]}
    train(context("trainer", made.root, inputs, ["model", "model_run"], config))
