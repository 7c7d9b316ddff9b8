"""Points of curves and histograms for the report, at most 200 of each."""

from typing import Any

import numpy as np

from .metrics import Ranking, calibration_bins

__all__ = ["binary_curves", "counts_over_thresholds", "residuals"]

_POINTS = 200


def counts_over_thresholds(ranking: Ranking, steps: int) -> list[dict[str, float]]:
    """Count decisions at evenly spaced thresholds over [0, 1].

    Args:
        ranking: Rows sorted by score.
        steps: Number of steps; `steps + 1` thresholds.

    Returns:
        `{threshold, tp, fp, tn, fn}` for each; a row is flagged from the threshold on.
    """
    thresholds = np.round(np.arange(steps + 1) / steps, 6)
    above = np.searchsorted(-ranking.scores, -thresholds, side="right")  # distinct scores >= threshold
    tp = np.concatenate([[0.0], ranking.tp])
    fp = np.concatenate([[0.0], ranking.fp])
    return [
        {
            "threshold": float(threshold),
            "tp": _plain(tp[k]),
            "fp": _plain(fp[k]),
            "tn": _plain(fp[-1] - fp[k]),
            "fn": _plain(tp[-1] - tp[k]),
        }
        for threshold, k in zip(thresholds, above, strict=True)
    ]


def _plain(value: float) -> float:
    """Return whole numbers as int, so that counts read as counts."""
    return int(value) if value == int(value) else float(value)


def binary_curves(
    ranking: Ranking, positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Return the ROC, precision-recall and calibration curves.

    Args:
        ranking: The rows sorted by score.
        positive: bool `[rows]`.
        scores: `[rows]`.
        weights: `[rows]`.

    Returns:
        `{roc: {fpr, tpr}, pr: {recall, precision}, calibration: {predicted, observed, rows}}`; ROC
        and PR are empty where one class is absent.
    """
    total, predicted, observed = calibration_bins(positive, scores, weights)
    some = total > 0
    calibration = {
        "predicted": (predicted[some] / total[some]).tolist(),
        "observed": (observed[some] / total[some]).tolist(),
        "rows": [_plain(value) for value in total[some]],
    }
    empty: dict[str, Any] = {"roc": {"fpr": [], "tpr": []}, "pr": {"recall": [], "precision": []}}
    if ranking.auc is None:
        return empty | {"calibration": calibration}
    tpr = np.concatenate([[0.0], ranking.tp / ranking.tp[-1]])
    fpr = np.concatenate([[0.0], ranking.fp / ranking.fp[-1]])
    along = _spread(tpr + fpr)
    recall = ranking.tp / ranking.tp[-1]
    precision = ranking.tp / np.maximum(ranking.tp + ranking.fp, np.finfo(float).tiny)
    steps = _spread(recall)
    return {
        "roc": {"fpr": fpr[along].tolist(), "tpr": tpr[along].tolist()},
        "pr": {"recall": recall[steps].tolist(), "precision": precision[steps].tolist()},
        "calibration": calibration,
    }


def _spread(position: np.ndarray) -> np.ndarray:
    """Choose at most 200 indices, evenly along a non-decreasing position, the ends included."""
    if len(position) <= _POINTS:
        return np.arange(len(position))
    targets = np.linspace(position[0], position[-1], _POINTS)
    chosen = np.searchsorted(position, targets)
    chosen[0], chosen[-1] = 0, len(position) - 1
    return np.unique(np.minimum(chosen, len(position) - 1))


def residuals(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the histogram of prediction - truth and a sample of rows for a scatter plot.

    Args:
        labels: True values `[rows]`.
        outputs: Predicted values `[rows]`.
        weights: `[rows]`.
        seed: Of the sample.

    Returns:
        `{bins: 51 edges, counts: [50], predicted, actual}`, at most 200 rows in the sample.
    """
    counts, edges = np.histogram(outputs - labels, bins=50, weights=weights)
    sample = np.sort(np.random.default_rng(seed).permutation(len(labels))[:_POINTS])
    return {
        "bins": edges.tolist(),
        "counts": [_plain(value) for value in counts],
        "predicted": outputs[sample].tolist(),
        "actual": labels[sample].tolist(),
    }
