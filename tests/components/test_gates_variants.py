from typing import Any

import pytest

from headrace.components.gates.state import Bound
from headrace.components.push.config import PushConfig
from tests.components.gate_candidate import Candidate, blocking, only


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


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


def test_multilabel_is_judged_on_macro_f1_and_on_label_decisions(candidate: Candidate) -> None:
    for entry in candidate.evaluation["variants"]:
        entry.update(metrics={"macro_f1": 0.7, "auc": 0.8, "hamming_loss": 0.1, "cost": 1.0}, slices=[])
    candidate.evaluated("tflite_int8")["metrics"]["macro_f1"] = 0.6
    candidate.evaluated("int8_weights")["agreement"]["flip_rate"] = 0.3
    found = blocking(candidate.judge(task="multilabel"))
    assert [(g.variant, g.metric) for g in found] == [
        ("int8_weights", "flip_rate"),
        ("tflite_int8", "macro_f1_drop"),
    ]
    assert "30.000% of the label decisions are others than from float32" in found[0].reason


@pytest.mark.parametrize(
    ("metric", "float32", "other", "drop"),
    [
        ("hamming_loss", 0.1, 0.15, 0.05),
        ("cost", -2.0, -1.5, 0.5),
        ("mape", 0.2, 0.1, -0.1),
        ("bias", -1.0, 1.2, 0.2),
    ],
)
def test_less_is_better(candidate: Candidate, metric: str, float32: float, other: float, drop: float) -> None:
    for entry in candidate.evaluation["variants"]:
        entry.update(metrics={metric: float32, "auc": 0.8}, slices=[])
    candidate.evaluated("tflite_int8")["metrics"][metric] = other
    gates = candidate.judge({"variant": {"metric": metric, "max_drop": 1.0}})
    gate = only(gates, variant="tflite_int8", metric=f"{metric}_drop")
    assert gate.value == pytest.approx(drop)


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
        ("int8_weights", {"max_golden_diff": None}, "must answer every golden row with finite numbers"),
        ("int8_weights", {"rss_bytes": 5_000_000_000}, "peak memory is 5,000 MB; at most 4,000 MB"),
        ("int8_weights", {"rss_bytes": None}, "the peak memory was not measured"),
        ("tflite_int8", {"state": "FAIL", "reason": ""}, "the infra check said FAIL"),
        ("tflite_int8", {"golden_rows": 255}, "every golden row with finite numbers. Received: 255 of 256"),
        ("tflite_int8", {"max_golden_diff": None}, "must answer every golden row with finite numbers"),
        ("int8_weights", {"served": None}, "no server was asked over REST"),
    ],
)
def test_serving_gates(candidate: Candidate, name: str, change: dict[str, Any], message: str) -> None:
    candidate.probed(name).update(change)
    gates = candidate.judge()
    gate = blocking(gates)[0]
    assert {(gate.kind, gate.variant, gate.state) for gate in blocking(gates)} == {("serving", name, "FAIL")}
    assert message in gate.reason


@pytest.mark.parametrize("name", ["int8_weights", "tflite_int8"])
@pytest.mark.parametrize(
    ("most", "difference", "found"),
    [
        (None, 0.06, ("golden_rows", "PASS", "differ from float32's by up to 0.06")),
        (0.05, 0.05, ("golden_diff", "PASS", "by at most 0.05")),
        (0.05, 0.06, ("golden_diff", "FAIL", "differ by up to 0.06; at most 0.05 is allowed")),
        (0.05, None, ("golden_diff", "FAIL", "were not compared")),
    ],
)
def test_one_golden_rule_holds_all_int8_variants(
    candidate: Candidate, name: str, most: float | None, difference: float | None, found: tuple[str, str, str]
) -> None:
    candidate.probed(name)["max_golden_diff"] = difference
    gate = next(
        gate
        for gate in candidate.judge({"serving": {"quantized_tolerance": most}})
        if gate.variant == name and gate.metric.startswith("golden")
    )
    assert (gate.metric, gate.state) == found[:2]
    assert found[2] in gate.reason


@pytest.mark.parametrize(
    ("door", "change", "message"),
    [
        ("rest", {"max_golden_diff": 1e-4}, "over REST (serving_default, serving_raw) differ from those in"),
        ("rest", {"reason": "serving_raw: status 404: {}"}, "server over REST: serving_raw: status 404: {}."),
        ("grpc", {"max_golden_diff": 1e-4}, "over gRPC (serving_default, serving_raw) differ from those in"),
        ("grpc", {"max_golden_diff": None}, "over gRPC: its answers were not compared"),
    ],
)
def test_each_door_of_a_server_has_a_gate(
    candidate: Candidate, door: str, change: dict[str, Any], message: str
) -> None:
    candidate.probed("int8_weights")["served"][door].update(change)
    (gate,) = blocking(candidate.judge())
    assert (gate.kind, gate.variant, gate.metric) == ("serving", "int8_weights", f"{door}_golden_diff")
    assert (gate.state, gate.bound) == ("FAIL", Bound("<=", 1e-5))
    assert message in gate.reason


def test_the_doors_of_the_real_server_are_named_so(candidate: Candidate) -> None:
    candidate.probed("int8_weights")["served"]["by"] = "tensorflow_serving"
    gate = only(candidate.judge(), kind="serving", variant="int8_weights", metric="grpc_golden_diff")
    assert gate.reason == (
        "TensorFlow Serving answers 256 golden rows over gRPC (serving_default, serving_raw) as the variant "
        "does in process, to within 0; one row takes 0.6 ms, p99 1.2 ms."
    )


def test_what_has_no_bound_on_single_answers_is_counted(candidate: Candidate) -> None:
    candidate.probed("tflite_int8")["max_golden_diff"] = 0.4
    gates = [g for g in candidate.judge() if g.kind == "serving" and g.variant == "tflite_int8"]
    assert [gate.metric for gate in gates] == ["golden_rows", "rss_bytes"]
    assert (gates[0].state, gates[0].value, gates[0].bound) == ("PASS", 256, Bound(">=", 256))
    assert gates[0].reason.endswith(
        "differ from float32's by up to 0.4, as compression may: drop and flip rate judge what it costs."
    )
    assert all(gate.bound is not None for gate in candidate.judge() if gate.kind == "serving")


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
