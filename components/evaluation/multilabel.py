"""Metrics of rows with any number of labels: every label is a decision of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .metrics import (
    Metrics,
    binary_metrics,
    calibration_error,
    class_metrics_of_counts,
    mean_known,
    rank,
    ratio,
    row_log_loss,
)

__all__ = ["LABEL_METRICS", "micro_metrics", "multilabel_metrics"]

LABEL_METRICS = ("accuracy", "precision", "recall", "f1", "auc", "pr_auc", "log_loss")
"""Metrics told of each label."""


def multilabel_metrics(
    names: Sequence[str], labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, thresholds: np.ndarray
) -> tuple[Metrics, np.ndarray, list[dict[str, Any]]]:
    """Return metrics of independent labels, a matrix a label, and what was found of each label.

    `precision`, `recall`, `macro_f1` (and `f1`, the same), `auc` and `pr_auc` are unweighted means over
    labels (those that neither rows nor predictions have are left out); `micro_*` count all decisions
    alike; `weighted_f1` weighs labels by their rows. `subset_accuracy` is the share of rows with every
    label right, `hamming_loss` the share of decisions that are wrong, `log_loss` the mean binary
    cross-entropy of a decision.

    Args:
        names: Label values, K of them.
        labels: 0 or 1, `[rows, K]`.
        scores: Probability of each label `[rows, K]`.
        weights: `[rows]`.
        thresholds: Score from which a row gets a label `[K]`.

    Returns:
        Metrics; `[K, 2, 2]` of `[[tn, fp], [fn, tp]]`; `{label, rows, predicted, threshold, ...}` a label,
        with `LABEL_METRICS`.
    """
    wanted, given = labels == 1, scores >= thresholds
    found = [
        binary_metrics(wanted[:, k], scores[:, k], weights, float(thresholds[k])) for k in range(len(names))
    ]
    matrices = np.stack([matrix for _, matrix, _ in found])
    table = [
        {
            "label": name,
            "rows": float(matrix[1].sum()),
            "predicted": float(matrix[:, 1].sum()),
            "threshold": float(threshold),
            **{key: values[key] for key in LABEL_METRICS},
        }
        for name, threshold, (values, matrix, _) in zip(names, thresholds, found, strict=True)
    ]
    averages = class_metrics_of_counts(matrices[:, 1, 1], matrices[:, 1].sum(-1), matrices[:, :, 1].sum(-1))
    means = {
        name: None if np.isnan(averages[name]) else float(averages[name])
        for name in ("precision", "recall", "macro_f1", "weighted_f1")
    }
    flat = np.repeat(weights, len(names))
    everything = rank(wanted.ravel(), scores.ravel(), flat)
    losses = row_log_loss(np.where(wanted, scores, 1 - scores)).mean(1)
    metrics: Metrics = {
        "example_count": float(len(labels)),
        "subset_accuracy": ratio(weights @ (wanted == given).all(1), weights.sum()),
        "hamming_loss": ratio(weights @ (wanted != given).mean(1), weights.sum()),
        **means,
        "f1": means["macro_f1"],
        **micro_metrics(matrices),
        "auc": mean_known([values["auc"] for values, _, _ in found]),
        "pr_auc": mean_known([values["pr_auc"] for values, _, _ in found if values["auc"] is not None]),
        "micro_auc": everything.auc,
        "micro_pr_auc": everything.average_precision,
        "log_loss": ratio(weights @ losses, weights.sum()),
        "calibration_error": calibration_error(wanted.ravel(), scores.ravel(), flat),
        "calibration": ratio(flat @ scores.ravel(), flat @ wanted.ravel()),
        "mean_label": ratio(flat @ wanted.ravel(), flat.sum()),
        "mean_prediction": ratio(flat @ scores.ravel(), flat.sum()),
    }
    return metrics, matrices, table


def micro_metrics(matrices: np.ndarray) -> Metrics:
    """Return `micro_precision`, `micro_recall` and `micro_f1` of `[K, 2, 2]` matrices."""
    (_, fp), (fn, tp) = matrices.sum(0)
    return {
        "micro_precision": ratio(tp, tp + fp),
        "micro_recall": ratio(tp, tp + fn),
        "micro_f1": ratio(2 * tp, 2 * tp + fp + fn),
    }
