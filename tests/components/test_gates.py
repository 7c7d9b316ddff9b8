import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.components.gates import run as run_node
from headrace.components.gates import verdict
from headrace.components.gates.config import CostGate, GatesConfig, QualityGate
from headrace.components.gates.evidence import Evidence
from headrace.components.gates.judge import decide, judge
from headrace.components.gates.state import Bound, Gate, read_gates, write_gates
from headrace.components.node import NodeContext
from headrace.components.push.config import PushConfig
from headrace.data.errors import DataRejected, GateRejected

PUSH = PushConfig(serving="int8_weights", lite="tflite_int8")
NAMES = ("float32", "int8_weights", "tflite_float32", "tflite_float16", "tflite_int8")
DATA_PASS = Gate("data", "anomalies", "PASS", "the data keeps every rule.")


def results(name: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    """One variant's part of evaluation.json."""

    def entry(carrier: str, rows: int, value: float) -> dict[str, Any]:
        return {"keys": {"carrier": carrier}, "rows": rows, "metrics": {"accuracy": value}}

    return {
        "name": name,
        "metrics": {"accuracy": accuracy, "auc": 0.8, "log_loss": 0.5},
        "slices": [
            entry("AA", 500, accuracy),
            entry("HA", 200, accuracy - 0.05),
            entry("OO", 5, 0.0),
        ],
        "agreement": None if name == "float32" else {"max_abs_diff": 0.01, "flip_rate": 0.01},
        **changes,
    }


class Candidate:
    """The documents of a candidate that passes everything, to be broken one at a time."""

    def __init__(self) -> None:
        self.evaluation: dict[str, Any] = {
            "variants": [results(name, 0.9) for name in NAMES],
            "baseline": None,
        }
        self.infra: dict[str, Any] = {
            "variants": [
                {
                    "name": name,
                    "state": "PASS",
                    "reason": "",
                    "load_s": 0.5,
                    "latency_us": {"b1": {"p50": 40, "p99": 60}, "b100": {"p50": 900, "p99": 1500}},
                    "rss_bytes": 500_000_000,
                    "max_golden_diff": 0.0,
                    "golden_rows": 256,
                }
                for name in NAMES
            ]
        }
        sizes = {
            "float32": (5000, 4000),
            "int8_weights": (2000, 1000),
            "tflite_float32": (4400, 4000),
            "tflite_float16": (2200, 2000),
            "tflite_int8": (1320, 1000),
        }
        self.variants: list[dict[str, Any]] = [
            {"name": n, "state": "built", "reason": "", "size_bytes": size, "weight_bytes": weights}
            for n, (size, weights) in sizes.items()
        ]

    def evaluated(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(v for v in self.evaluation["variants"] if v["name"] == name)
        return found

    def probed(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(v for v in self.infra["variants"] if v["name"] == name)
        return found

    def judge(
        self, rules: dict[str, Any] | None = None, push: PushConfig = PUSH, task: str = "binary"
    ) -> list[Gate]:
        rules = {"quality": [{"metric": "auc", "min": 0.7}], **(rules or {})}
        evidence = Evidence(self.evaluation, self.infra, self.variants, min_slice_rows=200)
        return judge(evidence, [DATA_PASS], GatesConfig.model_validate(rules), push, task)


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


def blocking(gates: Sequence[Gate], push: PushConfig = PUSH, *, allow_unbounded: bool = False) -> list[Gate]:
    return [gates[i] for i in decide(gates, push, known=NAMES, allow_unbounded=allow_unbounded).blocking]


def only(gates: Sequence[Gate], **fields: Any) -> Gate:
    (gate,) = [g for g in gates if all(getattr(g, k) == v for k, v in fields.items())]
    return gate


def test_a_good_candidate_passes_every_gate(candidate: Candidate) -> None:
    gates = candidate.judge()
    assert {gate.state for gate in gates} == {"PASS"}
    assert decide(gates, PUSH, known=NAMES, allow_unbounded=False).to_json() == {
        "verdict": "push",
        "blocking": [],
        "targets": {"serving": "int8_weights", "lite": "tflite_int8"},
    }
    assert gates[0] is DATA_PASS
    # auc on float32 and both targets; drop, slice drop and flips of 4 variants; answers and memory of 5.
    counts = {k: sum(g.kind == k for g in gates) for k in ("data", "quality", "variant", "cost", "serving")}
    assert counts == {"data": 1, "quality": 3, "variant": 12, "cost": 0, "serving": 10}
    assert all(gate.reason.endswith(".") for gate in gates)


# --- quality


@pytest.mark.parametrize(
    ("rule", "state", "value"),
    [
        ({"metric": "auc", "min": 0.8}, "PASS", 0.8),
        ({"metric": "auc", "min": 0.81}, "FAIL", 0.8),
        ({"metric": "log_loss", "max": 0.5}, "PASS", 0.5),
        ({"metric": "log_loss", "max": 0.4}, "FAIL", 0.5),
        ({"metric": "accuracy", "slice": {"carrier": "HA"}, "min": 0.8}, "PASS", 0.85),
        ({"metric": "accuracy", "slice": {"carrier": "HA"}, "min": 0.86}, "FAIL", 0.85),
    ],
)
def test_absolute_bounds(candidate: Candidate, rule: dict[str, Any], state: str, value: float) -> None:
    gates = [g for g in candidate.judge({"quality": [rule]}) if g.kind == "quality"]
    assert [(g.variant, g.state) for g in gates] == [
        (n, state) for n in ("float32", "int8_weights", "tflite_int8")
    ]
    assert all(g.value == pytest.approx(value) for g in gates)
    assert f"{value:g}" in gates[0].reason
    assert len(blocking(gates)) == (3 if state == "FAIL" else 0)


def test_min_and_max_are_two_gates(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "auc", "min": 0.7, "max": 0.75}]})
    found = [(g.bound, g.state) for g in gates if g.kind == "quality" and g.variant == "float32"]
    assert found == [(Bound(">=", 0.7), "PASS"), (Bound("<=", 0.75), "FAIL")]


def test_every_slice_names_each_failing_one(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "accuracy", "every_slice": True, "min": 0.88}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate.slice) == ("FAIL", {"carrier": "HA"})
    assert gate.reason == "accuracy on carrier=HA is 0.85, and must be at least 0.88."


def test_every_slice_that_passes_is_one_gate_with_the_worst(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "accuracy", "every_slice": True, "min": 0.8}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate.slice, gate.value) == ("PASS", {"carrier": "HA"}, pytest.approx(0.85))
    assert "all 2 slices pass" in gate.reason
    assert "not judged, fewer than 200 rows: carrier=OO (5)" in gate.reason


def test_a_slice_with_too_few_rows_is_skipped_and_blocks(candidate: Candidate) -> None:
    rules = {"quality": [{"metric": "accuracy", "slice": {"carrier": "OO"}, "min": 0.1}]}
    gates = candidate.judge(rules)
    gate = only(gates, kind="quality", variant="float32")
    assert gate.state == "SKIPPED"
    assert gate.reason == "the slice is not judged, fewer than 200 rows: carrier=OO (5)."
    assert gate in blocking(gates)


@pytest.mark.parametrize("slices", [[], [{"keys": {"carrier": "OO"}, "rows": 5, "metrics": {}}]])
def test_every_slice_without_a_slice_to_judge_is_skipped(candidate: Candidate, slices: list[Any]) -> None:
    for entry in candidate.evaluation["variants"]:
        entry["slices"] = slices
    gates = candidate.judge({"quality": [{"metric": "accuracy", "every_slice": True, "min": 0.1}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate in blocking(gates)) == ("SKIPPED", True)
    assert gate.reason.startswith("no slice could be judged")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"metric": "r2", "min": 0.1}, "r2 is not among the metrics: accuracy, auc, log_loss."),
        ({"metric": "pr_auc", "min": 0.1}, "Did you mean auc?"),
        (
            {"metric": "accuracy", "slice": {"carrier": "H"}, "min": 0.1},
            "carrier=H is not among the test rows; there are: carrier=AA, carrier=HA, carrier=OO.",
        ),
        (
            {"metric": "accuracy", "slice": {"origin": "JFK"}, "min": 0.1},
            "`evaluation.slices` has no entry for origin; it has: carrier.",
        ),
        (
            {"metric": "auc", "slice": {"carrier": "HA"}, "min": 0.1},
            "auc is not among the metrics: accuracy.",
        ),
    ],
)
def test_what_is_not_there_fails_with_the_valid_choices(
    candidate: Candidate, rule: dict[str, Any], message: str
) -> None:
    gates = candidate.judge({"quality": [rule]})
    gate = only(gates, kind="quality", variant="float32")
    assert gate.state == "FAIL"
    assert message in gate.reason
    assert gate in blocking(gates)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_could_not_be_computed_fails(candidate: Candidate, value: float | None) -> None:
    candidate.evaluated("float32")["metrics"]["auc"] = value
    gate = only(candidate.judge(), kind="quality", variant="float32")
    assert (gate.state, gate.value) == ("FAIL", None)
    assert "could not be computed" in gate.reason


def test_no_quality_gate_is_no_threshold_and_blocks_unless_allowed(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": []})
    gate = only(gates, kind="quality")
    assert gate.state == "NO_THRESHOLD"
    assert blocking(gates) == [gate]
    assert blocking(gates, allow_unbounded=True) == []


def test_a_quality_gate_without_a_bound_is_no_threshold(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "auc"}]})
    assert {g.state for g in gates if g.kind == "quality"} == {"NO_THRESHOLD"}


def test_without_a_baseline_a_drop_is_no_baseline_and_may_push(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.0}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate.metric, gate.bound) == ("NO_BASELINE", "auc_drop", Bound("<=", 0.0))
    assert blocking(gates) == []


@pytest.mark.parametrize(
    ("metric", "baseline", "max_drop", "state", "drop"),
    [
        ("auc", 0.81, 0.02, "PASS", 0.01),
        ("auc", 0.85, 0.02, "FAIL", 0.05),
        ("auc", 0.75, 0.0, "PASS", -0.05),
        ("auc", 0.75, -0.1, "FAIL", -0.05),  # An improvement of 0.1 is asked for.
        ("log_loss", 0.4, 0.05, "FAIL", 0.1),  # Lower is better: 0.5 is worse than 0.4.
        ("log_loss", 0.6, 0.0, "PASS", -0.1),
    ],
)
def test_drop_against_the_baseline(
    candidate: Candidate, metric: str, baseline: float, max_drop: float, state: str, drop: float
) -> None:
    candidate.evaluation["baseline"] = results("baseline", 0.9)
    candidate.evaluation["baseline"]["metrics"][metric] = baseline
    gates = candidate.judge({"quality": [{"metric": metric, "max_drop": max_drop}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate.value) == (state, pytest.approx(drop))
    assert f"the baseline's {baseline:g}" in gate.reason


def test_drop_against_the_baseline_on_slices(candidate: Candidate) -> None:
    candidate.evaluation["baseline"] = results("baseline", 0.9)
    candidate.evaluation["baseline"]["slices"][1]["metrics"]["accuracy"] = 0.95
    rules = {"quality": [{"metric": "accuracy", "every_slice": True, "max_drop": 0.05}]}
    gate = only(candidate.judge(rules), kind="quality", variant="float32")
    assert (gate.state, gate.slice, gate.value) == ("FAIL", {"carrier": "HA"}, pytest.approx(0.1))
    del candidate.evaluation["baseline"]["metrics"]["accuracy"]
    rules = {"quality": [{"metric": "accuracy", "max_drop": 0.05}]}
    assert only(candidate.judge(rules), kind="quality", variant="float32").state == "FAIL"


# --- variant


def test_a_drop_of_a_pushed_variant_blocks(candidate: Candidate) -> None:
    candidate.evaluated("tflite_int8")["metrics"]["accuracy"] = 0.89
    gates = candidate.judge()
    gate = only(gates, kind="variant", variant="tflite_int8", metric="accuracy_drop")
    assert (gate.state, gate.value) == ("FAIL", pytest.approx(0.01))
    assert gate.reason == ("accuracy is 0.89, 0.01 worse than float32's 0.9; at most 0.005 worse is allowed.")
    assert blocking(gates) == [gate]


def test_a_drop_of_another_variant_is_shown_and_does_not_block(candidate: Candidate) -> None:
    candidate.evaluated("tflite_float16")["metrics"]["accuracy"] = 0.5
    gates = candidate.judge()
    gate = only(gates, kind="variant", variant="tflite_float16", metric="accuracy_drop")
    assert gate.state == "FAIL"
    assert gate.reason.endswith("(not pushed, so this does not block).")
    assert blocking(gates) == []
    pushed = PushConfig(serving=None, lite="tflite_float16")
    assert len(blocking(candidate.judge(push=pushed), pushed)) == 1


def test_a_slice_drop_counts_only_where_rows_suffice(candidate: Candidate) -> None:
    slices = candidate.evaluated("tflite_int8")["slices"]
    slices[2]["metrics"]["accuracy"] = -1.0  # carrier=OO has 5 rows.
    gate = only(candidate.judge(), kind="variant", variant="tflite_int8", metric="accuracy_slice_drop")
    assert gate.state == "PASS"
    assert "carrier=OO (5)" in gate.reason
    slices[1]["metrics"]["accuracy"] = 0.82
    gate = only(candidate.judge(), kind="variant", variant="tflite_int8", metric="accuracy_slice_drop")
    assert (gate.state, gate.slice, gate.value) == ("FAIL", {"carrier": "HA"}, pytest.approx(0.03))


def test_only_small_slices_are_named_and_do_not_block(candidate: Candidate) -> None:
    for entry in candidate.evaluation["variants"]:
        entry["slices"] = entry["slices"][2:]
    gates = candidate.judge()
    assert not [g for g in gates if g.metric == "accuracy_slice_drop"]
    gate = only(gates, variant="tflite_int8", metric="accuracy_drop")
    assert gate.reason.endswith("slices not judged, fewer than 200 rows: carrier=OO (5).")
    assert blocking(gates) == []


@pytest.mark.parametrize(
    ("rate", "state"), [(0.02, "PASS"), (0.021, "FAIL"), (None, "FAIL"), (float("nan"), "FAIL")]
)
def test_flip_rate(candidate: Candidate, rate: float | None, state: str) -> None:
    candidate.evaluated("tflite_int8")["agreement"]["flip_rate"] = rate
    gates = candidate.judge()
    gate = only(gates, variant="tflite_int8", metric="flip_rate")
    assert gate.state == state
    assert (gate in blocking(gates)) == (state == "FAIL")


def test_bounds_set_to_null_are_no_threshold(candidate: Candidate) -> None:
    rule = {"max_drop": None, "max_slice_drop": None, "max_flip_rate": None}
    gates = candidate.judge({"variant": rule})
    found = [g for g in gates if g.kind == "variant" and g.variant == "tflite_int8"]
    assert [g.state for g in found] == ["NO_THRESHOLD"] * 3
    assert {g.variant for g in blocking(gates)} == {"int8_weights", "tflite_int8"}
    assert blocking(gates, allow_unbounded=True) == []


def test_regression_is_judged_on_r2_and_has_no_flips(candidate: Candidate) -> None:
    for entry in candidate.evaluation["variants"]:
        entry.update(metrics={"r2": 0.7, "rmse": 2.0}, slices=[], agreement={"flip_rate": None})
    candidate.evaluated("tflite_int8")["metrics"]["r2"] = 0.6
    gates = candidate.judge({"quality": [{"metric": "rmse", "max": 3}]}, task="regression")
    assert not [g for g in gates if g.metric == "flip_rate"]
    assert [g.metric for g in blocking(gates)] == ["r2_drop"]
    rules = {"quality": [{"metric": "rmse", "max": 3}], "variant": {"metric": "rmse", "max_drop": 0.1}}
    candidate.evaluated("tflite_int8")["metrics"]["rmse"] = 2.5
    gate = only(candidate.judge(rules, task="regression"), variant="tflite_int8", metric="rmse_drop")
    assert (gate.state, gate.value) == ("FAIL", pytest.approx(0.5))


def test_a_skipped_variant_blocks_only_as_a_target(candidate: Candidate) -> None:
    reason = "a preprocessing_fn of your own has no sidecar"
    for entry in candidate.variants:
        if entry["name"].startswith("tflite"):
            entry.update(state="skipped", reason=reason, size_bytes=None)
    for i, entry in enumerate(candidate.evaluation["variants"]):
        if entry["name"].startswith("tflite"):
            candidate.evaluation["variants"][i] = {"name": entry["name"], "skipped": reason}
    gates = candidate.judge()
    states = {g.state for g in gates if g.variant == "tflite_int8"}
    assert states == {"SKIPPED"}
    assert {g.variant for g in blocking(gates)} == {"tflite_int8"}
    assert all(reason in g.reason for g in blocking(gates))
    serving = PushConfig(serving="int8_weights", lite=None)
    assert blocking(candidate.judge(push=serving), serving) == []


def test_a_target_that_was_not_built_fails_with_the_choices(candidate: Candidate) -> None:
    push = PushConfig(serving="float32", lite="tflite_dynamic_int8")
    gates = blocking(candidate.judge(push=push), push)
    assert {g.kind for g in gates} == {"quality", "variant", "serving"}
    assert all(g.state == "FAIL" and "tflite_dynamic_int8 is not in" in g.reason for g in gates)
    assert "there are: float32, int8_weights, tflite_float32" in gates[0].reason


# --- cost


@pytest.mark.parametrize(
    ("variant", "bound", "exact"),
    [
        ("tflite_int8", "max_size_bytes", 1320),
        ("tflite_int8", "max_size_ratio", 0.3),  # 1320 / 4400, files
        ("int8_weights", "max_size_ratio", 0.25),  # 1000 / 4000, weights
        ("int8_weights", "max_p99_us_b1", 60),
        ("int8_weights", "max_p99_us_b100", 1500),
        ("int8_weights", "max_load_s", 0.5),
        ("int8_weights", "max_rss_bytes", 500_000_000),
    ],
)
def test_cost_bounds(candidate: Candidate, variant: str, bound: str, exact: float) -> None:
    gates = candidate.judge({"cost": [{"variant": variant, bound: exact}]})
    gate = only(gates, kind="cost")
    assert (gate.state, gate.metric, gate.value) == ("PASS", bound.removeprefix("max_"), pytest.approx(exact))
    below = int(exact) - 1 if isinstance(exact, int) else exact * 0.99
    gates = candidate.judge({"cost": [{"variant": variant, bound: below}]})
    gate = only(gates, kind="cost")
    assert gate.state == "FAIL"
    assert "is allowed" in gate.reason
    assert blocking(gates) == [gate]


def test_a_cost_gate_on_a_variant_that_is_not_pushed_does_not_block(candidate: Candidate) -> None:
    gates = candidate.judge({"cost": [{"variant": "tflite_float16", "max_size_bytes": 1}]})
    assert only(gates, kind="cost").state == "FAIL"
    assert blocking(gates) == []


def test_cost_of_what_was_not_measured_fails(candidate: Candidate) -> None:
    candidate.probed("int8_weights")["latency_us"]["b1"]["p99"] = None
    rule = {"variant": "int8_weights", "max_p99_us_b1": 100, "max_size_ratio": 0.5}
    candidate.variants[0]["weight_bytes"] = 0
    gates = [g for g in candidate.judge({"cost": [rule]}) if g.kind == "cost"]
    assert [(g.metric, g.state) for g in gates] == [("size_ratio", "FAIL"), ("p99_us_b1", "FAIL")]
    assert all("was not measured" in g.reason for g in gates)


def test_a_cost_gate_on_an_unknown_variant_fails_with_the_nearest(candidate: Candidate) -> None:
    gates = candidate.judge({"cost": [{"variant": "int8_weight", "max_load_s": 1}]})
    gate = only(gates, kind="cost")
    assert gate.state == "FAIL"
    assert gate.reason.endswith("Did you mean int8_weights?")
    assert blocking(gates) == [gate]  # Else a slip in a name would lift the bound in silence.


# --- serving


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "int8_weights",
            {"state": "FAIL", "reason": "could not find variable dense/kernel."},
            "dense/kernel",
        ),
        ("int8_weights", {"max_golden_diff": 0.06}, "differ by up to 0.06; at most 0.05 is allowed"),
        ("int8_weights", {"max_golden_diff": None}, "were not compared"),
        ("int8_weights", {"rss_bytes": 5_000_000_000}, "peak memory is 5,000 MB; at most 4,000 MB"),
        ("int8_weights", {"rss_bytes": None}, "the peak memory was not measured"),
        ("tflite_int8", {"state": "FAIL", "reason": ""}, "the infra check said FAIL"),
    ],
)
def test_serving_gates(candidate: Candidate, name: str, change: dict[str, Any], message: str) -> None:
    candidate.probed(name).update(change)
    gates = candidate.judge()
    (gate,) = blocking(gates)
    assert (gate.kind, gate.variant, gate.state) == ("serving", name, "FAIL")
    assert message in gate.reason


def test_float32_is_held_to_the_tight_tolerance_where_it_is_pushed(candidate: Candidate) -> None:
    candidate.probed("float32")["max_golden_diff"] = 1e-4
    gates = candidate.judge()
    assert only(gates, kind="serving", variant="float32", metric="golden_diff").state == "FAIL"
    assert blocking(gates) == []
    push = PushConfig(serving="float32", lite=None)
    assert [g.variant for g in blocking(candidate.judge(push=push), push)] == ["float32"]


def test_a_skipped_probe_never_pushes(candidate: Candidate) -> None:
    candidate.probed("tflite_int8").update(state="SKIPPED", reason="no runtime here.")
    (gate,) = blocking(candidate.judge())
    assert (gate.state, gate.reason) == ("SKIPPED", "no runtime here.")


def test_a_target_that_was_not_probed_fails(candidate: Candidate) -> None:
    candidate.infra["variants"].pop()
    (gate,) = blocking(candidate.judge())
    assert (gate.kind, gate.state) == ("serving", "FAIL")
    assert "is not in infra.json" in gate.reason


# --- verdict


@pytest.mark.parametrize(
    ("state", "blocks", "unbounded"),
    [
        ("PASS", False, False),
        ("NO_BASELINE", False, False),
        ("NO_THRESHOLD", True, False),
        ("SKIPPED", True, True),
        ("FAIL", True, True),
    ],
)
@pytest.mark.parametrize(
    ("kind", "variant"), [("data", None), ("quality", "float32"), ("cost", "tflite_int8")]
)
def test_which_states_block(
    state: Any, blocks: bool, unbounded: bool, kind: Any, variant: str | None
) -> None:
    gates = [DATA_PASS, Gate(kind, "m", state, "r.", variant)]
    assert decide(gates, PUSH, known=NAMES, allow_unbounded=False).blocking == ((1,) if blocks else ())
    assert decide(gates, PUSH, known=NAMES, allow_unbounded=True).blocking == ((1,) if unbounded else ())


def test_gates_survive_the_file(tmp_path: Path) -> None:
    gates = [
        Gate("cost", "load_s", "FAIL", "slow – 2 s.", "float32", {"a": "b"}, Bound("<=", 1.5), 2.0),
        Gate("data", "anomalies", "PASS", "fine.", value=float("nan")),
    ]
    write_gates(tmp_path / "gates.json", gates)
    again = read_gates(tmp_path / "gates.json")
    assert again == gates
    assert again[1].value is None
    assert list(json.loads((tmp_path / "gates.json").read_text())[0]) == [
        "kind", "variant", "slice", "metric", "bound", "value", "state", "reason",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "OK"}, "`state` of a gate must be one of PASS, FAIL.*Received: OK"),
        ({"kind": "mood"}, "`kind` of a gate must be one of data"),
        ({"bound": {"op": "<", "value": 1}}, "`op` of a gate must be one of <=, >="),
        ({"reason": ...}, "must have the field 'reason'"),
    ],
)
def test_what_is_no_gate_is_refused(change: dict[str, Any], message: str) -> None:
    fields = {**DATA_PASS.to_json(), **change}
    fields = {k: v for k, v in fields.items() if v is not ...}
    with pytest.raises(ValueError, match=message):
        Gate.from_json(fields)


@pytest.mark.parametrize(
    ("op", "value", "holds"),
    [
        ("<=", 1.0, True),
        (">=", 1.0, True),
        ("<=", 1.1, False),
        (">=", 0.9, False),
        ("<=", float("nan"), False),
        (">=", float("nan"), False),
    ],
)
def test_bounds(op: Any, value: float, holds: bool) -> None:
    assert Bound(op, 1.0).holds(value) is holds


def test_config_refuses_what_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="at most one of `slice` and `every_slice`"):
        QualityGate(metric="auc", slice={"a": "b"}, every_slice=True)
    with pytest.raises(ValueError, match="must set at least one bound"):
        CostGate(variant="float32")
    assert QualityGate.model_validate({"metric": "auc", "slice": {"month": 1}}).slice == {"month": "1"}


# --- nodes


def _context(root: Path, candidate: Candidate, rules: dict[str, Any]) -> NodeContext:
    documents = {
        "evaluation/evaluation.json": candidate.evaluation,
        "infra/infra.json": candidate.infra,
        "variants/variants.json": candidate.variants,
    }
    for name, document in documents.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(json.dumps(document))
    (root / "data_gates").mkdir()
    write_gates(root / "data_gates/gates.json", [DATA_PASS])
    config = {
        "gates": GatesConfig.model_validate(rules).model_dump(mode="json"),
        "push": PUSH.model_dump(mode="json"),
        "evaluation.min_slice_rows": 200,
        "data.task": "binary",
    }
    inputs = {n: [str(root / n)] for n in ("data_gates", "evaluation", "infra", "variants")}
    return NodeContext("gates", "r", inputs, {"gates": str(root / "gates")}, config, str(root))


def _verdict(root: Path, function: Any) -> Any:
    return function(NodeContext("v", "r", {"gates": [str(root / "gates")]}, {}, {}, str(root)))


def test_the_nodes_pass_a_good_candidate(tmp_path: Path, candidate: Candidate) -> None:
    result = run_node.run(_context(tmp_path, candidate, {"quality": [{"metric": "auc", "min": 0.7}]}))
    assert result.finding == "push; 26 gates: 26 PASS"
    assert result.properties["gates"] == {"verdict": "push", "blocking": 0}
    assert _verdict(tmp_path, verdict.model).finding == "push serving: int8_weights, lite: tflite_int8"


def test_the_nodes_reject_at_every_launch(tmp_path: Path, candidate: Candidate) -> None:
    candidate.evaluated("tflite_int8")["agreement"]["flip_rate"] = 0.5
    rules = {"quality": [{"metric": "auc", "min": 0.9}]}
    result = run_node.run(_context(tmp_path, candidate, rules))  # The evidence node finishes.
    assert result.finding.startswith("reject; 26 gates: 22 PASS, 4 FAIL; 4 block, first float32: auc is 0.8")
    for _ in range(2):
        with pytest.raises(GateRejected) as caught:
            _verdict(tmp_path, verdict.model)
        assert caught.value.exit_code == 3
        lines = caught.value.message.splitlines()
        assert lines[0] == "4 gates rejected the model."
        assert len(lines) == 5
        assert lines[1] == ("FAIL         quality  float32, auc: auc is 0.8, and must be at least 0.9.")
        assert "flip_rate: 50.000% of the rows" in lines[4]


def test_the_data_verdict_prints_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "gates"
    folder.mkdir()
    row = {
        "split": "train",
        "feature": "carrier",
        "rule": "known categories",
        "severity": "error",
        "expected": "one of AA, B6",
        "found": "also ZZ",
        "count": 1234,
    }
    (folder / "anomalies.json").write_text(json.dumps([row, {**row, "feature": "x", "severity": "warning"}]))
    write_gates(
        folder / "gates.json",
        [Gate("data", "anomalies", "FAIL", "1 rule is broken.", slice={"split": "train"})],
    )
    with pytest.raises(DataRejected) as caught:
        _verdict(tmp_path, verdict.data)
    assert caught.value.message.splitlines() == [
        "The data gate rejected the data.",
        "FAIL         data     data on split=train, anomalies: 1 rule is broken.",
        "split  feature  rule              expected       found    count",
        "train  carrier  known categories  one of AA, B6  also ZZ  1,234",
    ]
    write_gates(folder / "gates.json", [DATA_PASS])
    assert _verdict(tmp_path, verdict.data).finding == "1 data gates: PASS"


def test_judging_changes_nothing_it_was_given(candidate: Candidate) -> None:
    before = copy.deepcopy((candidate.evaluation, candidate.infra, candidate.variants))
    candidate.judge({"cost": [{"variant": "tflite_int8", "max_size_ratio": 0.3}]})
    assert before == (candidate.evaluation, candidate.infra, candidate.variants)
