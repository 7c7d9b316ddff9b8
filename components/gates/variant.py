"""Variant gates: how far each variant falls behind float32 on the same rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .config import VariantGate
from .evidence import Absent, Evidence, find_metric, find_slice, finite, loss, slice_text
from .state import Bound, Gate

__all__ = ["judge_variant"]

Json = Mapping[str, Any]


def judge_variant(rule: VariantGate, name: str, evidence: Evidence, task: str) -> list[Gate]:
    """Judge drop, slice drop and flip rate of one variant against float32.

    Args:
        rule: `gates.variant`.
        name: A variant other than float32.
        evidence: What was measured.
        task: `binary`, `multiclass`, `multilabel` or `regression` (which has no flips).

    Returns:
        The gates; a single one where the variant was skipped or is not there.
    """
    metric: str = rule.metric
    if metric == "auto":
        metric = {"regression": "r2", "multilabel": "macro_f1"}.get(task, "accuracy")
    try:
        results, reference = evidence.evaluated(name), evidence.evaluated("float32")
    except Absent as absent:
        return [Gate("variant", f"{metric}_drop", absent.state, absent.reason, name)]
    drop = _drop(metric, rule.max_drop, name, results, reference)
    enough, small = evidence.slices(evidence.evaluated(name))
    if small and not enough:
        # No gate of its own: SKIPPED would close every small data set under the default bounds.
        drop = replace(drop, reason=f"{drop.reason.removesuffix('.')}; slices {evidence.too_small(small)}.")
    gates = [drop, *_slice_drops(metric, rule.max_slice_drop, name, evidence, reference)]
    if task != "regression":
        gates.append(_flips(rule.max_flip_rate, name, results, task))
    return gates


def _drop(
    metric: str,
    most: float | None,
    name: str,
    results: Json,
    reference: Json,
    keys: Mapping[str, str] | None = None,
) -> Gate:
    """Judge the loss on all rows or on one slice."""
    title = f"{metric}_drop"
    if most is None:
        return Gate("variant", title, "NO_THRESHOLD", "`gates.variant.max_drop` is null.", name, keys)
    bound = Bound("<=", most)
    place = f"{metric} on {slice_text(keys)}" if keys else metric
    try:
        value = find_metric(results, metric)
        wanted = find_metric(find_slice(reference, keys) if keys else reference, metric)
    except Absent as absent:
        return Gate("variant", title, "FAIL", absent.reason, name, keys, bound)
    if value is None or wanted is None:
        whose = name if value is None else "float32"
        return Gate("variant", title, "FAIL", f"{place} of {whose} could not be computed.", name, keys, bound)
    drop = loss(metric, wanted, value)
    holds = bound.holds(drop)
    change = "equal to" if drop == 0 else f"{abs(drop):.4g} {'worse' if drop > 0 else 'better'} than"
    reason = f"{place} is {value:.6g}, {change} float32's {wanted:.6g}; at most {most:g} worse is allowed."
    return Gate("variant", title, "PASS" if holds else "FAIL", reason, name, keys, bound, drop)


def _slice_drops(
    metric: str, most: float | None, name: str, evidence: Evidence, reference: Json
) -> list[Gate]:
    """Return a gate for every failing slice, or where none fails one for the worst; none without slices."""
    enough, small = evidence.slices(evidence.evaluated(name))
    title = f"{metric}_slice_drop"
    if not enough:
        return []
    if most is None:
        return [Gate("variant", title, "NO_THRESHOLD", "`gates.variant.max_slice_drop` is null.", name)]
    gates = [replace(_drop(metric, most, name, s, reference, s["keys"]), metric=title) for s in enough]
    failing = [gate for gate in gates if gate.state != "PASS"]
    if failing:
        return failing
    worst = max(gates, key=lambda gate: gate.value or 0.0)
    reason = f"all {len(gates)} slices pass; the worst: {worst.reason}"
    if small:
        reason = f"{reason.removesuffix('.')}; {evidence.too_small(small)}."
    return [Gate("variant", title, "PASS", reason, name, worst.slice, worst.bound, worst.value)]


def _flips(most: float | None, name: str, results: Json, task: str) -> Gate:
    """Judge the share of rows whose predicted class, or of labels whose decision, differs from float32's."""
    if most is None:
        return Gate("variant", "flip_rate", "NO_THRESHOLD", "`gates.variant.max_flip_rate` is null.", name)
    bound = Bound("<=", most)
    value = finite((results.get("agreement") or {}).get("flip_rate"))
    if value is None:
        return Gate("variant", "flip_rate", "FAIL", "the flip rate was not measured.", name, None, bound)
    holds = bound.holds(value)
    what = "label decisions are others" if task == "multilabel" else "rows get another class"
    reason = f"{value:.3%} of the {what} than from float32; at most {most:.3%} is allowed."
    return Gate("variant", "flip_rate", "PASS" if holds else "FAIL", reason, name, None, bound, value)
