"""Points of curves and histograms for the report, at most 200 of each."""

from typing import Any

import numpy as np

from .metrics import Ranking, calibration_bins

__all__ = ["binary_curves", "calibration_curve", "counts_over_thresholds", "residuals"]

_POINTS = 200
_GRID = 40


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
    calibration = calibration_curve(positive, scores, weights)
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


def calibration_curve(hit: np.ndarray, chance: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Compare probabilities with what happened.

    Args:
        hit: Whether the event happened, bool `[rows]`.
        chance: Its predicted probability `[rows]`.
        weights: `[rows]`.

    Returns:
        `{predicted, observed, rows}`: mean prediction, share of hits and weight of the bins that hold rows.
    """
    total, predicted, observed = calibration_bins(hit, chance, weights)
    some = total > 0
    return {
        "predicted": (predicted[some] / total[some]).tolist(),
        "observed": (observed[some] / total[some]).tolist(),
        "rows": [_plain(value) for value in total[some]],
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
    """Return the distribution of prediction - truth, alone and by prediction, and of prediction and truth.

    Args:
        labels: True values `[rows]`.
        outputs: Predicted values `[rows]`.
        weights: `[rows]`.
        seed: Of the sample.

    Returns:
        `{bins: 51 edges, counts: [50], predicted, actual, density, by_predicted}`: at most 200 rows in the
        sample `predicted`, `actual`; `density` `{edges: 41, counts: [40][40]}`: rows are bins of the truth,
        columns bins of predictions, from the 0.5th to the 99.5th percentile of both (beyond them: the
        outer bins); `by_predicted` `{predicted, rows, low, median, high}` for ten groups of rows by
        prediction: mean prediction, number of rows, 10th, 50th and 90th percentile of the residual.
    """
    counts, edges = np.histogram(outputs - labels, bins=50, weights=weights)
    sample = np.sort(np.random.default_rng(seed).permutation(len(labels))[:_POINTS])
    return {
        "bins": edges.tolist(),
        "counts": [_plain(value) for value in counts],
        "predicted": outputs[sample].tolist(),
        "actual": labels[sample].tolist(),
        "density": _density(labels, outputs, weights),
        "by_predicted": _by_predicted(labels, outputs),
    }


def _density(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Count rows on a grid of truth and prediction."""
    low, high = np.percentile(np.concatenate([labels, outputs]), [0.5, 99.5])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _GRID + 1)
    rows, columns = np.clip(labels, low, high), np.clip(outputs, low, high)
    counts, _, _ = np.histogram2d(rows, columns, bins=[edges, edges], weights=weights)
    return {"edges": edges.tolist(), "counts": [[_plain(value) for value in row] for row in counts]}


def _by_predicted(labels: np.ndarray, outputs: np.ndarray) -> dict[str, list[float]]:
    """Describe residuals in ten groups of rows, from the lowest predictions to the highest."""
    order = np.argsort(outputs, kind="stable")
    found: dict[str, list[float]] = {name: [] for name in ("predicted", "rows", "low", "median", "high")}
    for part in np.array_split(order, min(10, len(order))):
        low, median, high = np.percentile(outputs[part] - labels[part], [10, 50, 90])
        values = (outputs[part].mean(), len(part), low, median, high)
        for name, value in zip(found, values, strict=True):
            found[name].append(_plain(float(value)))
    return found
