"""TFMA's own code on the same predictions, to hold our judge to it.

TFMA's combiners run here as its evaluator runs them, but without Beam: rows are added once to the
accumulators of the finest groups, and every slice merges its groups. That costs 0.1 ms a row where the Beam
evaluator costs 1 ms.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from .judge import Judge
from .record import Record, Values, clip_scores, key_text

__all__ = ["MAX_DIFFERENCE", "compare", "row_inputs", "run_tfma"]

MAX_DIFFERENCE = 1e-4
"""Largest |a - b| / max(1, |a|) between TFMA's value and ours that is agreement."""


def run_tfma(
    record: Record, judge: Judge, predictions: np.ndarray, slices: Sequence[np.ndarray], *, weighted: bool
) -> list[Values]:
    """Compute every metric and plot of the record with TFMA's own code.

    Args:
        record: TFMA's computations.
        judge: Labels and weights.
        predictions: `[rows, classes]`, or `[rows]` for regression.
        slices: Row numbers of each slice.
        weighted: Whether rows have weights.

    Returns:
        For each slice, TFMA's metric or plot name (`record.key_text`) -> value.
    """
    combined: list[Any] = []
    derived: list[Any] = []
    for one in record.computations:
        group = combined if isinstance(one, metric_types.MetricComputation) else derived
        if one not in group:
            group.append(one)
    for one in combined:
        one.combiner.setup()  # Keras metrics are made here, as Beam would have them made
    cells, members = _finest(slices, len(judge.labels))
    inputs = row_inputs(judge, predictions, weighted=weighted)
    accumulated = [
        [
            one.combiner.add_inputs(one.combiner.create_accumulator(), [inputs[row] for row in rows])
            for one in combined
        ]
        for rows in cells
    ]
    results = []
    for cell_numbers in members:
        values: dict[Any, Any] = {}
        for number, one in enumerate(combined):
            # Merging changes the first accumulator, so it is a fresh one.
            parts = [one.combiner.create_accumulator(), *(accumulated[cell][number] for cell in cell_numbers)]
            values.update(one.combiner.extract_output(one.combiner.merge_accumulators(parts)))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # TFMA 0.52 divides by zero where thresholds share their counts
            for one in derived:
                values.update(one.result(values))
        results.append(
            {key_text(key): value for key, value in values.items() if not key.name.startswith("_")}
        )
    return results


def _finest(slices: Sequence[np.ndarray], rows: int) -> tuple[list[np.ndarray], list[list[int]]]:
    """Cut rows into groups that no slice divides.

    Returns:
        Row numbers of each group, and for each slice the numbers of its groups.
    """
    group = np.zeros(rows, np.int64)
    for part in slices:
        inside = np.zeros(rows, np.int64)
        inside[part] = 1
        group = np.unique(2 * group + inside, return_inverse=True)[1].ravel()
    order = np.argsort(group, kind="stable")
    cells = np.split(order, np.cumsum(np.bincount(group))[:-1])
    return cells, [np.unique(group[part]).tolist() for part in slices]


def row_inputs(judge: Judge, predictions: np.ndarray, *, weighted: bool) -> list[Any]:
    """Return TFMA's input of each row.

    Args:
        judge: Labels and weights.
        predictions: `[rows, classes]`, or `[rows]` for regression.
        weighted: Whether rows have weights.
    """
    labels = judge.labels.astype(np.int64 if judge.task == "multiclass" else np.float64)
    scores = predictions.astype(np.float64) if judge.task == "regression" else clip_scores(predictions)
    if judge.task == "binary":
        scores = scores[:, 1]
    found = []
    for row in range(len(labels)):
        prediction = scores[row] if scores.ndim == 2 else scores[row : row + 1]
        label = labels[row] if labels.ndim == 2 else labels[row : row + 1]
        extracts = {"labels": label, "predictions": prediction}
        if weighted:
            extracts["example_weights"] = judge.weights[row : row + 1]
        found.append(metric_types.StandardMetricInputs(extracts))
    return found


def compare(ours: Values, theirs: Values, classes: int) -> tuple[float, str]:
    """Return the largest difference over all of TFMA's values, and the name of its metric or plot."""
    worst, place = 0.0, ""
    for name, value in theirs.items():
        if name not in ours:
            return float("inf"), name
        reference, found = _numbers(value, classes), _numbers(ours[name], classes)
        both = np.isfinite(reference) & np.isfinite(found)
        if (np.isfinite(reference) != np.isfinite(found)).any():
            return float("inf"), name
        scale = np.maximum(1.0, np.abs(reference[both]))
        difference = float(np.max(np.abs(reference[both] - found[both]) / scale, initial=0.0))
        if difference > worst:
            worst, place = difference, name
    return worst, place


def _numbers(value: Any, classes: int) -> np.ndarray:
    """Return all numbers of a metric or plot as one array."""
    if hasattr(value, "buckets"):
        sums = [
            [
                b.total_weighted_label.value,
                b.total_weighted_refined_prediction.value,
                b.num_weighted_examples.value,
            ]
            for b in value.buckets
        ]
        return np.array(sums, np.float64).ravel()
    if hasattr(value, "tp"):
        return np.concatenate(
            [np.asarray(part, np.float64) for part in (value.tp, value.fp, value.tn, value.fn)]
        )
    if hasattr(value, "matrices") and value.matrices and hasattr(value.matrices[0], "entries"):
        matrix = np.zeros((classes, classes))
        for entry in value.matrices[0].entries:
            matrix[entry.actual_class_id, entry.predicted_class_id] = entry.num_weighted_examples
        return matrix.ravel()
    if hasattr(value, "matrices"):
        counts = [
            [m.true_positives, m.false_positives, m.true_negatives, m.false_negatives] for m in value.matrices
        ]
        return np.array(counts, np.float64).ravel()
    return np.atleast_1d(np.asarray(value, np.float64))
