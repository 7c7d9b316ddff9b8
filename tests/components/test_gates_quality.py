from typing import Any

import pytest

from headrace.components.gates.judge import decide
from headrace.components.gates.state import Bound
from tests.components.gate_candidate import DATA_PASS, NAMES, PUSH, Candidate, blocking, only, results


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


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
    assert counts == {"data": 1, "quality": 3, "variant": 12, "cost": 0, "serving": 14}
    assert all(gate.reason.endswith(".") for gate in gates)


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
    gate = only(gates, kind="quality", metric="any")
    assert gate.state == "NO_THRESHOLD"
    assert blocking(gates) == [gate]
    assert blocking(gates, allow_unbounded=True) == []


@pytest.mark.parametrize(
    ("task", "metric", "guess"),
    [
        ("binary", "auc", 0.5),
        ("multiclass", "auc", 0.5),
        ("multilabel", "auc", 0.5),
        ("regression", "r2", 0.0),
    ],
)
def test_without_a_quality_gate_no_model_may_know_less_than_a_guess(
    candidate: Candidate, task: str, metric: str, guess: float
) -> None:
    for found in candidate.evaluation["variants"]:
        found["metrics"] |= {metric: guess - 0.01, "macro_f1": 0.7, "r2": guess - 0.01}
    gates = candidate.judge({"quality": []}, task=task)
    gate = only(gates, kind="quality", variant="float32", metric=metric)
    assert (gate.state, gate.bound) == ("FAIL", Bound(">=", guess))
    assert gate in blocking(gates, allow_unbounded=True)


def test_a_quality_gate_without_a_bound_is_no_threshold(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "auc"}]})
    assert {g.state for g in gates if g.kind == "quality"} == {"NO_THRESHOLD"}


def test_without_a_baseline_a_drop_is_no_baseline_and_may_push(candidate: Candidate) -> None:
    gates = candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.0}]})
    gate = only(gates, kind="quality", variant="float32")
    assert (gate.state, gate.metric, gate.bound) == ("NO_BASELINE", "auc_drop", Bound("<=", 0.0))
    assert gate.reason == "there is no baseline: nothing else was pushed yet."
    assert blocking(gates) == []
    candidate.evaluation["no_baseline"] = "version 3, which is live, cannot be one: a.txt is altered"
    gate = only(
        candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.0}]}),
        variant="float32",
        state="NO_BASELINE",
    )
    assert gate.reason == "there is no baseline: version 3, which is live, cannot be one: a.txt is altered."


def test_both_are_compared_on_the_rows_that_the_baseline_did_not_learn(candidate: Candidate) -> None:
    candidate.evaluation["baseline"] = results("baseline", 0.99)
    rest = [
        results(name, value) for name, value in (("float32", 0.7), ("int8_weights", 0.6), ("baseline", 0.71))
    ]
    for entry, value in zip(rest, (0.7, 0.6, 0.71), strict=True):
        entry["metrics"]["auc"] = value
    note = "Compared on 120 rows: the baseline was trained on 30 of the 150 test rows."
    candidate.evaluation["comparison"] = {"note": note, "rows": 120, "results": rest}
    gate = only(
        candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.02}]}), variant="float32", kind="quality"
    )
    assert (gate.state, gate.value) == ("PASS", pytest.approx(0.01))
    assert gate.reason.endswith(f"the baseline's 0.71; it must be at most 0.02 worse. {note}")
    rules = {"quality": [{"metric": "accuracy", "every_slice": True, "max_drop": 0.02}]}
    gate = only(candidate.judge(rules), variant="float32", kind="quality")
    assert gate.state == "PASS"
    rest[0]["slices"][1]["metrics"]["accuracy"] = 0.45
    gate = only(candidate.judge(rules), variant="float32", kind="quality")
    assert (gate.state, gate.value) == ("FAIL", pytest.approx(0.21))
    # A bound on the value itself stays one on all test rows.
    gate = only(
        candidate.judge({"quality": [{"metric": "auc", "min": 0.75}]}), variant="float32", kind="quality"
    )
    assert gate.state == "PASS"
    candidate.evaluation["comparison"] = {"note": "It is not known."}
    gate = only(
        candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.5}]}), variant="float32", kind="quality"
    )
    assert gate.reason.endswith("it must be at most 0.5 worse. It is not known.")


def test_a_baseline_that_cannot_answer_closes_the_gate_and_says_why(candidate: Candidate) -> None:
    candidate.evaluation["baseline"] = {"name": "baseline", "failed": "ValueError: other classes"}
    gate = only(
        candidate.judge({"quality": [{"metric": "auc", "max_drop": 0.0}]}), variant="float32", kind="quality"
    )
    assert gate.state == "FAIL"
    assert gate.reason == "the baseline cannot answer on these rows: ValueError: other classes"


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


@pytest.mark.parametrize("state", ["PASS", "FAIL", "SKIPPED"])
def test_disagreement_with_tfma_blocks(candidate: Candidate, state: str) -> None:
    candidate.evaluation["tfma"] = {"state": state, "reason": "TFMA says so.", "max_abs_diff": 0.25}
    gates = candidate.judge()
    gate = only(gates, metric="tfma_difference")
    assert (gate.state, gate.variant, gate.value, gate.reason) == (state, "float32", 0.25, "TFMA says so.")
    assert (gate in blocking(gates)) == (state != "PASS")
