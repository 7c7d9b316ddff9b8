"""One judge for every variant: the same rows, slices, threshold and code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.data.config import Task

from .bootstrap import Intervals, Resampler
from .curves import binary_curves, counts_over_thresholds, residuals
from .metrics import Metrics, Ranking, binary_metrics, multiclass_metrics, regression_metrics
from .slices import Slice

__all__ = ["AXIS", "Judge", "agreement"]

AXIS = "rows are true labels"

_STEPS = 100
_SLICE_STEPS = 20


@dataclass(frozen=True)
class _Judged:
    """What one set of rows gave."""

    metrics: Metrics
    intervals: Intervals
    matrix: np.ndarray | None
    ranking: Ranking | None


@dataclass(frozen=True)
class Judge:
    """Labels, slices and threshold that all variants share.

    Attributes:
        task: What is predicted.
        classes: Label values in output order; binary: the last is positive.
        labels: Class indices int64 `[rows]`, or float64 `[rows]` for regression.
        weights: Example weights float64 `[rows]`; ones where there are none.
        slices: Slices of the rows.
        threshold: Decision threshold of a binary task, else None.
        resampler: For intervals, or None.
        min_slice_rows: Slices with fewer rows get no intervals.
        seed: Of the sample of residuals.
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

    def judge(self, predictions: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
        """Return a variant's results, as docs/artifacts.md describes them.

        Args:
            predictions: `[rows, classes]`, or `[rows]` for regression.
            reference: Predictions of float32, or None where this is float32.
        """
        every = np.arange(len(self.labels))
        whole = self._judge_rows(predictions, every, with_intervals=True)
        result: dict[str, Any] = {
            "metrics": whole.metrics,
            "intervals": whole.intervals,
            "slices": [self._slice(predictions, reference, part) for part in self.slices],
            "confusion_matrix": self._matrix(whole.matrix),
            "agreement": self._agreement(predictions, reference, every),
        }
        if whole.ranking is not None:
            positive, scores = self.labels == 1, predictions[:, 1].astype(np.float64)
            result["thresholds"] = counts_over_thresholds(whole.ranking, _STEPS)
            result["curves"] = binary_curves(whole.ranking, positive, scores, self.weights)
        if self.task == "regression":
            result["residuals"] = residuals(
                self.labels, predictions.astype(np.float64), self.weights, self.seed
            )
        return result

    def _slice(self, predictions: np.ndarray, reference: np.ndarray | None, part: Slice) -> dict[str, Any]:
        judged = self._judge_rows(
            predictions, part.rows, with_intervals=len(part.rows) >= self.min_slice_rows
        )
        result: dict[str, Any] = {
            "keys": dict(part.keys),
            "rows": len(part.rows),
            "metrics": judged.metrics,
            "intervals": judged.intervals,
            "confusion_matrix": self._matrix(judged.matrix),
            "agreement": self._agreement(predictions, reference, part.rows),
        }
        if judged.ranking is not None:
            result["thresholds"] = counts_over_thresholds(judged.ranking, _SLICE_STEPS)
        return result

    def _judge_rows(self, predictions: np.ndarray, rows: np.ndarray, *, with_intervals: bool) -> _Judged:
        labels, weights = self.labels[rows], self.weights[rows]
        chosen = predictions[rows].astype(np.float64)
        draw = self.resampler if with_intervals else None
        if self.task == "regression":
            metrics = regression_metrics(labels, chosen, weights)
            return _Judged(
                metrics, draw.regression(rows, labels, chosen, metrics) if draw else {}, None, None
            )
        if self.threshold is None:
            metrics, matrix = multiclass_metrics(labels, chosen, weights)
            return _Judged(
                metrics, draw.multiclass(rows, labels, chosen, metrics) if draw else {}, matrix, None
            )
        positive, scores = labels == 1, chosen[:, 1]
        metrics, matrix, ranking = binary_metrics(positive, scores, weights, self.threshold)
        intervals = draw.binary(rows, positive, scores, self.threshold, metrics) if draw else {}
        return _Judged(metrics, intervals, matrix, ranking)

    def _matrix(self, matrix: np.ndarray | None) -> dict[str, Any] | None:
        if matrix is None:
            return None
        whole = bool((matrix == np.round(matrix)).all())
        values = matrix.astype(np.int64) if whole else matrix
        return {"labels": list(self.classes), "matrix": values.tolist(), "axis": AXIS}

    def _agreement(
        self, predictions: np.ndarray, reference: np.ndarray | None, rows: np.ndarray
    ) -> Mapping[str, float | None] | None:
        if reference is None:
            return None
        return agreement(predictions[rows], reference[rows], self.threshold)


def agreement(
    predictions: np.ndarray, reference: np.ndarray, threshold: float | None
) -> dict[str, float | None]:
    """Compare two sets of predictions on the same rows.

    Args:
        predictions: `[rows, classes]`, or `[rows]` for regression.
        reference: The same of the model compared with.
        threshold: Of a binary decision; None: the largest score decides.

    Returns:
        `max_abs_diff`, and `flip_rate`: the share of rows whose predicted class differs (None for
        regression).
    """
    difference = np.abs(predictions.astype(np.float64) - reference).max() if len(predictions) else 0.0
    if predictions.ndim == 1:
        return {"max_abs_diff": float(difference), "flip_rate": None}
    flips = _decide(predictions, threshold) != _decide(reference, threshold)
    return {"max_abs_diff": float(difference), "flip_rate": float(flips.mean())}


def _decide(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    if threshold is None:
        return scores.argmax(1)
    return scores[:, 1].astype(np.float64) >= threshold
