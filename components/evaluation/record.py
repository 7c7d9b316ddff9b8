"""Results in TFMA's own files, so that `tfma.load_eval_result` and its views open them.

TFMA counts scores in 10,000 buckets. The functions here do the same in numpy, so that the files hold the
values that TFMA itself would have written; `cross_check` holds them to TFMA's own code.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis import constants
from tensorflow_model_analysis import version as tfma_version
from tensorflow_model_analysis.metrics import binary_confusion_matrices as bcm
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer

from .judge import Judge
from .metrics import EPSILON, binary_confusion, confusion, row_log_loss

__all__ = [
    "Record",
    "checked_labels",
    "clip_scores",
    "key_text",
    "make_record",
    "tfma_values",
    "write_record",
]

_BUCKETS = 10_000
_MOST_LABELS = 20  # TFMA takes 0.1 ms for a label of a row
_EXTRA = (
    "f1", "calibration_error", "macro_f1", "weighted_f1", "top_k_accuracy", "r2", "median_ae", "mape", "bias",
    "cost", "subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1",
)  # fmt: skip
"""Metrics of ours that TFMA has not; written beside its own."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """The TFMA side of an evaluation.

    Attributes:
        config: What TFMA would have been asked for.
        computations: TFMA's own computations for it.
        keys: Metric or plot name, as `key_text` gives it -> TFMA's key.
    """

    config: Any
    computations: Sequence[Any]
    keys: Mapping[str, Any]


def make_record(judge: Judge, specs: Sequence[Sequence[str]], *, weighted: bool) -> Record:
    """Build TFMA's config and computations for a task.

    Args:
        judge: Task and threshold.
        specs: Columns of each kind of slice.
        weighted: Whether rows have weights.
    """
    model: dict[str, Any] = {
        "modelType": constants.MATERIALIZED_PREDICTION, "predictionKey": "prediction", "labelKey": "label"
    }  # fmt: skip
    if weighted:
        model["exampleWeightKey"] = "weight"
    config = json_format.ParseDict(
        {
            "modelSpecs": [model],
            "slicingSpecs": [{}, *({"featureKeys": list(spec)} for spec in specs)],
            "metricsSpecs": [{"metrics": _metrics(judge)}, *_label_specs(judge)],
        },
        config_pb2.EvalConfig(),
    )
    computations = metric_specs.to_computations(list(config.metrics_specs), eval_config=config)
    keys = {key_text(key): key for one in computations for key in one.keys if not key.name.startswith("_")}
    return Record(config, computations, keys)


def key_text(key: Any) -> str:
    """Return the name of TFMA's key; of a single label with its number, such as "auc[3]"."""
    number = None if key.sub_key is None else key.sub_key.class_id
    return str(key.name) if number is None else f"{key.name}[{number}]"


_RANKED = ("AUC", "AUCPrecisionRecall")
_MEANS = ("Calibration", "MeanLabel", "MeanPrediction")


def _metrics(judge: Judge) -> list[dict[str, str]]:
    if judge.task == "multilabel":  # TFMA takes every label of every row as a row of its own
        names = ["ExampleCount", *_RANKED, "BinaryCrossEntropy", *_MEANS]
        return [{"className": name} for name in names]
    if judge.task == "regression":
        names = [
            "ExampleCount",
            "MeanSquaredError",
            "MeanAbsoluteError",
            *_MEANS,
        ]
        return [{"className": name} for name in names]
    if judge.task == "multiclass":
        names = ["ExampleCount", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy"]
        return [{"className": name} for name in (*names, "MultiClassConfusionMatrixPlot")]
    plain = ["ExampleCount", *_RANKED, "BinaryCrossEntropy", *_MEANS]
    return [
        *({"className": name} for name in plain),
        *_at_threshold(judge.threshold or 0.5),
        {"className": "ConfusionMatrixPlot", "config": '"num_thresholds": 100'},
        {"className": "CalibrationPlot", "config": '"num_buckets": 10'},
    ]


def _at_threshold(threshold: float) -> list[dict[str, str]]:
    # TFMA flags scores above its threshold, we from the threshold on.
    below = float(np.nextafter(threshold, 0.0))
    names = ("Precision", "Recall", "ConfusionMatrixAtThresholds")
    return [
        *({"className": name, "config": f'"thresholds": [{below!r}]'} for name in names),
        {"className": "BinaryAccuracy", "config": f'"threshold": {below!r}'},
    ]


def _label_specs(judge: Judge) -> list[dict[str, Any]]:
    """Return what TFMA is asked of each label on its own."""
    return [
        {
            "binarize": {"classIds": {"values": [k]}},
            "metrics": [*({"className": name} for name in _RANKED), *_at_threshold(threshold)],
        }
        for k, threshold in checked_labels(judge)
    ]


def checked_labels(judge: Judge) -> list[tuple[int, float]]:
    """Return number and threshold of the labels that TFMA judges one by one: all, or 20 evenly spaced."""
    count = len(judge.label_thresholds)
    numbers = np.unique(np.linspace(0, count - 1, min(count, _MOST_LABELS)).round().astype(int))
    return [(int(k), judge.label_thresholds[k]) for k in numbers]


def clip_scores(predictions: np.ndarray) -> np.ndarray:
    """Keep probabilities 1e-7 away from 0 and 1 (float64): TFMA takes their logarithm as they are."""
    return np.clip(predictions.astype(np.float64), EPSILON, 1 - EPSILON)


def tfma_values(
    judge: Judge, predictions: np.ndarray, rows: np.ndarray, metrics: Mapping[str, float | None]
) -> Values:
    """Return what TFMA would find on some rows, computed in numpy.

    Args:
        judge: Labels, weights, task and threshold.
        predictions: `[all rows, classes]`, or `[all rows]` for regression.
        rows: Row numbers.
        metrics: Our metrics of those rows.

    Returns:
        TFMA's metric or plot name -> value in TFMA's type.
    """
    labels, weights = judge.labels[rows], judge.weights[rows]
    extra: Values = {name: metrics[name] for name in _EXTRA if metrics.get(name) is not None}
    extra["example_count"] = float(weights.sum())
    if judge.task == "regression":
        outputs = predictions[rows].astype(np.float64)
        error = outputs - labels
        return (
            extra
            | _means(labels, outputs, weights)
            | {
                "mean_squared_error": weights @ error**2 / weights.sum(),
                "mean_absolute_error": weights @ np.abs(error) / weights.sum(),
            }
        )
    scores = clip_scores(predictions[rows])
    if judge.task == "multiclass":
        return extra | _multiclass_values(labels, scores, weights)
    if judge.task == "multilabel":
        return extra | _multilabel_values(labels == 1, scores, weights, checked_labels(judge))
    return extra | _binary_values(labels == 1, scores[:, 1], weights, judge.threshold or 0.5)


def _divide(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")


def _means(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> Values:
    total = weights.sum()
    return {
        "calibration": _divide(weights @ predictions, weights @ labels),
        "mean_label": _divide(weights @ labels, total),
        "mean_prediction": _divide(weights @ predictions, total),
    }


def _multiclass_values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Values:
    matrix = confusion(labels, scores.argmax(1), weights, scores.shape[1])
    plot = metrics_for_slice_pb2.MultiClassConfusionMatrixAtThresholds()
    entries = plot.matrices.add(threshold=0.0).entries
    for actual, predicted in np.argwhere(matrix > 0):
        entries.add(
            actual_class_id=int(actual),
            predicted_class_id=int(predicted),
            num_weighted_examples=matrix[actual, predicted],
        )
    loss = row_log_loss(scores[np.arange(len(labels)), labels])
    return {
        "sparse_categorical_accuracy": _divide(np.trace(matrix), weights.sum()),
        "sparse_categorical_crossentropy": _divide(weights @ loss, weights.sum()),
        "multi_class_confusion_matrix_plot": plot,
    }


def _multilabel_values(
    wanted: np.ndarray, scores: np.ndarray, weights: np.ndarray, thresholds: Sequence[tuple[int, float]]
) -> Values:
    every = _binary_values(wanted.ravel(), scores.ravel(), np.repeat(weights, wanted.shape[1]), 0.5)
    shared = ("auc", "auc_precision_recall", "binary_crossentropy", "calibration", "mean_label")
    values = {name: every[name] for name in (*shared, "mean_prediction")}
    single = ("auc", "auc_precision_recall", "precision", "recall", "binary_accuracy")
    for k, threshold in thresholds:
        found = _binary_values(wanted[:, k], scores[:, k], weights, threshold)
        values |= {f"{name}[{k}]": found[name] for name in (*single, "confusion_matrix_at_thresholds")}
    return values


def _rebinned(thresholds: Sequence[float]) -> np.ndarray:
    """Return TFMA's bin for each of its buckets 0..10001, under thresholds that start below 0."""
    starts = np.array([t + 1e-7 if t != 0 else t for t in thresholds])
    left = np.concatenate([[-np.inf], np.arange(_BUCKETS) / _BUCKETS, [np.inf]])
    return np.maximum(np.searchsorted(starts, left, side="right") - 1, 0)


_AUC_THRESHOLDS = [-1e-7, *((i + 1) / (_BUCKETS - 1) for i in range(_BUCKETS - 2)), 1 + 1e-7]
_AUC_BINS = _rebinned(_AUC_THRESHOLDS)
_PLOT_THRESHOLDS = [-1e-6, *(i / 100 for i in range(101))]
_PLOT_BINS = _rebinned(_PLOT_THRESHOLDS)


def _from_top(bins: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Sum weights in bins at or above each bin, `[count]`."""
    sums: np.ndarray = np.cumsum(np.bincount(bins, weights, count)[::-1])[::-1]
    return sums


def _binary_values(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, threshold: float) -> Values:
    (tn, fp), (fn, tp) = binary_confusion(positive, scores >= threshold, weights)
    loss = row_log_loss(np.where(positive, scores, 1 - scores))
    buckets = np.clip((scores * _BUCKETS + 1).astype(np.int64), 0, _BUCKETS + 1)
    hits, misses = weights * positive, weights * ~positive
    auc, pr_auc = _areas(_AUC_BINS[buckets], hits, misses)
    below = float(np.nextafter(threshold, 0.0))
    return _means(positive.astype(np.float64), scores, weights) | {
        "binary_accuracy": _divide(tp + tn, weights.sum()),
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, tp + fn),
        "auc": auc,
        "auc_precision_recall": pr_auc,
        "binary_crossentropy": _divide(weights @ loss, weights.sum()),
        "confusion_matrix_at_thresholds": bcm.Matrices([below], [tp], [tn], [fp], [fn]),
        "confusion_matrix_plot": _confusion_plot(_PLOT_BINS[buckets], hits, misses),
        "calibration_plot": _calibration_plot(buckets, scores, positive, weights),
    }


def _areas(bins: np.ndarray, hits: np.ndarray, misses: np.ndarray) -> tuple[float, float]:
    """Return TFMA's AUC and interpolated PR-AUC (Davis and Goadrich 2006) from 10,000 thresholds."""
    tp, fp = _from_top(bins, hits, _BUCKETS), _from_top(bins, misses, _BUCKETS)
    positives, negatives = tp[0], fp[0]
    tp[-1] = fp[-1] = 0.0
    area = -np.sum(np.diff(fp) * (tp[1:] + tp[:-1]) / 2)
    auc = area / (positives * negatives) if positives and negatives else 0.0
    flagged = tp + fp
    moved = np.flatnonzero(np.diff(flagged))
    dtp, dp = tp[moved] - tp[moved + 1], flagged[moved] - flagged[moved + 1]
    slope = dtp / dp
    intercept = tp[moved + 1] - slope * flagged[moved + 1]
    after = flagged[moved + 1]
    growth = np.divide(flagged[moved], after, out=np.ones_like(after), where=after != 0)
    pr = np.sum(slope * (dtp + intercept * np.log(growth))) / positives if positives else 0.0
    return float(auc), float(pr)


def _confusion_plot(bins: np.ndarray, hits: np.ndarray, misses: np.ndarray) -> Any:
    tp, fp = (_from_top(bins, side, len(_PLOT_THRESHOLDS)) for side in (hits, misses))
    matrices = bcm.Matrices(_PLOT_THRESHOLDS, tp, fp[0] - fp, fp, tp[0] - tp)
    return matrices.to_proto().confusion_matrix_at_thresholds


def _calibration_plot(
    buckets: np.ndarray, scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> Any:
    """Return TFMA's calibration plot: ten bins and one each for scores below 0 and from 1 on."""
    starts = [float("-inf"), *(i / 10 for i in range(11))]
    left = np.concatenate([[-np.inf], np.arange(_BUCKETS) / _BUCKETS, [np.inf]])
    bins = (np.searchsorted(starts, left, side="right") - 1)[buckets]
    sums = [np.bincount(bins, values, 12) for values in (weights * positive, weights * scores, weights)]
    plot = metrics_for_slice_pb2.CalibrationHistogramBuckets()
    for index, (label, prediction, count) in enumerate(zip(*sums, strict=True)):
        plot.buckets.add(
            lower_threshold_inclusive=starts[index],
            upper_threshold_exclusive=starts[index + 1] if index < 11 else float("inf"),
            total_weighted_label={"value": label},
            total_weighted_refined_prediction={"value": prediction},
            num_weighted_examples={"value": count},
        )
    return plot


def write_record(
    folder: str, record: Record, results: Iterable[tuple[Mapping[str, str], Values]], data: str, model: str
) -> None:
    """Write metrics, plots and config as TFMA does.

    Args:
        folder: Where to; made if it is not there.
        record: Config and keys.
        results: (slice keys, values by TFMA's name) for all rows and every slice.
        data: Location of the examples, for display.
        model: Location of the model, for display.
    """
    os.makedirs(folder, exist_ok=True)
    paths = {
        kind: os.path.join(folder, f"{kind}-00000-of-00001.tfrecord")
        for kind in ("metrics", "plots", "attributions")
    }
    with tf.io.TFRecordWriter(paths["attributions"]):
        pass  # there are none; TFMA writes an empty file too
    with tf.io.TFRecordWriter(paths["metrics"]) as metrics, tf.io.TFRecordWriter(paths["plots"]) as plots:
        for keys, values in results:
            place = tuple(sorted(keys.items()))
            keyed = {
                record.keys.get(name) or metric_types.MetricKey(name): value for name, value in values.items()
            }
            shown = {key: value for key, value in keyed.items() if not isinstance(key, metric_types.PlotKey)}
            drawn = {key: value for key, value in keyed.items() if isinstance(key, metric_types.PlotKey)}
            metrics.write(
                tfma_writer.convert_slice_metrics_to_proto((place, shown), None).SerializeToString()
            )
            plots.write(tfma_writer.convert_slice_plots_to_proto((place, drawn), None).SerializeToString())
    run = config_pb2.EvalRun(
        eval_config=record.config,
        version=tfma_version.VERSION,
        data_location=data,
        model_locations={"": model},
    )
    with open(os.path.join(folder, "eval_config.json"), "w", encoding="utf-8") as stream:
        stream.write(json_format.MessageToJson(run))
