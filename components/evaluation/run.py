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
from headrace.components.sums import judged
from headrace.data.config import DataConfig

from .bootstrap import Resampler
from .config import EvaluationConfig
from .importance import permutation_importance
from .judge import Judge
from .learnt import Learnt, compare_on_rest, find_learnt
from .mistakes import find_mistakes, pixels_of
from .predict import LitePath, SavedModel, batch_rows, check_predictions, predict_bundle
from .rows import Rows, check_slices, column_texts, device_columns, model_columns, read_rows
from .slices import make_slices
from .thresholds import chosen_on_eval, cost_matrix, label_thresholds, threshold

__all__ = ["run"]

_MOST_IMAGES = 1000  # rows for permutation importance, which holds their files in memory


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
    live: Mapping[str, Any]
    learnt: Learnt

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

    @property
    def sidecars(self) -> str:
        """Folder of preprocessing.json and features.json."""
        return os.path.join(self.context.input("transform_graph"), "headrace")

    @cached_property
    def batch_rows(self) -> int:
        """Rows predicted at once."""
        path = os.path.join(self.sidecars, "features.json")
        return batch_rows(_read_json(path) if os.path.isfile(path) else {})

    @cached_property
    def costs(self) -> np.ndarray | None:
        """Cost of each decision `[classes, classes]`, or None."""
        return cost_matrix(self.config.costs, self.classes)


def run(ctx: NodeContext) -> NodeResult:
    """Evaluate every variant and the baseline on the test split; see docs/artifacts.md.

    Raises:
        ConfigError: If a slice names a column that is not in the examples.
        DataRejected: If the test split is empty or has labels that are not among the classes.
    """
    with judged(ctx.inputs) as files:
        document = _evaluate(_read_inputs(ctx))
    _write_json(document | {"judged": files}, ctx, "evaluation.json")
    facts = {"rows": document["rows"], "tfma": document["tfma"]["state"], "beam_runner": ctx.beam_runner}
    failed = [entry["name"] for entry in document["variants"] if "failed" in entry]
    doubts = {"evaluation": f"no prediction by {', '.join(failed)}"} if failed else {}
    return NodeResult(f"{_finding(document)}{ctx.by_engine}", {"evaluation": facts}, doubts)


def _evaluate(given: _Inputs) -> dict[str, Any]:
    """Write what lies beside evaluation.json and return its content."""
    ctx = given.context
    texts = column_texts(given.rows.columns, sorted({name for spec in given.config.slices for name in spec}))
    slices = make_slices(texts, given.config.slices)
    entries, predictions, float32 = _predict_all(given)
    judge = _make_judge(given, slices, float32)
    results = [_judge_entry(entry, predictions, judge) for entry in entries]
    importance = _importance(given, float32)
    emit("importance", text="permutation importance done")
    tfma = _write_tfma(given, judge, results, predictions, texts)
    _write_predictions(ctx.outputs["evaluation"], predictions, judge)
    if "float32" in predictions:
        _write_json(_mistakes(given, judge, predictions["float32"]), ctx, "mistakes.json")
    *variants, baseline = results
    against = {"no_baseline": given.live["reason"]} if baseline is None else {}
    if "baseline" in predictions:
        against["comparison"] = compare_on_rest(given.learnt, judge, predictions)
    return {
        "task": given.data.task,
        "labels": list(given.classes) or None,
        "positive": given.classes[-1] if given.data.task == "binary" else None,
        "threshold": judge.threshold,
        "label_thresholds": list(judge.label_thresholds) or None,
        "costs": None if judge.costs is None else judge.costs.tolist(),
        "rows": len(given.rows),
        "slice_specs": [list(spec) for spec in given.config.slices],
        "variants": variants,
        "baseline": baseline,
        **against,
        "importance": importance,
        "tfma": tfma,
    }


def _read_json(*parts: str) -> Any:
    with open(os.path.join(*parts), encoding="utf-8") as stream:
        return json.load(stream)


def _write_json(document: Any, ctx: NodeContext, name: str) -> None:
    with open(os.path.join(ctx.outputs["evaluation"], name), "w", encoding="utf-8") as stream:
        json.dump(_finite(document), stream, allow_nan=False)


def _read_inputs(ctx: NodeContext) -> _Inputs:
    data = DataConfig.model_validate(ctx.config["data"])
    config = EvaluationConfig.model_validate(ctx.config["evaluation"])
    ingest = _read_json(ctx.input("examples"), "ingest.json")
    sliced = dict.fromkeys(name for spec in config.slices for name in spec)
    check_slices({column["name"]: column["type"] for column in ingest["columns"]}, sliced)
    rows = read_rows(ctx.input("examples"), "test", ingest, data, list(sliced))
    variants = _read_json(ctx.input("variants"), "variants.json")
    if not any(entry["name"] == "float32" for entry in variants):
        variants = [{"name": "float32", "runtime": "tf", "state": "built", "path": None}, *variants]
    live, learnt = _read_live(ctx, ingest, rows)
    return _Inputs(ctx, data, config, int(ctx.config.get("seed", 0)), ingest, rows, variants, live, learnt)


def _read_live(ctx: NodeContext, ingest: Mapping[str, Any], rows: Rows) -> tuple[dict[str, Any], Learnt]:
    """Return what is live, and which rows it was trained on; it may be nothing to compare with."""
    live: dict[str, Any] = _read_json(ctx.input("baseline"), "baseline.json")
    if not live["version"]:
        return live, Learnt()
    folder = os.path.join(ctx.input("baseline"), "model")
    learnt = find_learnt(live, folder, ctx.input("examples"), ingest.get("split") or {}, rows.labels)
    return (live | {"version": 0, "reason": learnt.absent} if learnt.absent else live), learnt


Found = dict[str, np.ndarray]


def _predict_all(given: _Inputs) -> tuple[list[dict[str, Any] | None], Found, SavedModel | None]:
    """Predict with float32, every other variant and the baseline.

    Returns:
        The heads of the results (name, runtime, why there is none), the baseline's last or None; the
        predictions by name; the loaded float32 model, or None where it does not work.
    """
    found: Found = {}
    loaded: list[SavedModel] = []

    def float32() -> np.ndarray:
        loaded.append(SavedModel(given.model_folder))
        return loaded[0].predict(given.rows.files, given.batch_rows)

    total = len(given.variants) + bool(given.live["version"])
    lite = _predict_lite(given)
    heads: list[dict[str, Any] | None] = []
    for number, entry in enumerate(given.variants):
        head = {"name": entry["name"], "runtime": entry["runtime"]}
        if entry.get("state") == "skipped":
            head["skipped"] = entry.get("reason") or "not built"
        else:
            call = float32 if entry["name"] == "float32" else _predictor(given, entry, lite)
            head |= _attempt(head["name"], call, given, found)
        text = f"{head['name']}: predicted {len(given.rows):,} rows"
        emit("variant", done=number + 1, total=total, text=text)
        heads.append(head)
    working = loaded[0] if "float32" in found else None
    if not given.live["version"]:
        return [*heads, None], found, working
    head = {"name": "baseline", "runtime": "tf" if given.live["side"] == "serving" else "litert"}
    head |= {"version": given.live["version"], "variant": given.live["variant"]}
    head |= _attempt("baseline", lambda: _predict_baseline(given), given, found)
    emit("variant", done=total, total=total, text=f"baseline: predicted {len(given.rows):,} rows")
    return [*heads, head], found, working


def _predict_lite(given: _Inputs) -> dict[str, np.ndarray | Exception]:
    """Predict with all TF Lite variants at once, since they share what precedes them."""
    paths = {}
    for entry in given.variants:
        if entry["runtime"] == "litert" and entry.get("state") != "skipped":
            path = os.path.join(given.context.input("variants"), entry["path"])
            paths[entry["name"]] = os.path.join(path, "model.tflite") if os.path.isdir(path) else path
    names = given.ingest["features"]
    batches = given.rows.files.columns(names, given.batch_rows) if paths else iter(())
    lite = LitePath(given.sidecars, os.path.join(given.context.temp_dir, "bundles"))
    try:
        return lite.predict(paths, (device_columns(columns, names) for columns in batches))
    except Exception as error:  # the sidecar's failure is evidence against all that stand on it
        return dict.fromkeys(paths, error)


def _attempt(name: str, call: Callable[[], np.ndarray], given: _Inputs, found: Found) -> dict[str, str]:
    """Predict and check; a failure becomes a reason, so that the others are judged all the same."""
    try:
        predictions = call()
        check_predictions(predictions, len(given.rows), given.classes)
    except Exception as error:  # whatever a runtime raises is evidence against this variant alone
        message = str(error).splitlines()[0] if str(error) else "no message"
        return {"failed": f"{type(error).__name__}: {message}"}
    found[name] = predictions
    return {}


def _predictor(
    given: _Inputs, entry: Mapping[str, Any], lite: Mapping[str, np.ndarray | Exception]
) -> Callable[[], np.ndarray]:
    if entry["runtime"] == "tf":
        path = os.path.join(given.context.input("variants"), entry["path"])
        return lambda: SavedModel(path).predict(given.rows.files, given.batch_rows)

    def on_device() -> np.ndarray:
        answer = lite[entry["name"]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return on_device


def _predict_baseline(given: _Inputs) -> np.ndarray:
    """Predict with what is live: the SavedModel, or the bundle as a device does."""
    folder = os.path.join(given.context.input("baseline"), "model")
    if given.live["side"] == "serving":
        model = SavedModel(folder)
        _check_classes(model.classes(given.rows.files), given.classes)
        return model.predict(given.rows.files, given.batch_rows)
    _check_classes(tuple(_read_json(folder, "labels.json")["classes"] or ()), given.classes)
    return predict_bundle(folder, given.rows.files, given.batch_rows)


def _check_classes(found: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    if found != wanted:
        raise ValueError(f"the baseline must answer with classes {wanted}. Received: {found}")


def _make_judge(given: _Inputs, slices: Sequence[Any], float32: SavedModel | None) -> Judge:
    config, task = given.config, given.data.task
    single, several = _thresholds(given, float32)
    resampler = None
    if config.bootstrap_samples:
        resampler = Resampler(
            len(given.rows), config.bootstrap_samples, config.intervals, given.seed, given.weights
        )
    return Judge(
        task, given.classes, given.rows.labels, given.weights, slices, single, resampler,
        config.min_slice_rows, given.seed, several, given.costs,
    )  # fmt: skip


def _thresholds(given: _Inputs, float32: SavedModel | None) -> tuple[float | None, tuple[float, ...]]:
    """Return the threshold of a binary decision and those of labels; None and () for other tasks."""
    config, task = given.config, given.data.task
    fixed = 0.5 if isinstance(config.threshold, str) else config.threshold
    if task not in ("binary", "multilabel"):
        return None, ()
    if not chosen_on_eval(config) or float32 is None:
        return (fixed, ()) if task == "binary" else (None, (fixed,) * len(given.classes))
    rows = read_rows(given.context.input("examples"), "eval", given.ingest, given.data, [])
    scores = float32.predict(rows.files, given.batch_rows)
    weights = np.ones(len(rows)) if rows.weights is None else rows.weights
    if task == "binary":
        return threshold(config, given.costs, rows.labels, scores, weights), ()
    return None, label_thresholds(rows.labels, scores, weights)


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
    names = given.ingest["features"]
    images = any(given.rows.files.types[name] == "image" for name in names)
    most = min(given.config.importance_rows, _MOST_IMAGES) if images else given.config.importance_rows
    chosen = np.sort(np.random.default_rng(given.seed).permutation(len(given.rows))[:most])
    return permutation_importance(
        lambda columns: float32.predict_raw(columns, given.batch_rows),
        model_columns(given.rows.files.pick(names, chosen), names),
        given.rows.labels[chosen], given.weights[chosen], given.data.task,
        given.config.importance_repeats, given.seed,
    )  # fmt: skip


def _mistakes(given: _Inputs, judge: Judge, predictions: np.ndarray) -> dict[str, Any]:
    path = os.path.join(given.sidecars, "preprocessing.json")
    pixels = pixels_of(_read_json(path)) if os.path.isfile(path) else {}
    return find_mistakes(judge, predictions, given.rows.files, given.ingest["features"], pixels)


def _write_tfma(
    given: _Inputs,
    judge: Judge,
    results: Sequence[dict[str, Any] | None],
    predictions: Mapping[str, np.ndarray],
    texts: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    from .tfma import write_tfma  # imports TFMA and Beam

    context, side = given.context, None
    if context.distributed:
        from .tfma_beam import BeamSide

        emit("phase", text=f"TFMA's evaluation, a Beam job on {context.beam_runner}")
        side = BeamSide(texts, context.temp_dir, context.beam_runner, context.beam_args)

    def place(name: str) -> str:
        if name == "baseline":
            return os.path.join(given.context.input("baseline"), "model")
        return (
            given.model_folder if name == "float32" else os.path.join(given.context.input("variants"), name)
        )

    judged = [result for result in results if result is not None and "metrics" in result]
    folder = os.path.join(given.context.outputs["evaluation"], "tfma")
    places = (given.context.input("examples"), place)
    weighted = given.rows.weights is not None
    specs = given.config.slices
    return write_tfma(folder, judge, specs, judged, predictions, places, weighted=weighted, side=side)


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
    names = {"binary": "auc", "multiclass": "accuracy", "multilabel": "macro_f1", "regression": "rmse"}
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
