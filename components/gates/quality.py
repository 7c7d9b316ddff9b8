"""Quality gates: absolute bounds and bounds against the live model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .config import QualityGate
from .evidence import Absent, Evidence, find_metric, find_slice, loss, slice_text
from .state import Bound, Gate

__all__ = ["judge_agreement", "judge_quality"]

Json = Mapping[str, Any]

_TFMA_TOLERANCE = 1e-4
"""What `headrace.components.evaluation.cross_check` allows."""


def judge_quality(
    rules: Iterable[QualityGate], names: Iterable[str], evidence: Evidence, task: str
) -> list[Gate]:
    """Judge every rule on every named variant.

    Args:
        rules: `gates.quality`.
        names: Variants to judge: float32 and those that would be pushed.
        evidence: What was measured.
        task: `binary`, `multiclass`, `multilabel` or `regression`.

    Returns:
        The gates, rule by rule. Where there are no rules, one NO_THRESHOLD gate, and whether the model
        knows more than a guess: `auc` of 0.5, or `r2` of 0 for regression.
    """
    rules, names, found = list(rules), list(names), []
    if not rules:
        reason = "`gates.quality` is empty, so nothing bounds the quality of the model."
        found.append(Gate("quality", "any", "NO_THRESHOLD", reason, variant="float32"))
        guess = {"metric": "r2", "min": 0.0} if task == "regression" else {"metric": "auc", "min": 0.5}
        rules = [QualityGate.model_validate(guess)]
    return [*found, *(gate for rule in rules for name in names for gate in _judge_rule(rule, name, evidence))]


def judge_agreement(evidence: Evidence) -> list[Gate]:
    """Judge whether TFMA's own code finds the metrics that all other gates stand on.

    Returns:
        One gate on float32; none where the evaluation did not ask TFMA.
    """
    check = evidence.evaluation.get("tfma")
    if check is None:
        return []
    bound = Bound("<=", _TFMA_TOLERANCE)
    value = check.get("max_abs_diff")
    return [
        Gate("quality", "tfma_difference", check["state"], check["reason"], "float32", None, bound, value)
    ]


def _judge_rule(rule: QualityGate, name: str, evidence: Evidence) -> Iterator[Gate]:
    """Yield the gates of one rule on one variant: one a bound, or one a failing slice."""
    keys = rule.slice or None
    if rule.min is None and rule.max is None and rule.max_drop is None:
        reason = f"the gate on {rule.metric} sets none of `min`, `max` and `max_drop`."
        yield Gate("quality", rule.metric, "NO_THRESHOLD", reason, variant=name, slice=keys)
        return
    for bound in _absolute_bounds(rule):
        yield from _judge_bound(rule, name, evidence, bound, against_baseline=False)
    if rule.max_drop is not None:
        bound = Bound("<=", rule.max_drop)
        if evidence.baseline() is None:
            reason = f"there is no baseline: {evidence.no_baseline()}."
            yield Gate("quality", f"{rule.metric}_drop", "NO_BASELINE", reason, name, keys, bound)
        else:
            yield from _judge_bound(rule, name, evidence, bound, against_baseline=True)


def _absolute_bounds(rule: QualityGate) -> Iterator[Bound]:
    if rule.min is not None:
        yield Bound(">=", rule.min)
    if rule.max is not None:
        yield Bound("<=", rule.max)


def _judge_bound(
    rule: QualityGate, name: str, evidence: Evidence, bound: Bound, *, against_baseline: bool
) -> list[Gate]:
    """Judge one bound on all rows, on the named slice or on every slice."""
    metric = f"{rule.metric}_drop" if against_baseline else rule.metric
    keys = rule.slice or None
    try:
        results = evidence.compared(name) if against_baseline else evidence.evaluated(name)
        if rule.every_slice:
            return _judge_slices(rule, name, results, evidence, bound, against_baseline=against_baseline)
        if keys:
            results = find_slice(results, keys)
            if results["rows"] < evidence.min_slice_rows:
                reason = f"the slice is {evidence.too_small([results])}."
                return [Gate("quality", metric, "SKIPPED", reason, name, keys, bound)]
        gate = _compare(rule.metric, name, keys, results, evidence, bound, against_baseline=against_baseline)
        return [gate]
    except Absent as absent:
        return [Gate("quality", metric, absent.state, absent.reason, name, keys, bound)]


def _judge_slices(
    rule: QualityGate,
    name: str,
    results: Json,
    evidence: Evidence,
    bound: Bound,
    *,
    against_baseline: bool,
) -> list[Gate]:
    """Return a gate for every failing slice, or where none fails one gate for the worst."""
    metric = f"{rule.metric}_drop" if against_baseline else rule.metric
    enough, small = evidence.slices(results)
    too_small = evidence.too_small(small)
    if not enough:
        what = too_small or "`evaluation.slices` names none"
        return [Gate("quality", metric, "SKIPPED", f"no slice could be judged: {what}.", name, None, bound)]
    gates = [
        _compare(rule.metric, name, s["keys"], s, evidence, bound, against_baseline=against_baseline)
        for s in enough
    ]
    failing = [gate for gate in gates if gate.state != "PASS"]
    if failing:
        return failing
    worst = (max if bound.op == "<=" else min)(gates, key=lambda gate: gate.value or 0.0)
    reason = f"all {len(gates)} slices pass; the worst: {worst.reason}"
    if too_small:
        reason = f"{reason.removesuffix('.')}; {too_small}."
    return [Gate("quality", metric, "PASS", reason, name, worst.slice, bound, worst.value)]


def _compare(
    metric: str,
    name: str,
    keys: Mapping[str, str] | None,
    results: Json,
    evidence: Evidence,
    bound: Bound,
    *,
    against_baseline: bool,
) -> Gate:
    """Compare one value, or one loss against the baseline, with its bound."""
    gate_metric = f"{metric}_drop" if against_baseline else metric
    place = f"{metric} on {slice_text(keys)}" if keys else metric
    value = find_metric(results, metric)
    if value is None:
        reason = f"{place} could not be computed on these rows."
        return Gate("quality", gate_metric, "FAIL", reason, name, keys, bound)
    if not against_baseline:
        holds = bound.holds(value)
        limit = ("at least" if bound.op == ">=" else "at most") + f" {bound.value:g}"
        reason = f"{place} is {value:.6g}, {'and so' if holds else 'and must be'} {limit}."
        return Gate("quality", gate_metric, "PASS" if holds else "FAIL", reason, name, keys, bound, value)
    baseline = evidence.compared("baseline")
    if why := baseline.get("failed"):
        reason = f"the baseline cannot answer on these rows: {why}"
        return Gate("quality", gate_metric, "FAIL", reason, name, keys, bound)
    reference = find_metric(find_slice(baseline, keys) if keys else baseline, metric)
    if reference is None:
        reason = f"{place} of the baseline could not be computed on these rows."
        return Gate("quality", gate_metric, "FAIL", reason, name, keys, bound)
    drop = loss(metric, reference, value)
    holds = bound.holds(drop)
    change = f"{abs(drop):.6g} {'worse' if drop > 0 else 'better'} than the baseline's {reference:.6g}"
    ask = f"{bound.value:g} worse" if bound.value >= 0 else f"{-bound.value:g} better"
    wanted = f"{'at most' if bound.value >= 0 else 'at least'} {ask}"
    note = evidence.compared_note()
    reason = f"{place} is {value:.6g}, {change}; it must be {wanted}.{' ' if note else ''}{note}"
    return Gate("quality", gate_metric, "PASS" if holds else "FAIL", reason, name, keys, bound, drop)
