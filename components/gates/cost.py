"""Cost and serving gates: size, speed, memory, and the answers of a fresh process."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.components.parity.tolerance import golden_bound

from .config import CostGate, ServingGate
from .evidence import Absent, Evidence, finite
from .state import Bound, Gate, GateState

__all__ = ["judge_cost", "judge_serving", "of_infra"]

Json = Mapping[str, Any]

_BOUNDS = ("size_bytes", "size_ratio", "p99_us_b1", "p99_us_b100", "load_s", "rss_bytes")
"""Names of the measures; the config's bound on each is `max_` + name."""

_SIZES = ("size_bytes", "size_ratio")
"""Those that the files alone decide."""

_DOORS = {"rest": "REST", "grpc": "gRPC"}
_SERVERS = {"embedded": "the embedded server", "tensorflow_serving": "TensorFlow Serving"}


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


def of_infra(gate: Gate) -> bool:
    """Whether a gate judges what the infra check measured, which may come out otherwise another time."""
    return gate.kind == "serving" or (gate.kind == "cost" and gate.metric not in _SIZES)


def judge_serving(rule: ServingGate, name: str, evidence: Evidence) -> list[Gate]:
    """Judge what the infra check found for one variant: its answers, its memory, and what a server says.

    Variants below float32 have no bound on single answers unless `quantized_tolerance` sets one: the variant
    gates hold them over the whole test split. Their gate is `golden_rows`, that all are answered with finite
    numbers.
    """
    bound = _tolerance(rule, name)
    metric = "golden_rows" if bound is None else "golden_diff"
    try:
        evidence.variant(name)
        probe = evidence.probed(name)
    except Absent as absent:
        return [Gate("serving", metric, absent.state, absent.reason, name, None, bound)]
    gates = [_counted(probe, name, evidence) if bound is None else _answers(probe, name, bound)]
    if gates[0].state != "PASS":
        return gates
    if rule.max_rss_bytes is not None:
        gates.append(_memory(probe, name, Bound("<=", float(rule.max_rss_bytes))))
    if not name.startswith("tflite_"):
        gates += [_served(probe, name, door, Bound("<=", rule.tolerance)) for door in _DOORS]
    return gates


def _tolerance(rule: ServingGate, name: str) -> Bound | None:
    most = golden_bound(name, rule.tolerance, rule.quantized_tolerance)
    return None if most is None else Bound("<=", most)


def _answers(probe: Json, name: str, bound: Bound) -> Gate:
    """Judge load and golden requests of a variant whose answers are bounded."""
    value = finite(probe.get("max_golden_diff"))
    unloaded = _unloaded(probe)
    if unloaded is not None:
        state, text = unloaded
        return Gate("serving", "golden_diff", state, text, name, None, bound, value)
    if value is None or not bound.holds(value):
        got = "were not compared" if value is None else f"differ by up to {value:.3g}"
        text = f"its answers to golden requests {got}; at most {bound.value:g} is allowed."
        return Gate("serving", "golden_diff", "FAIL", text, name, None, bound, value)
    text = (
        f"it loads, and its answers to {probe.get('golden_rows')} golden rows differ from those of the "
        f"trained model by at most {value:.3g}."
    )
    return Gate("serving", "golden_diff", "PASS", text, name, None, bound, value)


def _counted(probe: Json, name: str, evidence: Evidence) -> Gate:
    """Judge load and golden requests of a variant that may differ; the difference is told, not judged."""
    asked, rows = finite(evidence.infra.get("golden_rows")), finite(probe.get("golden_rows"))
    difference = finite(probe.get("max_golden_diff"))
    bound = None if asked is None else Bound(">=", asked)
    unloaded = _unloaded(probe)
    if unloaded is not None:
        state, text = unloaded
        return Gate("serving", "golden_rows", state, text, name, None, bound, rows)
    if bound is None or rows is None or not bound.holds(rows) or difference is None:
        text = (
            f"it must answer every golden row with finite numbers. Received: {rows or 0:g} of {asked or 0:g}."
        )
        return Gate("serving", "golden_rows", "FAIL", text, name, None, bound, rows)
    text = (
        f"it loads and answers {rows:g} of {asked:g} golden rows with finite numbers; they differ from "
        f"float32's by up to {difference:.3g}, as compression may: drop and flip rate judge what it costs."
    )
    return Gate("serving", "golden_rows", "PASS", text, name, None, bound, rows)


def _unloaded(probe: Json) -> tuple[GateState, str] | None:
    """Return state and reason where the variant was not probed or could not answer."""
    found, reason = str(probe.get("state")), str(probe.get("reason") or "")
    if found == "SKIPPED":
        return "SKIPPED", reason or "it was not probed."
    return None if found == "PASS" else ("FAIL", reason or f"the infra check said {found}.")


def _served(probe: Json, name: str, door: str, bound: Bound) -> Gate:
    """Judge the answers of a server's REST or gRPC door against those of the same variant in process."""
    metric, (spoken, server) = f"{door}_golden_diff", (_DOORS[door], _SERVERS["embedded"])
    served = probe.get("served")
    if served is None:
        text = f"no server was asked over {spoken}."
        return Gate("serving", metric, "FAIL", text, name, None, bound)
    server = _SERVERS.get(str(served.get("by")), server)
    found = served.get(door) or {}
    value, reason = finite(found.get("max_golden_diff")), str(found.get("reason") or "")
    if reason or value is None:
        text = f"{server} over {spoken}: {reason or 'its answers were not compared'}."
        return Gate("serving", metric, "FAIL", text, name, None, bound, value)
    signatures = ", ".join(found.get("signatures") or ())
    if not bound.holds(value):
        text = (
            f"the answers of {server} over {spoken} ({signatures}) differ from those in process by up to "
            f"{value:.3g}; at most {bound.value:g} is allowed."
        )
        return Gate("serving", metric, "FAIL", text, name, None, bound, value)
    text = (
        f"{server} answers {found.get('golden_rows')} golden rows over {spoken} ({signatures}) as "
        f"the variant does in process, to within {value:.3g}{_speed(found)}."
    )
    return Gate("serving", metric, "PASS", text, name, None, bound, value)


def _speed(found: Json) -> str:
    one = (found.get("latency_us") or {}).get("b1")
    return f"; one row takes {one['p50'] / 1e3:.2g} ms, p99 {one['p99'] / 1e3:.2g} ms" if one else ""


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
