"""Small transformed rows of every kind of model input, all of which tell something about the label."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.components.models.output import Output, output_of

STEPS, CHANNELS = 7, 3
SIDE = 8

CLASSES: Mapping[str, list[str] | None] = {
    "binary": ["no", "yes"],
    "multiclass": ["a", "b", "c"],
    "multilabel": ["p", "q", "r"],
    "regression": None,
}
TASKS = tuple(CLASSES)


def _input(name: str, role: str, width: int, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": name, "role": role, "width": width, "source": name}
    return spec | {"cardinality": None, "encode": "none", "embedding_dim": None} | more


def _table(cardinality: int) -> dict[str, Any]:
    return {"cardinality": cardinality, "encode": "embedding", "embedding_dim": 4}


def image_input(side: int = SIDE, channels: int = 1) -> dict[str, Any]:
    return _input("photo", "image", side * side * channels, shape=[side, side, channels])


INPUTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "dense": (_input("amount", "dense", 2),),
    "index": (_input("city", "index", 1, **_table(5)),),
    "one_hot": (_input("month", "index", 1, cardinality=4, encode="one_hot"),),
    "indices": (_input("tags", "indices", 3, **_table(6)),),
    "tokens": (_input("text", "tokens", 6, **_table(12)),),
    "bag": (
        _input("words", "bag", 5, **_table(12)),
        _input("words_weights", "bag_weights", 5, of="words"),
    ),
    "image": (image_input(),),
    "series": (
        _input("track", "series", STEPS * CHANNELS, shape=[STEPS, CHANNELS]),
        _input("track_length", "length", 1, of="track"),
    ),
}
"""Kind of input -> its entries of features.json."""

ALL = tuple(INPUTS)


def features_of(kinds: tuple[str, ...] = ALL, task: str = "binary") -> dict[str, Any]:
    """Return the content of features.json."""
    return {
        "features": [dict(entry) for kind in kinds for entry in INPUTS[kind]],
        "label": {"name": "y", "task": task, "classes": CLASSES[task]},
        "weight": None,
        "raw": [],
    }


def output(task: str = "binary") -> Output:
    return output_of(features_of(task=task))


def draw(
    features: Mapping[str, Any], rows: int, seed: int = 0
) -> tuple[dict[str, np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Draw inputs and what they tell: a number a row.

    The first row has no step, no token and no category that is not padding.
    """
    random = np.random.default_rng(seed)
    hidden = random.normal(size=rows)
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for spec in features["features"]:
        columns[spec["name"]] = _draw(spec, hidden, random, columns)
    return columns, hidden


def _draw(spec: Mapping[str, Any], hidden: Any, random: Any, columns: Mapping[str, Any]) -> Any:
    rows, width, role = len(hidden), spec["width"], spec["role"]
    if role == "length":
        return columns[spec["of"]].any(axis=2).sum(axis=1)[:, None].astype(np.int64)
    if role in ("dense", "image", "series"):
        shape = tuple(spec.get("shape") or (width,))
        values = 0.5 * random.normal(size=(rows, *shape)) + hidden.reshape(-1, *[1] * len(shape))
        if role == "image":
            values = 1 / (1 + np.exp(-values))
        if role == "series":
            lengths = random.integers(1, shape[0] + 1, rows)
            lengths[0] = 0
            values *= (np.arange(shape[0]) < lengths[:, None])[..., None]
        return values.astype(np.float32)
    if role == "bag_weights":
        present = columns[spec["of"]] >= 0
        return (random.random(present.shape) * present).astype(np.float32)
    # The larger the hidden number, the larger the index.
    share = 1 / (1 + np.exp(-2 * hidden[:, None] - random.normal(size=(rows, width))))
    values = np.minimum((share * spec["cardinality"]).astype(np.int64), spec["cardinality"] - 1)
    if role == "index":
        return values
    lengths = random.integers(1, width + 1, rows)
    lengths[0] = 0
    pad = 0 if role == "tokens" else -1
    values = np.maximum(values, 1) if role == "tokens" else values
    return np.where(np.arange(width) < lengths[:, None], values, pad)


def labels(hidden: np.ndarray[Any, Any], task: str) -> np.ndarray[Any, Any]:
    """Return labels as training has them: `[rows, 1]`, or float32 `[rows, 3]` for multilabel."""
    if task == "regression":
        return hidden[:, None].astype(np.float32)
    if task == "multilabel":
        return (hidden[:, None] > np.array([-0.7, 0.0, 0.7])).astype(np.float32)
    bounds = [0.0] if task == "binary" else [-0.5, 0.5]
    return np.digitize(hidden, bounds)[:, None].astype(np.float32 if task == "binary" else np.int64)
