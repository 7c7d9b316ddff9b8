"""Evaluations of every task but binary, judged by the evaluation's own code, and what lies beside them."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from headrace.components.evaluation.bootstrap import Resampler
from headrace.components.evaluation.judge import Judge
from headrace.components.evaluation.slices import Slice

Array = Any
LABELS = ("action", "comedy", "crime", "documentary", "drama", "romance")


def evaluate(
    judge: Judge, outputs: Mapping[str, Array], importance: Mapping[str, float], baseline: Array | None = None
) -> dict[str, Any]:
    """Return evaluation.json of variants with these predictions; the first is float32."""
    whole = outputs["float32"]
    variants = [
        {
            "name": name,
            "runtime": "litert" if name.startswith("tflite") else "tf",
            **judge.judge(found, None if name == "float32" else whole),
        }
        for name, found in outputs.items()
    ]
    metric = "rmse" if judge.task == "regression" else "log_loss"
    return {
        "task": judge.task,
        "labels": list(judge.classes) or None,
        "positive": None,
        "threshold": None,
        "label_thresholds": list(judge.label_thresholds) or None,
        "costs": None if judge.costs is None else judge.costs.tolist(),
        "rows": len(judge.labels),
        "slice_specs": [["carrier"]],
        "variants": variants,
        "baseline": None
        if baseline is None
        else {"name": "baseline", "runtime": "tf", **judge.judge(baseline, whole)},
        "importance": [
            {"feature": name, "metric": metric, "drop": drop, "std": 0.1 * drop}
            for name, drop in importance.items()
        ],
        "tfma": {"state": "PASS", "reason": "agrees with TFMA"},
    }


def make_judge(task: Any, classes: tuple[str, ...], labels: Array, carriers: Array, **more: Any) -> Judge:
    """Return a judge with a slice for each carrier."""
    ones = np.ones(len(labels))
    slices = [Slice({"carrier": str(name)}, np.flatnonzero(carriers == name)) for name in np.unique(carriers)]
    draw = Resampler(len(labels), 40, 0.95, 1, ones)
    return Judge(task, classes, labels, ones, slices, None, draw, 40, 0, **more)


def multiclass(
    rng: np.random.Generator, carriers: Array, noise: Mapping[str, float], classes: int = 10
) -> dict[str, Any]:
    """Return classes that are mixed up with their neighbours; a mistake costs 1, of class 0 for 1 costs 5."""
    labels = rng.integers(0, classes, len(carriers))
    logits = rng.normal(0, 1, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 3.6
    logits[np.arange(len(labels)), (labels + 1) % classes] += 1.1
    costs = 1.0 - np.eye(classes)
    costs[0, 1] = 5.0
    names = tuple(str(i) for i in range(classes))
    judge = make_judge("multiclass", names, labels, carriers, costs=costs)
    scores = {name: _softmax(logits + rng.normal(0, 3 * sd, logits.shape)) for name, sd in noise.items()}
    return evaluate(judge, scores, {"photo": 2.1})


def multilabel(rng: np.random.Generator, carriers: Array, noise: Mapping[str, float]) -> dict[str, Any]:
    """Return labels of very different frequency."""
    logits = rng.normal(0, 1.6, (len(carriers), len(LABELS))) + np.linspace(-3.2, 0.6, len(LABELS))
    labels = (rng.random(logits.shape) < _sigmoid(1.3 * logits)).astype(int)
    limits = (0.18, 0.31, 0.4, 0.36, 0.45, 0.5)
    judge = make_judge("multilabel", LABELS, labels, carriers, label_thresholds=limits)
    scores = {name: _sigmoid(logits + rng.normal(0, 3 * sd, logits.shape)) for name, sd in noise.items()}
    worse = _sigmoid(0.6 * logits + rng.normal(0, 0.8, logits.shape))
    return evaluate(judge, scores, {"plot": 0.21, "year": 0.012, "studio": 0.003}, worse)


def regression(rng: np.random.Generator, carriers: Array, noise: Mapping[str, float]) -> dict[str, Any]:
    """Return prices whose error grows with them."""
    actual = np.exp(rng.normal(7.8, 0.9, len(carriers)))
    judge = make_judge("regression", (), actual, carriers)
    error = rng.normal(0, 0.12, len(actual))
    outputs = {
        name: (actual * np.exp(error + rng.normal(0, sd, len(actual)))).astype(np.float32)
        for name, sd in noise.items()
    }
    worse = (actual * np.exp(2 * error)).astype(np.float32)
    return evaluate(
        judge, outputs, {"carat": 3120.4, "clarity": 612.9, "colour": 401.2, "table": 12.5}, worse
    )


def mistakes(task: str, kind: str, seed: int = 3) -> dict[str, Any]:
    """Return mistakes.json of rows with a picture, series, a text or numbers."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(18):
        score = 0.99 - 0.02 * number
        answer: dict[str, Any] = {"label": "3", "predicted": "8", "score": score, "label_score": 1 - score}
        if task == "regression":
            answer = {"label": 2000.0 + number, "predicted": 9000.0 - 70 * number}
        if task == "multilabel":
            answer = {"label": ["crime", "drama"], "predicted": [] if number % 3 else ["comedy", "romance"]}
        blank = {"score": None, "label_score": None}
        rows.append(
            {
                "row": 31 * number,
                **blank,
                **answer,
                "loss": 4.6 - 0.1 * number,
                "values": _values(rng, kind, number),
            }
        )
    return {"total": 211, "columns": COLUMNS[kind], "rows": rows}


COLUMNS = {
    "image": {"photo": "image", "place": "text", "brightness": "number"},
    "series": {"left_hand": "series", "right_hand": "series", "speaker": "text"},
    "text": {"text": "text", "length": "number"},
    "tabular": {"carrier": "text", "hour": "number", "distance": "number", "wind_speed": "number"},
}


def _values(rng: np.random.Generator, kind: str, number: int) -> dict[str, Any]:
    if kind == "image":
        photo = None if number == 5 else picture(rng)
        return {
            "photo": photo,
            "place": "a long way down the road, by the river",
            "brightness": 0.25 * number,
        }
    if kind == "series":
        steps = np.cumsum(rng.normal(0, 1, (2, 40)), axis=1).round(3).tolist()
        steps[0][7] = None
        return {"left_hand": steps[0], "right_hand": steps[1], "speaker": f"speaker {number}"}
    if kind == "text":
        words = rng.choice(["gate", "late", "delayed", "never", "thanks", "again", "flight", "lovely"], 34)
        return {"text": " ".join(words), "length": 34}
    return {"carrier": "HA", "hour": 17, "distance": 4983.0, "wind_speed": None}


def picture(rng: np.random.Generator, side: int = 28) -> str:
    """Return a blurred blob as a data URI."""
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(side * 0.3, side * 0.7, 2)
    blob = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (side / 6) ** 2))
    stream = io.BytesIO()
    Image.fromarray((blob + rng.uniform(0, 30, blob.shape)).clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def monitoring(epochs: int = 6) -> dict[str, Any]:
    """Return monitoring.json: one layer dies slowly."""
    rng = np.random.default_rng(5)
    names = ("embed_carrier", "dense_1", "dense_2", "head")
    found = []
    for epoch in range(1, epochs + 1):
        layers = []
        for index, name in enumerate(names):
            values = rng.normal(0, 0.1 + 0.04 * index + 0.01 * epoch, 2000)
            layers.append(
                {
                    "name": name,
                    "weights": 2000 * (index + 1),
                    "mean": float(values.mean()),
                    "std": float(values.std()),
                    "min": float(values.min()),
                    "max": float(values.max()),
                    "histogram": np.histogram(values, 16)[0].tolist(),
                    "gradient_norm": 0.9 / epoch / (index + 1),
                }
            )
        norm = float(np.sqrt(sum(layer["gradient_norm"] ** 2 for layer in layers)))
        dead = {"dense_1": 0.02 * epoch, "dense_2": min(0.9, 0.11 * epoch)}
        found.append({"epoch": epoch, "gradient_norm": norm, "layers": layers, "dead": dead})
    return {"epochs": found}


def lr_finder() -> dict[str, Any]:
    """Return lr_finder.json of a sweep."""
    rates = np.logspace(-6, -0.3, 90)
    losses = 0.72 - 0.34 / (1 + (2e-3 / rates) ** 1.3) + (rates / 0.25) ** 2
    return {"learning_rates": rates.tolist(), "losses": losses.tolist(), "suggested": 0.0017}


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def _sigmoid(logits: Array) -> Array:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)
