"""Bootstrap intervals, vectorised over resamples.

The calibration error has none: noise adds to it, so resamples lie above the value.

Each resample gives every row a count drawn from Poisson(1), the limit of drawing rows with replacement.
The draws are made once and shared by all variants and slices. Curves are summed in bins of scores, and the
interval is shifted by the difference between the exact and the binned value.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from .metrics import Metrics, class_metrics_of_counts, row_log_loss

__all__ = ["Intervals", "Resampler"]

Intervals = dict[str, list[float]]

_BINS = 200
_LEVELS = 1 << 16
_BINNED = ("auc", "pr_auc")
_MOST_RANKED = 4_000_000  # classes times rows beyond which auc and pr_auc of several classes get no interval
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
        resampled, point = self._ranked(rows, positive, scores, threshold)
        chance = np.where(positive, scores, 1 - scores)
        resampled["log_loss"] = self._mean(rows, row_log_loss(chance))
        return self._limits(resampled, exact, {name: point[name] for name in _BINNED})

    def multiclass(
        self, rows: np.ndarray, labels: np.ndarray, scores: np.ndarray, exact: Metrics
    ) -> tuple[Intervals, list[Intervals]]:
        """Return intervals of all metrics of classes, and of precision, recall and f1 of each class.

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
        resampled["log_loss"] = self._mean(rows, row_log_loss(chance))
        among = (scores > chance[:, None]).sum(1) < min(5, classes - 1)
        resampled["top_k_accuracy"] = self._mean(rows, among)
        binned = self._one_by_one(resampled, rows, labels[:, None] == np.arange(classes), scores, None)
        each = _class_limits(hits, true, flagged, self._tails)
        return self._limits(resampled, exact, binned), each

    def multilabel(
        self, rows: np.ndarray, wanted: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, exact: Metrics
    ) -> tuple[Intervals, list[Intervals]]:
        """Return intervals of all metrics of labels, and of precision, recall and f1 of each label.

        Args:
            rows: Row numbers of the slice `[n]`.
            wanted: Whether a row has a label, bool `[n, K]`.
            scores: `[n, K]`.
            thresholds: `[K]`.
            exact: Metrics of the slice.
        """
        given = scores >= thresholds
        true, flagged, hits = (
            np.stack([self._total(rows, part[:, k]) for k in range(wanted.shape[1])], axis=1)
            for part in (wanted, given, wanted & given)
        )
        resampled = class_metrics_of_counts(hits, true, flagged)
        del resampled["accuracy"]
        resampled["f1"] = resampled["macro_f1"]
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled["micro_precision"] = hits.sum(1) / flagged.sum(1)
            resampled["micro_recall"] = hits.sum(1) / true.sum(1)
            resampled["micro_f1"] = 2 * hits.sum(1) / (flagged.sum(1) + true.sum(1))
        losses = row_log_loss(np.where(wanted, scores, 1 - scores))
        resampled["log_loss"] = self._mean(rows, losses.mean(1))
        resampled["subset_accuracy"] = self._mean(rows, (wanted == given).all(1))
        resampled["hamming_loss"] = self._mean(rows, (wanted != given).mean(1))
        binned = self._one_by_one(resampled, rows, wanted, scores, thresholds)
        return self._limits(resampled, exact, binned), _class_limits(hits, true, flagged, self._tails)

    def regression(
        self, rows: np.ndarray, labels: np.ndarray, outputs: np.ndarray, exact: Metrics
    ) -> Intervals:
        """Return intervals of rmse, mae, r2, bias, mape and median_ae.

        Args:
            rows: Row numbers of the slice `[n]`.
            labels: True values `[n]`.
            outputs: Predicted values `[n]`.
            exact: Metrics of the slice.
        """
        error = outputs - labels
        centred = labels - labels.mean()  # the spread of large values would drown in float32
        count, squared = self._total(rows, None), self._total(rows, error**2)
        some = labels != 0
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = self._total(rows, centred**2) - self._total(rows, centred) ** 2 / count
            shares = np.divide(np.abs(error), np.abs(labels), out=np.zeros_like(error), where=some)
            resampled = {
                "rmse": np.sqrt(squared / count),
                "mae": self._total(rows, np.abs(error)) / count,
                "r2": 1 - squared / spread,
                "bias": self._total(rows, error) / count,
                "mape": self._total(rows, shares) / self._total(rows, some),
            }
        resampled["median_ae"], once = self._medians(rows, np.abs(error))
        return self._limits(resampled, exact, {"median_ae": once})

    def mean(self, rows: np.ndarray, values: np.ndarray) -> list[float] | None:
        """Return the interval of the mean of `values` `[n]` over `rows`; None where it has none."""
        known = self._mean(rows, values)
        known = known[np.isfinite(known)]
        return [float(value) for value in np.percentile(known, self._tails)] if len(known) else None

    def _total(self, rows: np.ndarray, values: np.ndarray | None) -> np.ndarray:
        """Return the weighted sum of `values` `[n]` in every resample, `[samples]`; None: of ones."""
        factor = None if values is None else values.astype(np.float64)
        return self._sums(rows, np.zeros(len(rows), np.int64), 1, factor)[:, 0]

    def _mean(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = self._total(rows, values) / self._total(rows, None)
        return found

    def _ranked(
        self, rows: np.ndarray, positive: np.ndarray, scores: np.ndarray, threshold: float
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Return metrics of a binary decision in every resample, and once without resampling."""
        edges = np.unique(
            np.append(np.quantile(scores, np.arange(1, _BINS) / _BINS, method="higher"), threshold)
        )
        cut = int(np.searchsorted(edges, threshold)) + 1
        bins = len(edges) + 1
        # Score >= threshold exactly where the bin is at or above `cut`; higher bins are higher scores.
        codes = 2 * np.searchsorted(edges, scores, side="right") + positive
        cells = self._sums(rows, codes, 2 * bins, None)
        once = np.bincount(codes, self._weights[rows], 2 * bins).reshape(1, bins, 2)
        point = {name: float(values[0]) for name, values in _binned_binary(once, cut).items()}
        return _binned_binary(cells.reshape(-1, bins, 2), cut), point

    def _one_by_one(
        self,
        resampled: dict[str, np.ndarray],
        rows: np.ndarray,
        wanted: np.ndarray,
        scores: np.ndarray,
        thresholds: np.ndarray | None,
    ) -> dict[str, float]:
        """Add the means over classes of auc and pr_auc to `resampled`; return both without resampling.

        Left out where classes times rows are so many that it would take longer than all else.
        """
        some = [k for k in range(wanted.shape[1]) if 0 < wanted[:, k].sum() < len(rows)]
        if not some or len(some) * len(rows) > _MOST_RANKED:
            return {}
        found = [
            self._ranked(rows, wanted[:, k], scores[:, k], 0.5 if thresholds is None else thresholds[k])
            for k in some
        ]
        for name in _BINNED:
            with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, as it should be
                resampled[name] = np.nanmean([one[name] for one, _ in found], axis=0)
        return {name: float(np.nanmean([point[name] for _, point in found])) for name in _BINNED}

    def _medians(self, rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the median of `values` >= 0 in every resample, by quantile bins, and once without."""
        edges = np.unique(np.quantile(values, np.arange(_BINS + 1) / _BINS))
        codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
        count = max(len(edges) - 1, 1)
        middles = (edges[:-1] + edges[1:]) / 2 if len(edges) > 1 else edges
        once = np.bincount(codes, self._weights[rows], count)[None]
        return _middle(self._sums(rows, codes, count, None), middles), float(_middle(once, middles)[0])


def _middle(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the value of the bin in which half of each row of `counts` is reached; NaN where it is empty."""
    below = np.cumsum(counts, axis=1)
    found = values[np.argmax(below >= below[:, -1:] / 2, axis=1)]
    return np.where(below[:, -1] > 0, found, np.nan)


def _class_limits(
    hits: np.ndarray, true: np.ndarray, flagged: np.ndarray, tails: list[float]
) -> list[Intervals]:
    """Return intervals of precision, recall and f1 of each class, from resampled weights `[samples, K]`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = {
            "precision": hits / flagged,
            "recall": hits / true,
            "f1": 2 * hits / (true + flagged),
        }
    found: list[Intervals] = []
    for k in range(hits.shape[1]):
        known = {name: values[np.isfinite(values[:, k]), k] for name, values in resampled.items()}
        found.append(
            {
                name: [float(value) for value in np.percentile(values, tails)]
                for name, values in known.items()
                if len(values) >= max(1, len(hits) / 2)
            }
        )
    return found


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
