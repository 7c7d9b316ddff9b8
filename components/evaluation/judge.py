"""One judge for every variant: the same rows, slices, thresholds, costs and code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.data.config import Task

from .bootstrap import Intervals, Resampler
from .curves import binary_curves, calibration_curve, counts_over_thresholds, residuals
from .metrics import (
    Metrics,
    Ranking,
    binary_metrics,
    class_table,
    expected_cost,
    multiclass_metrics,
    regression_metrics,
)
from .multilabel import multilabel_metrics
from .slices import Slice

__all__ = ["AXIS", "Judge", "agreement"]

AXIS = "rows are true labels"

_STEPS = 100
_SLICE_STEPS = 20
_MOST_CLASSES = 30  # of more, slices tell no single class


@dataclass(frozen=True)
class _Judged:
    """What one set of rows gave.

    Attributes:
        metrics: Values.
        intervals: Of the metrics that have one.
        matrix: Confusion matrix `[classes, classes]`, or None.
        ranking: Rows sorted by score (binary), or None.
        label_matrices: `[K, 2, 2]` (multilabel), or None.
        per_class: What was found of each class or label, or None.
    """

    metrics: Metrics
    intervals: Intervals
    matrix: np.ndarray | None = None
    ranking: Ranking | None = None
    label_matrices: np.ndarray | None = None
    per_class: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Judge:
    """Labels, slices and thresholds that all variants share.

    Attributes:
        task: What is predicted.
        classes: Label values in output order; binary: the last is positive.
        labels: Class indices int64 `[rows]`, 0 or 1 `[rows, K]` for multilabel, or float64 `[rows]` for
            regression.
        weights: Example weights float64 `[rows]`; ones where there are none.
        slices: Slices of the rows.
        threshold: Decision threshold of a binary task, else None.
        resampler: For intervals, or None.
        min_slice_rows: Slices with fewer rows get no intervals.
        seed: Of the sample of residuals.
        label_thresholds: Decision threshold of each label (multilabel), else empty.
        costs: Cost of each decision `[classes, classes]`, rows are true labels; None: no metric `cost`.
    """

    task: Task
    classes: tuple[str, ...]
    labels: np.ndarray
    weights: np.ndarray
    slices: Sequence[Slice]
    threshold: float | None
    resampler: Resampler | None
    min_slice_rows: int
    seed: int
    label_thresholds: tuple[float, ...] = ()
    costs: np.ndarray | None = None

    def judge(self, predictions: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
        """Return a variant's results, as docs/artifacts.md describes them.

        Args:
            predictions: `[rows, classes]`, or `[rows]` for regression.
            reference: Predictions of float32, or None where this is float32.
        """
        every = np.arange(len(self.labels))
        whole = self._judge_rows(predictions, every, with_intervals=True)
        result = self._common(whole, predictions, reference, every)
        result["slices"] = [self._slice(predictions, reference, part) for part in self.slices]
        wide = predictions.astype(np.float64)
        if whole.ranking is not None:
            result["thresholds"] = counts_over_thresholds(whole.ranking, _STEPS)
            result["curves"] = binary_curves(whole.ranking, self.labels == 1, wide[:, 1], self.weights)
        if self.task == "multiclass":
            right = wide.argmax(1) == self.labels
            result["curves"] = {"calibration": calibration_curve(right, wide.max(1), self.weights)}
        if self.task == "multilabel":
            decisions = np.repeat(self.weights, len(self.classes))
            result["curves"] = {
                "calibration": calibration_curve(self.labels.ravel() == 1, wide.ravel(), decisions)
            }
        if self.task == "regression":
            result["residuals"] = residuals(self.labels, wide, self.weights, self.seed)
        return result

    def _slice(self, predictions: np.ndarray, reference: np.ndarray | None, part: Slice) -> dict[str, Any]:
        judged = self._judge_rows(
            predictions, part.rows, with_intervals=len(part.rows) >= self.min_slice_rows
        )
        result = {"keys": dict(part.keys), "rows": len(part.rows)}
        result |= self._common(judged, predictions, reference, part.rows)
        if len(self.classes) > _MOST_CLASSES:
            for name in ("per_class", "label_matrices"):
                result.pop(name, None)
        if judged.ranking is not None:
            result["thresholds"] = counts_over_thresholds(judged.ranking, _SLICE_STEPS)
        return result

    def _common(
        self, judged: _Judged, predictions: np.ndarray, reference: np.ndarray | None, rows: np.ndarray
    ) -> dict[str, Any]:
        """Return what is told of all rows and of a slice alike."""
        result: dict[str, Any] = {
            "metrics": judged.metrics,
            "intervals": judged.intervals,
            "confusion_matrix": None
            if judged.matrix is None
            else {"labels": list(self.classes), "matrix": _counts(judged.matrix), "axis": AXIS},
            "agreement": self._agreement(predictions, reference, rows),
        }
        if judged.label_matrices is not None:
            result["label_matrices"] = [
                {"label": name, "matrix": _counts(matrix), "axis": AXIS}
                for name, matrix in zip(self.classes, judged.label_matrices, strict=True)
            ]
        if judged.per_class is not None:
            result["per_class"] = judged.per_class
        return result

    def _judge_rows(self, predictions: np.ndarray, rows: np.ndarray, *, with_intervals: bool) -> _Judged:
        chosen = predictions[rows].astype(np.float64)
        draw = self.resampler if with_intervals else None
        made = {
            "binary": self._binary,
            "multiclass": self._multiclass,
            "multilabel": self._multilabel,
            "regression": self._regression,
        }[self.task](rows, self.labels[rows], chosen, self.weights[rows], draw)
        if self.costs is not None and made.matrix is not None:
            made.metrics["cost"] = expected_cost(made.matrix, self.costs)
            decided = _decide(chosen, self.threshold).astype(np.int64)
            if draw and (limits := draw.mean(rows, self.costs[self.labels[rows], decided])):
                made.intervals["cost"] = limits
        return made

    def _binary(
        self, rows: np.ndarray, labels: np.ndarray, chosen: np.ndarray, weights: np.ndarray, draw: Any
    ) -> _Judged:
        threshold = 0.5 if self.threshold is None else self.threshold
        positive, scores = labels == 1, chosen[:, 1]
        metrics, matrix, ranking = binary_metrics(positive, scores, weights, threshold)
        intervals = draw.binary(rows, positive, scores, threshold, metrics) if draw else {}
        return _Judged(metrics, intervals, matrix, ranking)

    def _multiclass(
        self, rows: np.ndarray, labels: np.ndarray, chosen: np.ndarray, weights: np.ndarray, draw: Any
    ) -> _Judged:
        metrics, matrix, ranks = multiclass_metrics(labels, chosen, weights)
        table: list[dict[str, Any]] = class_table(self.classes, matrix, ranks)
        intervals, each = draw.multiclass(rows, labels, chosen, metrics) if draw else ({}, [])
        return _Judged(metrics, intervals, matrix, per_class=_with_intervals(table, each))

    def _multilabel(
        self, rows: np.ndarray, labels: np.ndarray, chosen: np.ndarray, weights: np.ndarray, draw: Any
    ) -> _Judged:
        limits = np.array(self.label_thresholds)
        metrics, matrices, table = multilabel_metrics(self.classes, labels, chosen, weights, limits)
        intervals, each = draw.multilabel(rows, labels == 1, chosen, limits, metrics) if draw else ({}, [])
        return _Judged(metrics, intervals, label_matrices=matrices, per_class=_with_intervals(table, each))

    def _regression(
        self, rows: np.ndarray, labels: np.ndarray, chosen: np.ndarray, weights: np.ndarray, draw: Any
    ) -> _Judged:
        metrics = regression_metrics(labels, chosen, weights)
        return _Judged(metrics, draw.regression(rows, labels, chosen, metrics) if draw else {})

    def _agreement(
        self, predictions: np.ndarray, reference: np.ndarray | None, rows: np.ndarray
    ) -> Mapping[str, float | None] | None:
        if reference is None:
            return None
        threshold = np.array(self.label_thresholds) if self.task == "multilabel" else self.threshold
        return agreement(predictions[rows], reference[rows], threshold)


def agreement(
    predictions: np.ndarray, reference: np.ndarray, threshold: float | np.ndarray | None
) -> dict[str, float | None]:
    """Compare two sets of predictions on the same rows.

    Args:
        predictions: `[rows, classes]`, or `[rows]` for regression.
        reference: The same of the model compared with.
        threshold: Of a binary decision; of each label `[K]` (multilabel); None: the largest score decides.

    Returns:
        `max_abs_diff`, and `flip_rate`: the share of rows whose predicted class differs (multilabel: the
        share of label decisions that differ; None for regression).
    """
    difference = np.abs(predictions.astype(np.float64) - reference).max() if len(predictions) else 0.0
    if predictions.ndim == 1:
        return {"max_abs_diff": float(difference), "flip_rate": None}
    flips = _decide(predictions, threshold) != _decide(reference, threshold)
    return {"max_abs_diff": float(difference), "flip_rate": float(flips.mean())}


def _decide(scores: np.ndarray, threshold: float | np.ndarray | None) -> np.ndarray:
    """Return the predicted class `[rows]`, or whether each label is given `[rows, K]`."""
    if threshold is None:
        return scores.argmax(1)
    wide = scores.astype(np.float64)
    return wide >= threshold if isinstance(threshold, np.ndarray) else wide[:, 1] >= threshold


def _counts(matrix: np.ndarray) -> list[list[float]]:
    """Return a matrix as lists, whole numbers as int."""
    whole = bool((matrix == np.round(matrix)).all())
    found: list[list[float]] = (matrix.astype(np.int64) if whole else matrix).tolist()
    return found


def _with_intervals(table: list[dict[str, Any]], each: Sequence[Intervals]) -> list[dict[str, Any]]:
    """Add the intervals of each class to its row."""
    return [row | {"intervals": limits} for row, limits in zip(table, each or [{}] * len(table), strict=True)]
