"""Splits on which figures say little: too few rows, too few different ones, or classes that are not there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .state import Bound, Gate

__all__ = ["FEW_TEST_ROWS", "judge_splits", "tell_of_splits"]

FEW_TEST_ROWS = 100
"""Under so many rows, or different rows, figures on the test split are rough."""

_JUDGED = "test"
_CHOOSING = "eval"
_USES = {_JUDGED: "", _CHOOSING: ", which chooses the epoch and the threshold,"}
"""Splits that must have all classes (ingest rejects data whose training split lacks one) -> what for."""

_METRICS = ("rows", "distinct_rows", "class_count")
_MOST_NAMED = 20


def judge_splits(ingest: Mapping[str, Any], task: str) -> list[Gate]:
    """Judge what the splits hold.

    Args:
        ingest: `splits`, `split` and `label` of ingest.json.
        task: `binary`, `multiclass`, `multilabel` or `regression`.

    Returns:
        A WARN gate for each thing that makes figures say little; none where all is well.
    """
    rows, distinct = int(ingest["splits"][_JUDGED]), int(ingest["split"]["distinct"]["test_rows"])
    found = []
    if rows < FEW_TEST_ROWS:
        reason = f"the test split has {rows:,} rows, under {FEW_TEST_ROWS}, so that figures on it are rough."
        found.append(_warning("rows", _JUDGED, reason, FEW_TEST_ROWS, rows))
    if distinct < FEW_TEST_ROWS and distinct <= rows / 2:
        reason = (
            f"the {rows:,} rows of the test split are only {distinct:,} different ones in what the model "
            "reads, so that figures on it rest on these alone."
        )
        found.append(_warning("distinct_rows", _JUDGED, reason, FEW_TEST_ROWS, distinct))
    counts: Mapping[str, Mapping[str, int]] | None = ingest["label"]["counts"]
    return found if counts is None else [*found, *_judge_classes(counts, task)]


def tell_of_splits(gates: Iterable[Gate], data_gates: Iterable[Gate]) -> list[Gate]:
    """Add to the reason of gates that were judged on poor splits what is poor about these.

    Args:
        gates: On metrics of the test split.
        data_gates: With those of `judge_splits`.
    """
    words = [
        gate.reason.removesuffix(".")
        for gate in data_gates
        if gate.kind == "data" and gate.metric in _METRICS and gate.state == "WARN"
    ]
    if not words:
        return list(gates)
    return [
        replace(gate, reason="; ".join([gate.reason.removesuffix("."), *words]) + ".")
        if gate.state in ("PASS", "FAIL")
        else gate
        for gate in gates
    ]


def _judge_classes(counts: Mapping[str, Mapping[str, int]], task: str) -> list[Gate]:
    found = []
    for split, use in _USES.items():
        held = counts[split]
        lacking = sorted(
            (name for name, rows in held.items() if not rows),
            key=lambda name: (sum(part[name] for part in counts.values()), name),
        )
        if not lacking:
            continue
        here = [name for name in held if name not in lacking]
        if len(here) == 1 and task != "multilabel":
            lack, named = f"has rows of one class alone, {here[0]!r}", [*here, *lacking]
        else:
            lack, named = f"has no row of {len(lacking):,} of {len(held):,} classes", lacking
        reason = f"the {split} split{use} {lack}: {_counted(named, counts)}."
        found.append(_warning("class_count", split, reason, len(held), len(here)))
    return found


def _counted(names: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    told = [
        f"{name!r} with {', '.join(f'{held[name]:,} {split}' for split, held in counts.items())} rows"
        for name in names[:_MOST_NAMED]
    ]
    more = [f"and {len(names) - _MOST_NAMED:,} more"] if len(names) > _MOST_NAMED else []
    return "; ".join([*told, *more])


def _warning(metric: str, split: str, reason: str, least: int, found: int) -> Gate:
    return Gate(
        "data", metric, "WARN", reason, None, {"split": split}, Bound(">=", float(least)), float(found)
    )
