"""The TFMA side of the node: its files for every variant, and the cross-check of our judge."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .cross_check import MAX_DIFFERENCE, compare, run_tfma
from .judge import Judge
from .record import Record, Values, checked_labels, make_record, tfma_values, write_record
from .slices import Slice

if TYPE_CHECKING:
    from .tfma_beam import BeamSide

__all__ = ["write_tfma"]

_MOST_ROWS = 50_000
_MOST_DECISIONS = 20_000  # rows times labels
_MOST_SLICES = 100

Result = Mapping[str, Any]


def write_tfma(
    folder: str,
    judge: Judge,
    specs: Sequence[Sequence[str]],
    results: Sequence[Result],
    predictions: Mapping[str, np.ndarray],
    places: tuple[str, Callable[[str], str]],
    *,
    weighted: bool,
    side: "BeamSide | None" = None,
) -> dict[str, Any]:
    """Write `tfma/<variant>/` for every judged variant and hold float32 to TFMA's own code.

    The float32 folder holds what TFMA's code computed, as long as it covered all rows and slices.

    Args:
        folder: The `tfma` folder to write.
        judge: What all variants share.
        specs: Columns of each kind of slice.
        results: Results of the variants that have some, as `Judge.judge` gave them, with their names.
        predictions: Name -> predictions.
        places: Location of the examples, and of a variant's model by its name; for display.
        weighted: Whether rows have weights.
        side: Engine that TFMA's own pipeline runs on; None: TFMA's code runs in this process.

    Returns:
        `{state: PASS, FAIL or SKIPPED, reason, max_abs_diff, rows, slices}`.
    """
    record = make_record(judge, specs, weighted=weighted)
    examples, model_of = places
    checked: dict[str, Any] = {
        "state": "SKIPPED",
        "reason": "float32 has no predictions to check.",
        "max_abs_diff": None,
        "rows": 0,
        "slices": 0,
    }
    for result in results:
        name = result["name"]
        parts = _parts(judge, result)
        values = [tfma_values(judge, predictions[name], rows, metrics) for _, rows, metrics in parts]
        if name == "float32":
            check = _check if side is None else partial(_check_on_beam, side)
            checked, theirs = check(record, judge, predictions[name], parts, values, weighted=weighted)
            values = (
                [ours | genuine for ours, genuine in zip(values, theirs, strict=True)] if theirs else values
            )
        keyed = ((keys, value) for (keys, _, _), value in zip(parts, values, strict=True))
        write_record(os.path.join(folder, name), record, keyed, examples, model_of(name))
    return checked


_Part = tuple[Mapping[str, str], np.ndarray, Mapping[str, Any]]


def _parts(judge: Judge, result: Result) -> list[_Part]:
    """Return keys, rows and metrics of all rows and of each slice."""
    every = Slice({}, np.arange(len(judge.labels)))
    metrics = [result["metrics"], *(part["metrics"] for part in result["slices"])]
    return [
        (part.keys, part.rows, values) for part, values in zip([every, *judge.slices], metrics, strict=True)
    ]


def _check(
    record: Record,
    judge: Judge,
    predictions: np.ndarray,
    parts: Sequence[_Part],
    values: Sequence[Values],
    *,
    weighted: bool,
) -> tuple[dict[str, Any], list[Values]]:
    """Compare TFMA's code with ours, on all rows or on evenly spaced ones, on all or the largest slices.

    Returns:
        The outcome, and TFMA's values of every part where it saw them all.
    """
    rows, most = len(judge.labels), _MOST_ROWS
    if judge.label_thresholds:
        most = _MOST_DECISIONS // (1 + len(checked_labels(judge)))
    largest = sorted(range(len(parts)), key=lambda n: -len(parts[n][1]))[: _MOST_SLICES + 1]
    try:
        if rows <= most:
            chosen, subset, ours = (
                [parts[n][1] for n in largest],
                (judge, predictions),
                [values[n] for n in largest],
            )
        else:
            subset, chosen = _sample(judge, predictions, [parts[n][1] for n in largest], most)
            seen = [place for place, part in enumerate(chosen) if len(part)]
            largest, chosen = [largest[place] for place in seen], [chosen[place] for place in seen]
            ours = [tfma_values(*subset, part, {}) for part in chosen]
        theirs = run_tfma(record, *subset, chosen, weighted=weighted)
    except Exception as error:  # evidence of its own: the gate sees that the judge could not be checked
        reason = f"TFMA's own code failed on float32: {type(error).__name__}: {error}"
        return _outcome("FAIL", reason, None, 0, 0), []
    outcome = _describe(
        _worst(ours, theirs, [parts[n][0] for n in largest], judge), subset[0], len(chosen) - 1
    )
    whole = rows <= most and len(largest) == len(parts)
    ordered = dict(zip(largest, theirs, strict=True))
    return outcome, [ordered[n] for n in range(len(parts))] if whole else []


def _check_on_beam(
    side: "BeamSide",
    record: Record,
    judge: Judge,
    predictions: np.ndarray,
    parts: Sequence[_Part],
    values: Sequence[Values],
    *,
    weighted: bool,
) -> tuple[dict[str, Any], list[Values]]:
    """Compare TFMA's own pipeline with ours, on all rows and slices; a job that fails fails the node."""
    from .tfma_beam import evaluate_on_beam

    keys = [part[0] for part in parts]
    theirs = evaluate_on_beam(record, judge, predictions, keys, side, weighted=weighted)
    return _describe(_worst(values, theirs, keys, judge), judge, len(parts) - 1), theirs


def _worst(
    ours: Sequence[Values], theirs: Sequence[Values], keys: Sequence[Mapping[str, str]], judge: Judge
) -> tuple[float, str, dict[str, str]]:
    """Return the largest difference, its metric and its slice."""
    return max(
        (
            (*compare(mine, genuine, len(judge.classes)), dict(key))
            for mine, genuine, key in zip(ours, theirs, keys, strict=True)
        ),
        key=lambda found: found[0],
    )


def _sample(
    judge: Judge, predictions: np.ndarray, parts: Sequence[np.ndarray], most: int
) -> tuple[tuple[Judge, np.ndarray], list[np.ndarray]]:
    """Keep `most` evenly spaced rows; slices lose the rows that are not kept."""
    kept = np.linspace(0, len(judge.labels) - 1, max(1, most)).astype(np.int64)
    number = np.full(len(judge.labels), -1)
    number[kept] = np.arange(len(kept))
    smaller = replace(judge, labels=judge.labels[kept], weights=judge.weights[kept], slices=())
    inside = [number[part] for part in parts]
    return (smaller, predictions[kept]), [part[part >= 0] for part in inside]


def _describe(worst: tuple[float, str, dict[str, str]], judge: Judge, slices: int) -> dict[str, Any]:
    difference, name, keys = worst
    rows = len(judge.labels)
    place = ", ".join(f"{column}={value}" for column, value in keys.items()) or "all rows"
    seen = f"on {rows:,} rows and {slices:,} slices"
    if (labels := len(checked_labels(judge))) < len(judge.label_thresholds):
        seen += f", {labels} of {len(judge.label_thresholds):,} labels"
    if difference <= MAX_DIFFERENCE:
        reason = f"TFMA's own code and ours agree to {difference:.1g} {seen}."
        return _outcome("PASS", reason, difference, rows, slices)
    reason = (
        f"TFMA's own code and ours differ by {difference:.3g} in {name} ({place}) {seen}; "
        f"allowed: {MAX_DIFFERENCE:g}."
    )
    return _outcome("FAIL", reason, difference if np.isfinite(difference) else None, rows, slices)


def _outcome(state: str, reason: str, difference: float | None, rows: int, slices: int) -> dict[str, Any]:
    return {"state": state, "reason": reason, "max_abs_diff": difference, "rows": rows, "slices": slices}
