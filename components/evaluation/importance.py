"""Permutation importance (Breiman 2001): how much worse the model is when one column is shuffled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headrace.data.config import Task

from .metrics import multiclass_metrics, rank, regression_metrics, row_log_loss

__all__ = ["permutation_importance"]


def permutation_importance(
    predict: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    columns: Mapping[str, np.ndarray],
    labels: np.ndarray,
    weights: np.ndarray,
    task: Task,
    repeats: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Shuffle each raw column in turn and measure the loss. Lists and images move as a whole.

    Args:
        predict: Raw columns -> `[rows, classes]` or `[rows]`.
        columns: Raw columns, `[rows]` or `[rows, longest list]` each.
        labels: Class indices or numbers `[rows]`, or 0 and 1 `[rows, classes]`.
        weights: `[rows]`.
        task: What is predicted: judged by auc (binary), log_loss (multiclass, multilabel) or rmse
            (regression).
        repeats: Shuffles per column, >= 1.
        seed: Of the shuffles.

    Returns:
        `{feature, metric, drop, std}`, the most important first; `drop` > 0: the model uses the column.
    """
    metric = {"binary": "auc", "regression": "rmse"}.get(task, "log_loss")
    better = 1 if metric == "auc" else -1

    def measure(values: Mapping[str, np.ndarray]) -> float | None:
        predictions = predict(values).astype(np.float64)
        if task == "regression":
            return regression_metrics(labels, predictions, weights)["rmse"]
        if task == "multiclass":
            return multiclass_metrics(labels, predictions, weights)[0]["log_loss"]
        if task == "multilabel":
            losses = row_log_loss(np.where(labels == 1, predictions, 1 - predictions)).mean(1)
            return float(weights @ losses / weights.sum())
        return rank(labels == 1, predictions[:, 1], weights).auc

    base = measure(columns)
    if base is None:
        return []
    found = []
    for number, (name, column) in enumerate(columns.items()):
        random = np.random.default_rng([seed, number])
        shuffled = [measure({**columns, name: random.permutation(column)}) for _ in range(repeats)]
        drops = [better * (base - value) for value in shuffled if value is not None]
        found.append(
            {"feature": name, "metric": metric, "drop": float(np.mean(drops)), "std": float(np.std(drops))}
        )
    return sorted(found, key=lambda entry: -entry["drop"])
