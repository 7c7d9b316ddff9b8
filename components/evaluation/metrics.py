"""Metrics of predictions against labels, in numpy.

All functions take float64 arrays over the same rows; `weights` are >= 0 (ones where the config names no
weight column). A value that cannot be computed on these rows is None.
"""

from collections.abc import Sequence

import numpy as np

__all__ = [
    "EPSILON",
    "Metrics",
    "Ranking",
    "binary_confusion",
    "binary_metrics",
    "calibration_bins",
    "calibration_error",
    "class_metrics",
    "class_metrics_of_counts",
    "class_table",
    "confusion",
    "expected_cost",
    "max_f1_threshold",
    "mean_known",
    "min_cost_threshold",
    "multiclass_metrics",
    "rank",
    "ratio",
    "regression_metrics",
    "row_log_loss",
]

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1 in logarithms, as Keras and TFMA do."""

Metrics = dict[str, float | None]


def ratio(numerator: float, denominator: float) -> float | None:
    """Return the quotient, or None where the denominator is 0."""
    return float(numerator / denominator) if denominator else None


class Ranking:
    """Counts at every distinct score, from the highest down.

    Attributes:
        scores: Distinct scores, descending, `[n]`.
        tp: Weight of positives with at least that score, `[n]`.
        fp: Weight of negatives with at least that score, `[n]`.
    """

    def __init__(self, scores: np.ndarray, tp: np.ndarray, fp: np.ndarray) -> None:
        self.scores = scores
        self.tp = tp
        self.fp = fp

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve; ties count half."""
        tp, fp = np.concatenate([[0.0], self.tp]), np.concatenate([[0.0], self.fp])
        area = np.sum(np.diff(fp) * (tp[1:] + tp[:-1]) / 2)
        return ratio(area, tp[-1] * fp[-1])

    @property
    def average_precision(self) -> float | None:
        """Mean of precision over the steps of recall (no interpolation), as scikit-learn defines it."""
        steps = np.diff(np.concatenate([[0.0], self.tp]))
        flagged = self.tp + self.fp
        precision = np.divide(self.tp, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        return ratio(np.sum(steps * precision), self.tp[-1] if len(self.tp) else 0.0)


def rank(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Ranking:
    """Sort rows by score and accumulate their weights.

    Args:
        positive: bool `[rows]`.
        scores: Score of the positive class `[rows]`.
        weights: `[rows]`.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, int)
    tp = np.cumsum(np.where(positive[order], weights[order], 0.0))[last]
    fp = np.cumsum(np.where(positive[order], 0.0, weights[order]))[last]
    return Ranking(ordered[last], tp, fp)


def max_f1_threshold(ranking: Ranking) -> float:
    """Return the threshold with the highest F1, half way to the next lower score.

    Half way, so that a variant whose scores differ in the last digits decides alike.

    Returns:
        A number in (0, 1); 0.5 where there are no positives.
    """
    if not len(ranking.tp) or ranking.tp[-1] <= 0:
        return 0.5
    f1 = 2 * ranking.tp / (ranking.tp + ranking.fp + ranking.tp[-1])
    best = int(np.argmax(f1))
    below = ranking.scores[best + 1] if best + 1 < len(ranking.scores) else 0.0
    return float(np.clip((ranking.scores[best] + below) / 2, 1e-6, 1 - 1e-6))


def min_cost_threshold(ranking: Ranking, costs: np.ndarray) -> float:
    """Return the threshold of least expected cost, half way to the next score on the other side.

    Args:
        ranking: Rows sorted by score.
        costs: Cost of each decision `[2, 2]`: rows are true labels, columns predictions, negative first.

    Returns:
        A number in (0, 1); of equally cheap thresholds the highest.
    """
    if not len(ranking.tp):
        return 0.5
    tp, fp = np.concatenate([[0.0], ranking.tp]), np.concatenate([[0.0], ranking.fp])
    tn, fn = fp[-1] - fp, tp[-1] - tp
    best = int(np.argmin(tn * costs[0, 0] + fp * costs[0, 1] + fn * costs[1, 0] + tp * costs[1, 1]))
    above = ranking.scores[best - 1] if best else 1.0
    below = ranking.scores[best] if best < len(ranking.scores) else 0.0
    return float(np.clip((above + below) / 2, 1e-6, 1 - 1e-6))


def expected_cost(matrix: np.ndarray, costs: np.ndarray) -> float | None:
    """Return the mean cost of a row.

    Args:
        matrix: Confusion matrix `[classes, classes]`, rows are true labels.
        costs: Cost of each cell, same shape.
    """
    return ratio(float((matrix * costs).sum()), float(matrix.sum()))


def row_log_loss(chance: np.ndarray) -> np.ndarray:
    """Return -log of the probability given to the true class, `[rows]`."""
    return -np.log(np.clip(chance, EPSILON, 1 - EPSILON))


def calibration_bins(
    hit: np.ndarray, chance: np.ndarray, weights: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum predictions and outcomes in bins of equal width over [0, 1].

    Args:
        hit: Whether the predicted event happened, `[rows]`.
        chance: Its predicted probability, `[rows]`.
        weights: `[rows]`.
        bins: Number of bins.

    Returns:
        Weight, sum of predictions and sum of outcomes, each `[bins]`.
    """
    index = np.clip((chance * bins).astype(np.int64), 0, bins - 1)
    total = np.bincount(index, weights, bins)
    return total, np.bincount(index, weights * chance, bins), np.bincount(index, weights * hit, bins)


def calibration_error(hit: np.ndarray, chance: np.ndarray, weights: np.ndarray) -> float | None:
    """Expected calibration error: mean over rows of |predicted - observed| of the row's bin."""
    total, predicted, observed = calibration_bins(hit, chance, weights)
    return ratio(np.abs(predicted - observed).sum(), total.sum())


def binary_confusion(positive: np.ndarray, flagged: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return `[[tn, fp], [fn, tp]]`: rows are true labels, columns predictions."""
    cells = 2 * positive.astype(np.int64) + flagged
    return np.bincount(cells, weights, 4).reshape(2, 2)


def binary_metrics(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, threshold: float
) -> tuple[Metrics, np.ndarray, Ranking]:
    """Return metrics of two classes, their confusion matrix and the ranking.

    Args:
        positive: Whether the label is the positive class, bool `[rows]`.
        scores: Probability of the positive class `[rows]`.
        weights: `[rows]`.
        threshold: A row is predicted positive from this score on.
    """
    matrix = binary_confusion(positive, scores >= threshold, weights)
    (tn, fp), (fn, tp) = matrix
    ranking = rank(positive, scores, weights)
    total = weights.sum()
    chance = np.where(positive, scores, 1 - scores)
    metrics: Metrics = {
        "example_count": float(len(scores)),
        "accuracy": ratio(tp + tn, total),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "auc": ranking.auc,
        "pr_auc": ranking.average_precision,
        "log_loss": ratio(weights @ row_log_loss(chance), total),
        "calibration_error": calibration_error(positive, scores, weights),
        "calibration": ratio(weights @ scores, weights @ positive),
        "mean_label": ratio(weights @ positive, total),
        "mean_prediction": ratio(weights @ scores, total),
    }
    return metrics, matrix, ranking


def confusion(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: int) -> np.ndarray:
    """Return the weight of every (true, predicted) pair, `[classes, classes]`, rows are true labels."""
    return np.bincount(labels * classes + predicted, weights, classes * classes).reshape(classes, classes)


def class_metrics(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy and averages over classes from confusion matrices.

    Classes that are neither among the labels nor among the predictions are left out of averages.

    Args:
        matrix: `[..., classes, classes]`, rows are true labels.

    Returns:
        Name -> `[...]`; NaN where nothing can be computed.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, predicted = matrix.sum(-1), matrix.sum(-2)
    return class_metrics_of_counts(hits, true, predicted)


def class_metrics_of_counts(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Same as `class_metrics`, from hits, true and predicted weight of each class `[..., classes]`."""
    seen = (true + predicted) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(seen, 2 * hits / (true + predicted), 0.0)
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        recall = np.where(true > 0, hits / true, 0.0)
        return {
            "accuracy": hits.sum(-1) / true.sum(-1),
            "precision": precision.sum(-1) / seen.sum(-1),
            "recall": recall.sum(-1) / seen.sum(-1),
            "macro_f1": f1.sum(-1) / seen.sum(-1),
            "weighted_f1": (f1 * true).sum(-1) / true.sum(-1),
        }


def multiclass_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[Metrics, np.ndarray, list[Ranking]]:
    """Return metrics of three or more classes, their confusion matrix, and each class against the rest.

    `precision`, `recall` and `macro_f1` are unweighted means over classes, `auc` and `pr_auc` means of
    one class against the rest, over classes that some but not all rows have; `f1` is `macro_f1`;
    `top_k_accuracy` has k = min(5, classes - 1).

    Args:
        labels: Class index int64 `[rows]`.
        scores: Probabilities `[rows, classes]`.
        weights: `[rows]`.
    """
    classes = scores.shape[1]
    predicted = scores.argmax(1)
    matrix = confusion(labels, predicted, weights, classes)
    total = weights.sum()
    rows = np.arange(len(labels))
    chance = scores[rows, labels]
    better = (scores > chance[:, None]).sum(1)
    ranks = [rank(labels == k, scores[:, k], weights) for k in range(classes)]
    values: dict[str, float | None] = {
        name: None if np.isnan(value) else float(value) for name, value in class_metrics(matrix).items()
    }
    metrics: Metrics = {
        "example_count": float(len(labels)),
        **values,
        "f1": values["macro_f1"],
        "top_k_accuracy": ratio(weights @ (better < min(5, classes - 1)), total),
        "auc": mean_known([r.auc for r in ranks]),
        "pr_auc": mean_known([r.average_precision for r in ranks if r.auc is not None]),
        "log_loss": ratio(weights @ row_log_loss(chance), total),
        "calibration_error": calibration_error(predicted == labels, scores[rows, predicted], weights),
    }
    return metrics, matrix, ranks


def mean_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, or None."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def class_table(
    classes: Sequence[str], matrix: np.ndarray, ranks: Sequence[Ranking]
) -> list[dict[str, float | str | None]]:
    """Return what was found of each class.

    Args:
        classes: Label values, K of them.
        matrix: Confusion matrix `[K, K]`, rows are true labels.
        ranks: Rows sorted by the score of each class.

    Returns:
        `{label, rows, predicted, precision, recall, f1, auc, pr_auc}`; `rows` and `predicted` are weights.
    """
    hits, true, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    return [
        {
            "label": name,
            "rows": float(true[k]),
            "predicted": float(predicted[k]),
            "precision": ratio(hits[k], predicted[k]),
            "recall": ratio(hits[k], true[k]),
            "f1": ratio(2 * hits[k], true[k] + predicted[k]),
            "auc": ranks[k].auc,
            "pr_auc": ranks[k].average_precision,
        }
        for k, name in enumerate(classes)
    ]


def _median(values: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the weighted median; the mean of both middle values where half the weight lies between them."""
    kept = weights > 0
    values, weights = values[kept], weights[kept]
    if not len(values):
        return None
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    middle = int(np.searchsorted(below, below[-1] / 2))
    upper = middle + 1 if below[middle] == below[-1] / 2 else middle
    return float((values[order[middle]] + values[order[upper]]) / 2)


def regression_metrics(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> Metrics:
    """Return metrics of a predicted number.

    `bias` is the mean of prediction - truth, `mape` the mean of |error| / |truth| over rows whose truth is
    not 0, `median_ae` the median of |error|.

    Args:
        labels: True values `[rows]`.
        outputs: Predicted values `[rows]`.
        weights: `[rows]`.
    """
    total = weights.sum()
    error = outputs - labels
    squared = weights @ error**2
    mean = ratio(weights @ labels, total) or 0.0
    spread = float(np.sum(weights * (labels - mean) ** 2))
    mse = ratio(squared, total)
    explained = ratio(squared, spread)
    some = labels != 0
    shares = np.abs(error[some] / labels[some])
    return {
        "example_count": float(len(labels)),
        "rmse": None if mse is None else float(np.sqrt(mse)),
        "mae": ratio(weights @ np.abs(error), total),
        "median_ae": _median(np.abs(error), weights),
        "mape": ratio(weights[some] @ shares, weights[some].sum()),
        "bias": ratio(weights @ error, total),
        "r2": None if explained is None else 1 - explained,
        "calibration": ratio(weights @ outputs, weights @ labels),
        "mean_label": ratio(weights @ labels, total),
        "mean_prediction": ratio(weights @ outputs, total),
    }
