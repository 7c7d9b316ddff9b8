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
import tensorflow as tf

from headrace.components.features.run import run as transform
from headrace.components.features.signatures import FittedTransform
from headrace.components.ingest.run import run as ingest
from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.node import NodeContext
from headrace.components.training.signatures import save_module, serving_module, transformed_module

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
    features, folder = made.features(), made.root / "model"
    output = output_of(features)
    model = build_model(features, parse_model_config(MODEL), output, seed=5)
    columns, labels = _transformed_rows(made, features)
    model.compile(optimizer="adam", loss=_loss(), jit_compile=False)
    model.fit(columns, labels, batch_size=64, epochs=4, verbose=0)
    (folder / "keras").mkdir(parents=True)
    model.save_weights(str(folder / "keras/model.weights.h5"))
    spec = {"model": MODEL, "training": {}, "features": features}
    (folder / "keras/model.json").write_text(json.dumps(spec))
    held = [variable.value for variable in model.variables]

    def forward(inputs: dict[str, Any]) -> Any:
        return model(inputs, training=False)

    fitted = FittedTransform(str(made.root / "transform_graph"))
    save_module(serving_module(forward, fitted, output, held), str(folder / "Format-Serving"))
    save_module(transformed_module(forward, features, output, held), str(folder / "Format-Transformed"))
    parameters = sum(int(np.prod(variable.shape)) for variable in model.weights)
    (folder / "model.json").write_text(
        json.dumps({"parameters": parameters, "parameter_bytes": 4 * parameters, "family": "mlp"})
    )


def _loss() -> Any:
    import keras

    return keras.losses.BinaryCrossentropy(from_logits=True)


def _transformed_rows(made: Trained, features: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    spec = {
        item["name"]: tf.io.FixedLenFeature(
            [item["width"]], tf.float32 if item["role"] == "dense" else tf.int64
        )
        for item in features["features"]
    } | {"label": tf.io.FixedLenFeature([1], tf.int64)}
    files = sorted(str(path) for path in (made.root / "transformed_examples/Split-train").iterdir())
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    parsed = {name: value.numpy() for name, value in tf.io.parse_example(records, spec).items()}
    return parsed, parsed.pop("label").astype(np.float32)
