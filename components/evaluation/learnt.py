"""Which test rows the live model was trained on: it is compared with a candidate on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.components.push.training_keys import NAME, unpack

from .judge import Judge
from .slices import Slice

__all__ = ["Learnt", "compare_on_rest", "find_learnt"]

_FEWEST = 100
"""Rows that a comparison needs once some were left out."""


@dataclass(frozen=True)
class Learnt:
    """What is known of the rows that the live model was trained on.

    Attributes:
        rest: Ascending numbers of the test rows that it was not trained on; None: all are compared.
        note: A sentence for the reasons of gates; "" where there is nothing to tell.
        absent: Why there can be no comparison, a phrase; "" where there can.
    """

    rest: np.ndarray | None = None
    note: str = ""
    absent: str = ""


def find_learnt(
    live: Mapping[str, Any], folder: str, examples: str, split: Mapping[str, Any], labels: np.ndarray
) -> Learnt:
    """Look today's test rows up among the training keys of the live model.

    Args:
        live: Content of baseline.json.
        folder: Copy of its version folder.
        examples: The examples artifact.
        split: `split` of ingest.json.
        labels: Of the test rows, `[rows, ...]`.
    """
    path, today = Path(examples, "keys", "test.npy"), tuple(split.get("key") or ())
    keys = unpack(Path(folder, "assets.extra" if live["side"] == "serving" else "", NAME))
    if keys is None or not path.is_file():
        return Learnt(note="It is not known which of these rows the baseline was trained on.")
    who = f"version {live['version']}, which is live,"
    if keys.columns != today:
        named = f"{', '.join(keys.columns)}; today {', '.join(today)}"
        return Learnt(absent=f"{who} tells the rows that it was trained on by other columns ({named})")
    known = keys.hold(np.load(path))
    if not known.any():
        return Learnt()
    rest = np.flatnonzero(~known)
    counted = f"{int(known.sum()):,} of the {len(known):,} test rows"
    if len(rest) < _FEWEST or len(np.unique(labels[rest], axis=0)) < 2:
        why = f"the other {len(rest):,} are too few, or too alike, to compare on"
        return Learnt(absent=f"{who} was trained on {counted}; {why}")
    return Learnt(rest, f"Compared on {len(rest):,} rows: the baseline was trained on {counted}.")


def compare_on_rest(learnt: Learnt, judge: Judge, predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return `comparison` of evaluation.json: what is told, and where rows were left out all results.

    Args:
        learnt: Which rows are compared.
        judge: Of all test rows.
        predictions: Name -> predictions `[rows, ...]`, the baseline's among them.
    """
    if learnt.rest is None:
        return {"note": learnt.note}
    rest = learnt.rest
    fewer = replace(
        judge,
        labels=judge.labels[rest],
        weights=judge.weights[rest],
        slices=_slices(judge.slices, rest),
        resampler=None,
    )
    results = [_kept(name, len(rest), fewer.judge(found[rest], None)) for name, found in predictions.items()]
    return {"note": learnt.note, "rows": len(rest), "results": results}


def _slices(slices: Sequence[Slice], rest: np.ndarray) -> list[Slice]:
    """Return slices by their places among `rest`; those of which nothing is left are left out."""
    found = [Slice(part.keys, np.flatnonzero(np.isin(rest, part.rows))) for part in slices]
    return [part for part in found if len(part.rows)]


def _kept(name: str, rows: int, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what gates compare."""
    slices = [{key: part[key] for key in ("keys", "rows", "metrics")} for part in result["slices"]]
    return {"name": name, "rows": rows, "metrics": result["metrics"], "slices": slices}
