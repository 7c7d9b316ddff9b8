"""Look-ups in the JSON documents that gates are judged on, with a reason where something is not there."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .state import GateState

__all__ = [
    "LOWER_IS_BETTER",
    "Absent",
    "Evidence",
    "find_metric",
    "find_slice",
    "finite",
    "loss",
    "slice_text",
]

LOWER_IS_BETTER = frozenset(
    {"log_loss", "rmse", "mae", "median_ae", "mape", "calibration_error", "hamming_loss", "cost"}
)
"""Metrics of which less is better; of all others more is, but of `bias`, which is best at 0."""

_MOST_LISTED = 20

Json = Mapping[str, Any]


class Absent(LookupError):
    """What a gate names is not in the evidence. The message says so and lists what is.

    Args:
        reason: One sentence for the gate.
        skipped: Whether the pipeline left it out on purpose (the gate is SKIPPED, not FAIL).
    """

    def __init__(self, reason: str, *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.state: GateState = "SKIPPED" if skipped else "FAIL"


def loss(metric: str, reference: float, value: float) -> float:
    """Return how much worse `value` is than `reference`, in the metric's unit; negative: better."""
    if metric == "bias":
        return abs(value) - abs(reference)
    return value - reference if metric in LOWER_IS_BETTER else reference - value


def slice_text(keys: Mapping[str, str]) -> str:
    """Return a slice in words, such as "carrier=HA, origin=JFK"."""
    return ", ".join(f"{column}={value}" for column, value in keys.items())


@dataclass(frozen=True)
class Evidence:
    """The documents of one candidate, as docs/artifacts.md describes them.

    Attributes:
        evaluation: evaluation.json.
        infra: infra.json.
        variants: variants.json.
        min_slice_rows: Slices with fewer test rows are not judged, >= 1.
    """

    evaluation: Json
    infra: Json
    variants: Sequence[Json]
    min_slice_rows: int

    def built(self) -> list[str]:
        """Return the names of all variants that the run asked for, built or skipped, in order."""
        names = [str(entry["name"]) for entry in self.variants]
        return names if "float32" in names else ["float32", *names]

    def variant(self, name: str) -> Json:
        """Return the entry of variants.json.

        Raises:
            Absent: If there is none, or the variant was skipped.
        """
        entry = _named(self.variants, name, "variants.json")
        if entry.get("state") == "skipped":
            raise Absent(f"{name} was not built: {entry.get('reason') or 'no reason given'}.", skipped=True)
        return entry

    def evaluated(self, name: str) -> Json:
        """Return the variant's part of evaluation.json.

        Raises:
            Absent: If there is none, or the variant was skipped.
        """
        entry = _named(self.evaluation["variants"], name, "evaluation.json")
        if entry.get("skipped"):
            raise Absent(f"{name} was not evaluated: {entry['skipped']}.", skipped=True)
        return entry

    def probed(self, name: str) -> Json:
        """Return the variant's part of infra.json.

        Raises:
            Absent: If there is none.
        """
        return _named(self.infra["variants"], name, "infra.json")

    def baseline(self) -> Json | None:
        """Return the live model's results on the same rows, or None where there is none."""
        found: Json | None = self.evaluation.get("baseline")
        return found

    def compared(self, name: str) -> Json:
        """Return results of a variant, or of `baseline`, on the rows on which both are compared.

        Raises:
            Absent: If there are none, or the variant was skipped.
        """
        results = (self.evaluation.get("comparison") or {}).get("results")
        found = (self.baseline() or {}) if name == "baseline" else self.evaluated(name)
        return found if results is None or "failed" in found else _named(results, name, "evaluation.json")

    def compared_note(self) -> str:
        """Return a sentence on the rows on which variants and baseline are compared, or ""."""
        return str((self.evaluation.get("comparison") or {}).get("note") or "")

    def no_baseline(self) -> str:
        """Return why there are no results of an earlier model, a phrase without a full stop."""
        return str(self.evaluation.get("no_baseline") or "nothing else was pushed yet")

    def slices(self, results: Json) -> tuple[list[Json], list[Json]]:
        """Return the slices of a variant's results: those with rows enough to judge, and the others."""
        found = results.get("slices", [])
        enough = [s for s in found if s["rows"] >= self.min_slice_rows]
        return enough, [s for s in found if s["rows"] < self.min_slice_rows]

    def too_small(self, small: Iterable[Json]) -> str:
        """Return a phrase that names slices with too few rows, or "" where there are none."""
        named = [f"{slice_text(s['keys'])} ({s['rows']:,})" for s in small]
        return f"not judged, fewer than {self.min_slice_rows:,} rows: {'; '.join(named)}" if named else ""


def find_slice(entry: Json, keys: Mapping[str, str]) -> Json:
    """Return the slice of a variant's results whose columns and values are `keys`.

    Raises:
        Absent: If there is none; the message lists the valid values.
    """
    slices: Sequence[Json] = entry.get("slices", [])
    wanted = {column: str(value) for column, value in keys.items()}
    for candidate in slices:
        if {column: str(value) for column, value in candidate["keys"].items()} == wanted:
            return candidate
    same = [slice_text(s["keys"]) for s in slices if set(s["keys"]) == set(wanted)]
    if same:
        raise Absent(
            f"the slice {slice_text(wanted)} is not among the test rows; there are: {_listed(same)}."
            f"{_nearest(slice_text(wanted), same)}"
        )
    specs = sorted({" x ".join(s["keys"]) for s in slices})
    raise Absent(
        f"`evaluation.slices` has no entry for {' x '.join(wanted)}; "
        f"it has: {_listed(specs) if specs else 'none'}."
    )


def find_metric(results: Json, metric: str) -> float | None:
    """Return a metric from results that hold `metrics`; None where it could not be computed.

    Raises:
        Absent: If the results have no such metric; the message lists those they have.
    """
    metrics: Mapping[str, float | None] = results.get("metrics") or {}
    if metric not in metrics:
        names = sorted(metrics)
        there = _listed(names) if names else "none"
        raise Absent(f"{metric} is not among the metrics: {there}.{_nearest(metric, names)}")
    return finite(metrics[metric])


def finite(value: float | int | None) -> float | None:
    """Return `value` as a float, or None where it is missing, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def _named(entries: Iterable[Json], name: str, document: str) -> Json:
    names = []
    for entry in entries:
        if entry["name"] == name:
            return entry
        names.append(str(entry["name"]))
    raise Absent(
        f"the variant {name} is not in {document}; there are: {_listed(names) if names else 'none'}."
        f"{_nearest(name, names)}"
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _MOST_LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_LISTED])} and {len(names) - _MOST_LISTED} more"


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]}?" if close else ""
