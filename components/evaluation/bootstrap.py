"""Bootstrap intervals, vectorised over resamples.

Each resample gives every row a count drawn from Poisson(1), the limit of drawing rows with replacement.
The draws are made once and shared by all variants and slices. Curves are summed in bins of scores, and the
interval is shifted by the difference between the exact and the binned value.
"""

from collections.abc import Mapping

import numpy as np

from .metrics import Metrics, class_metrics_of_counts, row_log_loss

__all__ = ["Intervals", "Resampler"]

Intervals = dict[str, list[float]]

_BINS = 200
_LEVELS = 1 << 16
_COLUMNS = 64  # resamples summed at once: [rows, 64] float32 is what must fit in memory


def _poisson_table() -> np.ndarray:
    """Return Poisson(1) quantiles at 65,536 even levels: uint16 noise indexes it (6 times faster)."""
    chances = np.exp(-1.0) / np.cumprod(np.concatenate([[1.0], np.arange(1.0, 12.0)]))
    return np.searchsorted(np.cumsum(chances), (np.arange(_LEVELS) + 0.5) / _LEVELS).astype(np.uint8)


class Resampler:
    """Shared resamples of the test rows.

    Args:
        rows: Number of test rows.
        samples: Number of resamples, >= 1.
        level: Confidence level in (0, 1).
        seed: Of the draws.
        weights: Example weights `[rows]`.
    """

    def __init__(self, rows: int, samples: int, level: float, seed: int, weights: np.ndarray) -> None:
        noise = np.random.default_rng(seed).integers(0, _LEVELS, (rows, samples), np.uint16)
        self._draws = _poisson_table()[noise]
        self._weights = weights.astype(np.float32)
        self._tails = [50 * (1 - level), 50 * (1 + level)]

    def _sums(self, rows: np.ndarray, codes: np.ndarray, count: int, values: np.ndarray | None) -> np.ndarray:
        """Sum weights (times `values`) by code in every resample, `[samples, count]`."""
        order = np.argsort(codes, kind="stable")
        chosen, ordered = rows[order], codes[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        factor = self._weights[chosen] if values is None else self._weights[chosen] * values[order]
        out = np.zeros((count, self._draws.shape[1]), np.float64)
        for first in range(0, self._draws.shape[1], _COLUMNS):
            block = self._draws[chosen, first : first + _COLUMNS] * factor[:, None].astype(np.float32)
            out[ordered[starts], first : first + _COLUMNS] = np.add.reduceat(block, starts, axis=0)
        return out.T

    def _limits(
        self, resampled: Mapping[str, np.ndarray], exact: Metrics, binned: Mapping[str, float]
    ) -> Intervals:
        """Return percentiles of each metric that has a value, shifted to the exact one."""
        found: Intervals = {}
        for name, values in resampled.items():
            point, known = exact.get(name), values[np.isfinite(values)]
            if point is None or len(known) < len(values) / 2:
                continue
            low, high = np.percentile(known, self._tails) + (point - binned.get(name, point))
            found[name] = [float(low), float(high)]
        return found

    def binary(
        self, rows: np.ndarray, positive: np.ndarray, scores: np.ndarray, threshold: float, exact: Metrics
    ) -> Intervals:
        """Return intervals of accuracy, precision, recall, f1, auc, pr_auc and log_loss.

        Args:
            rows: Row numbers of the slice `[n]`.
            positive: bool `[n]`.
            scores: Probability of the positive class `[n]`.
            threshold: Of the decision.
            exact: Metrics of the slice.
        """
        edges = np.unique(
            np.append(np.quantile(scores, np.arange(1, _BINS) / _BINS, method="higher"), threshold)
        )
        cut = int(np.searchsorted(edges, threshold)) + 1
        bins = len(edges) + 1
        # Score >= threshold exactly where the bin is at or above `cut`; higher bins are higher scores.
        codes = 2 * np.searchsorted(edges, scores, side="right") + positive
        cells = self._sums(rows, codes, 2 * bins, None)
        chance = np.where(positive, scores, 1 - scores)
        losses = self._sums(rows, np.zeros(len(rows), np.int64), 1, row_log_loss(chance))[:, 0]
        resampled = _binned_binary(cells.reshape(-1, bins, 2), cut)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled["log_loss"] = losses / cells.sum(1)
        once = np.bincount(codes, self._weights[rows], 2 * bins).reshape(1, bins, 2)
        point = {name: float(values[0]) for name, values in _binned_binary(once, cut).items()}
        return self._limits(resampled, exact, {name: point[name] for name in ("auc", "pr_auc")})

    def multiclass(
        self, rows: np.ndarray, labels: np.ndarray, scores: np.ndarray, exact: Metrics
    ) -> Intervals:
        """Return intervals of accuracy, macro precision and recall, macro_f1, weighted_f1 and log_loss.

        Args:
            rows: Row numbers of the slice `[n]`.
            labels: Class indices `[n]`.
            scores: `[n, classes]`.
            exact: Metrics of the slice.
        """
        classes = scores.shape[1]
        predicted = scores.argmax(1)
        right = predicted == labels
        true = self._sums(rows, labels, classes, None)
        flagged = self._sums(rows, predicted, classes, None)
        hits = self._sums(rows, labels, classes, right.astype(np.float32))
        resampled = class_metrics_of_counts(hits, true, flagged)
        resampled["f1"] = resampled["macro_f1"]
        chance = scores[np.arange(len(rows)), labels]
        losses = self._sums(rows, np.zeros(len(rows), np.int64), 1, row_log_loss(chance))[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled["log_loss"] = losses / true.sum(1)
        return self._limits(resampled, exact, {})

    def regression(
        self, rows: np.ndarray, labels: np.ndarray, outputs: np.ndarray, exact: Metrics
    ) -> Intervals:
        """Return intervals of rmse, mae and r2.

        Args:
            rows: Row numbers of the slice `[n]`.
            labels: True values `[n]`.
            outputs: Predicted values `[n]`.
            exact: Metrics of the slice.
        """
        error = outputs - labels
        centred = labels - labels.mean()  # the spread of large values would drown in float32
        zeros = np.zeros(len(rows), np.int64)

        def total(values: np.ndarray | None) -> np.ndarray:
            return self._sums(rows, zeros, 1, values)[:, 0]

        count, squared = total(None), total(error**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = total(centred**2) - total(centred) ** 2 / count
            resampled = {
                "rmse": np.sqrt(squared / count),
                "mae": total(np.abs(error)) / count,
                "r2": 1 - squared / spread,
            }
        return self._limits(resampled, exact, {})


def _binned_binary(cells: np.ndarray, cut: int) -> dict[str, np.ndarray]:
    """Compute metrics from counts `[samples, bins, 2]` (last axis: negatives, positives)."""
    fp = np.cumsum(cells[:, ::-1, 0], axis=1)  # from the highest bin down
    tp = np.cumsum(cells[:, ::-1, 1], axis=1)
    negatives, positives = fp[:, -1], tp[:, -1]
    flagged = cells.shape[1] - cut  # bins at or above the threshold
    hit = tp[:, flagged - 1] if flagged else np.zeros_like(positives)
    wrong = fp[:, flagged - 1] if flagged else np.zeros_like(positives)
    steps_fp, steps_tp = cells[:, ::-1, 0], cells[:, ::-1, 1]
    middle_tp, middle_fp = tp - steps_tp / 2, fp - steps_fp / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(middle_tp / (middle_tp + middle_fp))
        return {
            "accuracy": (hit + negatives - wrong) / (negatives + positives),
            "precision": hit / (hit + wrong),
            "recall": hit / positives,
            "f1": 2 * hit / (hit + wrong + positives),
            "auc": (steps_fp * middle_tp).sum(1) / (negatives * positives),
            "pr_auc": (steps_tp * precision).sum(1) / positives,
        }
