"""The evaluation node: predict once with every variant, judge all alike, write what was found."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.config import DataConfig

from .bootstrap import Resampler
from .config import EvaluationConfig
from .importance import permutation_importance
from .judge import Judge
from .metrics import max_f1_threshold, rank
from .predict import LitePath, SavedModel, check_predictions
from .rows import Rows, column_texts, device_columns, model_columns, read_rows
from .slices import make_slices

__all__ = ["run"]


@dataclass(frozen=True)
class _Inputs:
    """What the node was given, read."""

    context: NodeContext
    data: DataConfig
    config: EvaluationConfig
    seed: int
    ingest: Mapping[str, Any]
    rows: Rows
    variants: Sequence[Mapping[str, Any]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Label values in output order; empty for regression."""
        return tuple(str(name) for name in self.ingest["label"]["classes"] or ())

    @property
    def model_folder(self) -> str:
        """Folder of the float32 SavedModel."""
        return os.path.join(self.context.input("model"), "Format-Serving")

    @property
    def weights(self) -> np.ndarray:
        """Weights `[rows]`, ones where there are none."""
        return np.ones(len(self.rows)) if self.rows.weights is None else self.rows.weights

    @cached_property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Columns that the model reads, as the raw signature takes them."""
        return model_columns(self.rows.columns, self.ingest["features"])

    @cached_property
    def lite(self) -> LitePath:
        """What predicts with TF Lite variants."""
        return LitePath(
            os.path.join(self.context.input("transform_graph"), "headrace"),
            device_columns(self.rows.columns, self.ingest["features"]),
            os.path.join(self.context.temp_dir, "bundles"),
        )


def run(ctx: NodeContext) -> NodeResult:
    """Evaluate every variant and the baseline on the test split; see docs/artifacts.md.

    Raises:
        ConfigError: If a slice names a column that is not in the examples.
        DataRejected: If the test split is empty or has labels that are not among the classes.
    """
    given = _read_inputs(ctx)
    texts = column_texts(given.rows.columns, sorted({name for spec in given.config.slices for name in spec}))
    slices = make_slices(texts, given.config.slices)
    entries, predictions, float32 = _predict_all(given)
    judge = _make_judge(given, slices, float32)
    results = [_judge_entry(entry, predictions, judge) for entry in entries]
    importance = _importance(given, float32)
    emit("importance", text="permutation importance done")
    tfma = _write_tfma(given, judge, results, predictions)
    _write_predictions(ctx.outputs["evaluation"], predictions, judge)
    *variants, baseline = results
    document = {
        "task": given.data.task,
        "labels": list(given.classes) or None,
        "positive": given.classes[-1] if given.data.task == "binary" else None,
        "threshold": judge.threshold,
        "rows": len(given.rows),
        "slice_specs": [list(spec) for spec in given.config.slices],
        "variants": variants,
        "baseline": baseline,
        "importance": importance,
        "tfma": tfma,
    }
    path = os.path.join(ctx.outputs["evaluation"], "evaluation.json")
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(_finite(document), stream, allow_nan=False)
    return NodeResult(_finding(document), {"evaluation": {"rows": len(given.rows), "tfma": tfma["state"]}})


def _read_json(*parts: str) -> Any:
    with open(os.path.join(*parts), encoding="utf-8") as stream:
        return json.load(stream)


def _read_inputs(ctx: NodeContext) -> _Inputs:
    data = DataConfig.model_validate(ctx.config["data"])
    config = EvaluationConfig.model_validate(ctx.config["evaluation"])
    ingest = _read_json(ctx.input("examples"), "ingest.json")
    rows = read_rows(ctx.input("examples"), "test", ingest, data)
    variants = _read_json(ctx.input("variants"), "variants.json")
    if not any(entry["name"] == "float32" for entry in variants):
        variants = [{"name": "float32", "runtime": "tf", "state": "built", "path": None}, *variants]
    return _Inputs(ctx, data, config, int(ctx.config.get("seed", 0)), ingest, rows, variants)


def _predict_all(
    given: _Inputs,
) -> tuple[list[dict[str, Any] | None], dict[str, np.ndarray], SavedModel | None]:
    """Predict with float32, every other variant and the baseline.

    Returns:
        The heads of the results (name, runtime, why there is none), the baseline's last or None; the
        predictions by name; the loaded float32 model, or None where it does not work.
    """
    found: dict[str, np.ndarray] = {}
    loaded: list[SavedModel] = []

    def float32() -> np.ndarray:
        loaded.append(SavedModel(given.model_folder))
        return loaded[0].predict(given.rows.serialized)

    baseline = given.context.optional_input("baseline")
    total = len(given.variants) + (baseline is not None)
    heads: list[dict[str, Any] | None] = []
    for number, entry in enumerate(given.variants):
        head = {"name": entry["name"], "runtime": entry["runtime"]}
        if entry.get("state") == "skipped":
            head["skipped"] = entry.get("reason") or "not built"
        else:
            call = float32 if entry["name"] == "float32" else _predictor(given, entry)
            head |= _attempt(head["name"], call, given, found)
        emit(
            "variant",
            done=number + 1,
            total=total,
            text=f"{head['name']}: predicted {len(given.rows):,} rows",
        )
        heads.append(head)
    working = loaded[0] if "float32" in found else None
    if baseline is None:
        return [*heads, None], found, working
    folder = os.path.join(baseline, "Format-Serving")
    head = {"name": "baseline", "runtime": "tf"}
    head |= _attempt("baseline", lambda: _predict_baseline(folder, given), given, found)
    emit("variant", done=total, total=total, text=f"baseline: predicted {len(given.rows):,} rows")
    return [*heads, head], found, working


def _attempt(
    name: str, call: Callable[[], np.ndarray], given: _Inputs, found: dict[str, np.ndarray]
) -> dict[str, str]:
    """Predict and check; a failure becomes a reason, so that the others are judged all the same."""
    try:
        predictions = call()
        check_predictions(predictions, len(given.rows), given.classes)
    except Exception as error:  # whatever a runtime raises is evidence against this variant alone
        return {
            "failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        }
    found[name] = predictions
    return {}


def _predictor(given: _Inputs, entry: Mapping[str, Any]) -> Callable[[], np.ndarray]:
    path = os.path.join(given.context.input("variants"), entry["path"])
    if entry["runtime"] == "tf":
        return lambda: SavedModel(path).predict(given.rows.serialized)
    model = os.path.join(path, "model.tflite") if os.path.isdir(path) else path
    return lambda: given.lite.predict(entry["name"], model)


def _predict_baseline(folder: str, given: _Inputs) -> np.ndarray:
    model = SavedModel(folder)
    classes = model.classes(given.rows.serialized)
    if classes != given.classes:
        raise ValueError(f"the baseline must answer with classes {given.classes}. Received: {classes}")
    return model.predict(given.rows.serialized)


def _make_judge(given: _Inputs, slices: Sequence[Any], float32: SavedModel | None) -> Judge:
    config, threshold = given.config, None
    if given.data.task == "binary":
        threshold = 0.5 if config.threshold == "max_f1" else config.threshold
        if config.threshold == "max_f1" and float32 is not None:
            threshold = _best_threshold(given, float32)
    resampler = None
    if config.bootstrap_samples:
        resampler = Resampler(
            len(given.rows), config.bootstrap_samples, config.intervals, given.seed, given.weights
        )
    return Judge(
        given.data.task, given.classes, given.rows.labels, given.weights, slices, threshold, resampler,
        config.min_slice_rows, given.seed,
    )  # fmt: skip


def _best_threshold(given: _Inputs, float32: SavedModel) -> float:
    rows = read_rows(given.context.input("examples"), "eval", given.ingest, given.data)
    scores = float32.predict(rows.serialized)[:, 1].astype(np.float64)
    weights = np.ones(len(rows)) if rows.weights is None else rows.weights
    return max_f1_threshold(rank(rows.labels == 1, scores, weights))


def _judge_entry(
    head: dict[str, Any] | None, predictions: Mapping[str, np.ndarray], judge: Judge
) -> dict[str, Any] | None:
    if head is None or head["name"] not in predictions:
        return head
    reference = None if head["name"] == "float32" else predictions.get("float32")
    return head | judge.judge(predictions[head["name"]], reference)


def _importance(given: _Inputs, float32: SavedModel | None) -> list[dict[str, Any]]:
    if float32 is None or not given.config.importance_repeats:
        return []
    chosen = np.random.default_rng(given.seed).permutation(len(given.rows))[: given.config.importance_rows]
    columns = {name: values[chosen] for name, values in given.columns.items()}
    return permutation_importance(
        float32.predict_raw, columns, given.rows.labels[chosen], given.weights[chosen], given.data.task,
        given.config.importance_repeats, given.seed,
    )  # fmt: skip


def _write_tfma(
    given: _Inputs,
    judge: Judge,
    results: Sequence[dict[str, Any] | None],
    predictions: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    from .tfma import write_tfma  # imports TFMA and Beam

    def place(name: str) -> str:
        if name == "baseline":
            return given.context.input("baseline")
        return (
            given.model_folder if name == "float32" else os.path.join(given.context.input("variants"), name)
        )

    judged = [result for result in results if result is not None and "metrics" in result]
    folder = os.path.join(given.context.outputs["evaluation"], "tfma")
    places = (given.context.input("examples"), place)
    weighted = given.rows.weights is not None
    return write_tfma(folder, judge, given.config.slices, judged, predictions, places, weighted=weighted)


def _write_predictions(folder: str, predictions: Mapping[str, np.ndarray], judge: Judge) -> None:
    target = os.path.join(folder, "predictions")
    os.makedirs(target, exist_ok=True)
    for name, values in predictions.items():
        np.save(os.path.join(target, f"{name}.npy"), values)
    np.save(os.path.join(target, "labels.npy"), judge.labels)


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by None, all through a document."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finding(document: Mapping[str, Any]) -> str:
    """Say how many rows and variants, the main metric, what failed."""
    names = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
    metric = names[document["task"]]
    judged = [entry for entry in document["variants"] if "metrics" in entry]
    failed = [entry["name"] for entry in document["variants"] if "failed" in entry]
    parts = [f"{document['rows']:,} test rows, {len(judged)} variants"]
    values = [entry["metrics"][metric] for entry in judged if entry["metrics"][metric] is not None]
    if values:
        low, high = min(values), max(values)
        parts.append(f"{metric} {low:.4f}" if high - low < 5e-5 else f"{metric} {low:.4f} to {high:.4f}")
    if failed:
        parts.append(f"failed: {', '.join(failed)}")
    if document["tfma"]["state"] == "FAIL":
        parts.append("TFMA disagrees")
    return ", ".join(parts)
