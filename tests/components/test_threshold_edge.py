"""A score exactly at the threshold counts as positive: the same to evaluation, clients and flip rate."""

import numpy as np
import pytest

from headrace.components.evaluation.judge import agreement
from headrace.components.evaluation.metrics import binary_metrics
from headrace.components.evaluation.multilabel import multilabel_metrics
from headrace.components.parity.tolerance import flip_rate, predicted
from headrace.serving.decision import decide

THRESHOLDS = [0.1, 0.25, 0.3, 0.5, 0.7, 0.9, float(np.float32(0.7)), float(np.float32(0.3))]


def around(threshold: float) -> np.ndarray:
    """Return the float32 scores next to the threshold: two below, the nearest, two above; `[5]`."""
    nearest = np.float32(threshold)
    below, above = np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(1))
    return np.array(
        [np.nextafter(below, np.float32(0)), below, nearest, above, np.nextafter(above, np.float32(1))],
        np.float32,
    )


def wanted(scores: np.ndarray, threshold: float) -> list[bool]:
    return [float(score) >= threshold for score in scores]  # Python's own floats hold both exactly


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_binary(threshold: float) -> None:
    scores = around(threshold)
    expected = wanted(scores, threshold)
    both = np.stack([1 - scores, scores], axis=1)
    label = {"task": "binary", "classes": ["no", "yes"], "threshold": threshold}
    assert decide(both, label) == ["yes" if on else "no" for on in expected]
    assert decide(both.tolist(), label) == ["yes" if on else "no" for on in expected]
    assert predicted(both, threshold).tolist() == [int(on) for on in expected]
    # All rows are positive: what is predicted so is a true positive.
    _, matrix, _ = binary_metrics(np.ones(5, bool), scores.astype(np.float64), np.ones(5), threshold)
    assert matrix.tolist() == [[0, 0], [5 - sum(expected), sum(expected)]]
    others = np.tile(np.array([[1.0, 0.0]], np.float32), (5, 1))
    assert agreement(both, others, threshold)["flip_rate"] == pytest.approx(sum(expected) / 5)
    assert flip_rate(both, others, threshold) == pytest.approx(sum(expected) / 5)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_multilabel(threshold: float) -> None:
    scores = around(threshold)
    expected = wanted(scores, threshold)
    both = np.stack([scores, scores], axis=1)
    label = {"task": "multilabel", "classes": ["a", "b"], "threshold": [threshold, 2.0]}
    assert decide(both, label) == [["a"] if on else [] for on in expected]
    limits = np.array([threshold, 2.0])
    _, matrices, _ = multilabel_metrics(
        ["a", "b"], np.ones((5, 2)), both.astype(np.float64), np.ones(5), limits
    )
    assert matrices[0].tolist() == [[0, 0], [5 - sum(expected), sum(expected)]]
