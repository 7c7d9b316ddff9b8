"""Cost and serving gates: size, speed, memory, and the answers of a fresh process."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.components.parity.tolerance import golden_bound

from .config import CostGate, ServingGate
from .evidence import Absent, Evidence, finite
from .state import Bound, Gate, GateState

__all__ = ["judge_cost", "judge_serving"]

Json = Mapping[str, Any]

_BOUNDS = ("size_bytes", "size_ratio", "p99_us_b1", "p99_us_b100", "load_s", "rss_bytes")
"""Names of the measures; the config's bound on each is `max_` + name."""


def judge_cost(rule: CostGate, evidence: Evidence) -> list[Gate]:
    """Judge every bound that one cost rule sets, a gate each."""
    gates = []
    for metric in _BOUNDS:
        most = getattr(rule, f"max_{metric}")
        if most is None:
            continue
        bound = Bound("<=", float(most))
        try:
            evidence.variant(rule.variant)
            value, text = _MEASURES[metric](rule.variant, evidence)
        except Absent as absent:
            gates.append(Gate("cost", metric, absent.state, absent.reason, rule.variant, None, bound))
            continue
        if value is None:
            reason = f"{text} was not measured."
            gates.append(Gate("cost", metric, "FAIL", reason, rule.variant, None, bound))
            continue
        holds = bound.holds(value)
        reason = f"{text} is {value:,.6g}; at most {bound.value:,.6g} is allowed."
        state: GateState = "PASS" if holds else "FAIL"
        gates.append(Gate("cost", metric, state, reason, rule.variant, None, bound, value))
    return gates


def judge_serving(rule: ServingGate, name: str, evidence: Evidence) -> list[Gate]:
    """Judge what the infra check found for one variant: its answers and its memory."""
    bound = _tolerance(rule, name)
    try:
        evidence.variant(name)
        probe = evidence.probed(name)
    except Absent as absent:
        return [Gate("serving", "golden_diff", absent.state, absent.reason, name, None, bound)]
    gates = [_answers(probe, name, bound)]
    if rule.max_rss_bytes is not None and gates[0].state == "PASS":
        gates.append(_memory(probe, name, Bound("<=", float(rule.max_rss_bytes))))
    return gates


def _tolerance(rule: ServingGate, name: str) -> Bound | None:
    most = golden_bound(name, rule.tolerance, rule.quantized_tolerance)
    return None if most is None else Bound("<=", most)


def _answers(probe: Json, name: str, bound: Bound | None) -> Gate:
    """Judge load and golden requests."""
    value = finite(probe.get("max_golden_diff"))
    found, reason = str(probe.get("state")), str(probe.get("reason") or "")
    if found == "SKIPPED":
        text = reason or "it was not probed."
        return Gate("serving", "golden_diff", "SKIPPED", text, name, None, bound, value)
    if found != "PASS":
        text = reason or f"the infra check said {found}."
        return Gate("serving", "golden_diff", "FAIL", text, name, None, bound, value)
    if bound is not None and (value is None or not bound.holds(value)):
        got = "were not compared" if value is None else f"differ by up to {value:.3g}"
        text = f"its answers to golden requests {got}; at most {bound.value:g} is allowed."
        return Gate("serving", "golden_diff", "FAIL", text, name, None, bound, value)
    rows, differ = probe.get("golden_rows"), "" if value is None else f", largest difference {value:.3g}"
    text = reason or f"it loads and answers {rows} golden rows{differ}."
    return Gate("serving", "golden_diff", "PASS", text, name, None, bound, value)


def _memory(probe: Json, name: str, bound: Bound) -> Gate:
    """Judge the peak resident memory of the checking process."""
    rss = finite(probe.get("rss_bytes"))
    if rss is None:
        reason = "the peak memory was not measured."
        return Gate("serving", "rss_bytes", "FAIL", reason, name, None, bound)
    reason = f"peak memory is {rss / 1e6:,.0f} MB; at most {bound.value / 1e6:,.0f} MB is allowed."
    state: GateState = "PASS" if bound.holds(rss) else "FAIL"
    return Gate("serving", "rss_bytes", state, reason, name, None, bound, rss)


def _size(name: str, evidence: Evidence) -> tuple[float | None, str]:
    return finite(evidence.variant(name).get("size_bytes")), "the size in bytes"


def _size_ratio(name: str, evidence: Evidence) -> tuple[float | None, str]:
    """Divide by the same side's float32: weights for SavedModels, the file for TF Lite."""
    lite = name.startswith("tflite_")
    control, measure = ("tflite_float32", "size_bytes") if lite else ("float32", "weight_bytes")
    own = finite(evidence.variant(name).get(measure))
    whole = finite(evidence.variant(control).get(measure))
    text = f"the share of {control}'s {measure.replace('_', ' ')}"
    return (None if own is None or not whole else own / whole), text


def _latency(batch: str, text: str) -> Callable[[str, Evidence], tuple[float | None, str]]:
    def measure(name: str, evidence: Evidence) -> tuple[float | None, str]:
        latency = (evidence.probed(name).get("latency_us") or {}).get(batch) or {}
        return finite(latency.get("p99")), f"the 99th percentile latency of {text} in microseconds"

    return measure


def _probed(field: str, text: str) -> Callable[[str, Evidence], tuple[float | None, str]]:
    return lambda name, evidence: (finite(evidence.probed(name).get(field)), text)


_MEASURES: Mapping[str, Callable[[str, Evidence], tuple[float | None, str]]] = {
    "size_bytes": _size,
    "size_ratio": _size_ratio,
    "p99_us_b1": _latency("b1", "one row"),
    "p99_us_b100": _latency("b100", "100 rows"),
    "load_s": _probed("load_s", "the load time in seconds"),
    "rss_bytes": _probed("rss_bytes", "the peak memory in bytes"),
}
