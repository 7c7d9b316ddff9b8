"""What a decision costs, and from which score on it is taken."""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.data.errors import ConfigError

from .config import EvaluationConfig
from .metrics import max_f1_threshold, min_cost_threshold, rank

__all__ = ["chosen_on_eval", "cost_matrix", "label_thresholds", "threshold"]


def cost_matrix(costs: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> np.ndarray | None:
    """Return the cost of every decision.

    Args:
        costs: `evaluation.costs`.
        classes: Label values in output order.

    Returns:
        float64 `[classes, classes]`, rows are true labels; None where the config names no costs.

    Raises:
        ConfigError: If a name is not a class, or there are no classes.
    """
    if not costs:
        return None
    if not classes:
        raise ConfigError(
            "`evaluation.costs` needs a binary or multiclass task. Received: no classes (evaluation.costs)"
        )
    found = 1.0 - np.eye(len(classes))
    for true, row in costs.items():
        for predicted, cost in row.items():
            for name in (true, predicted):
                if name not in classes:
                    raise ConfigError(
                        f"`evaluation.costs` must name classes: {', '.join(classes)}. Received: {name} "
                        "(evaluation.costs)"
                    )
            found[classes.index(true), classes.index(predicted)] = cost
    return found


def chosen_on_eval(config: EvaluationConfig) -> bool:
    """Tell whether the thresholds follow from the eval split."""
    return isinstance(config.threshold, str)


def threshold(
    config: EvaluationConfig,
    costs: np.ndarray | None,
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray,
) -> float:
    """Choose the threshold of a binary decision.

    Args:
        config: `evaluation`, with a threshold that is chosen.
        costs: As `cost_matrix` gives it.
        labels: Class indices of the eval split `[rows]`.
        scores: `[rows, 2]`.
        weights: `[rows]`.
    """
    ranking = rank(labels == 1, scores[:, 1].astype(np.float64), weights)
    if config.threshold == "min_cost" and costs is not None:
        return min_cost_threshold(ranking, costs)
    return max_f1_threshold(ranking)


def label_thresholds(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[float, ...]:
    """Choose the threshold of each label by its own F1.

    Args:
        labels: 0 or 1, of the eval split `[rows, K]`.
        scores: `[rows, K]`.
        weights: `[rows]`.
    """
    wide = scores.astype(np.float64)
    return tuple(
        max_f1_threshold(rank(labels[:, k] == 1, wide[:, k], weights)) for k in range(labels.shape[1])
    )
