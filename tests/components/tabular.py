"""Small transformed rows with every kind of model input, written as the transform does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.models.output import Output, output_of

CLASSES: Mapping[str, list[str] | None] = {
    "binary": ["no", "yes"],
    "multiclass": ["a", "b", "c"],
    "regression": None,
    "multilabel": ["p", "q", "r", "s"],
}
TASKS = ("binary", "multiclass", "regression")
ALL_TASKS = tuple(CLASSES)


def _input(name: str, role: str, width: int, cardinality: int | None, encode: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "width": width,
        "cardinality": cardinality,
        "encode": encode,
        "embedding_dim": 4 if encode == "embedding" else None,
        "source": name,
    }


INPUTS = (
    _input("amount", "dense", 2, None, "none"),
    _input("city", "index", 1, 5, "embedding"),
    _input("month", "index", 1, 4, "one_hot"),
    _input("tags", "indices", 3, 6, "multi_hot"),
    _input("words", "indices", 3, 7, "embedding"),
)


def features_of(task: str = "binary", weight: str | None = None) -> dict[str, Any]:
    """Return the content of features.json."""
    return {
        "features": [dict(entry) for entry in INPUTS],
        "label": {"name": "y", "task": task, "classes": CLASSES[task]},
        "weight": weight,
        "raw": [],
    }


def output(task: str = "binary") -> Output:
    return output_of(features_of(task))


def draw_columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw inputs; of `indices` some places, and in the first row all, are padding."""
    random = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for entry in INPUTS:
        shape = (rows, entry["width"])
        if entry["role"] == "dense":
            columns[entry["name"]] = random.normal(size=shape).astype(np.float32)
            continue
        values = random.integers(0, entry["cardinality"], shape)
        if entry["role"] == "indices":
            values = np.where(random.random(shape) < 0.3, -1, values)
            values[:1] = -1
        columns[entry["name"]] = values
    return columns


def draw_labels(columns: Mapping[str, np.ndarray], task: str, seed: int = 0) -> np.ndarray:
    """Return labels that follow from the inputs, with noise: `[rows]`, or multilabel `[rows, 4]`."""
    noise = np.random.default_rng(seed + 1).normal(size=len(columns["amount"]))
    score = columns["amount"][:, 0] + 0.7 * (columns["city"][:, 0] - 2) + 0.5 * noise
    if task == "regression":
        return score.astype(np.float32)
    if task == "multilabel":  # from frequent to rare
        return (score[:, None] > np.array([-1.0, 0.0, 1.0, 2.0])).astype(np.int64)
    # Unequal classes, for class weights.
    return np.digitize(score, [0.8] if task == "binary" else [-1.0, 1.5]).astype(np.int64)


def write_split(
    folder: Path,
    split: str,
    rows: int,
    task: str = "binary",
    *,
    seed: int = 0,
    weights: np.ndarray | None = None,
    files: int = 2,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Write rows as transformed examples, spread over files in order; return inputs and labels."""
    columns = draw_columns(rows, seed)
    labels = draw_labels(columns, task, seed)
    target = folder / f"Split-{split}"
    target.mkdir(parents=True)
    for number, places in enumerate(np.array_split(np.arange(rows), files)):
        path = str(target / f"transformed_examples-{number:05d}-of-{files:05d}.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for row in places:
                example = tf.train.Example()
                values = {name: column[row] for name, column in columns.items()} | {
                    "label": np.atleast_1d(labels[row])
                }
                if weights is not None:
                    values["weight"] = weights[row : row + 1]
                for name, value in values.items():
                    feature = example.features.feature[name]
                    kind = feature.float_list if value.dtype.kind == "f" else feature.int64_list
                    kind.value.extend(value.tolist())
                writer.write(example.SerializeToString())
    return columns, labels


def write_examples(folder: Path, task: str = "binary", rows: int = 400, eval_rows: int = 200) -> Path:
    """Write a train and an eval split; return the folder."""
    write_split(folder, "train", rows, task, seed=1)
    write_split(folder, "eval", eval_rows, task, seed=2)
    return folder
