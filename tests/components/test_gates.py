import copy
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.components.gates import run as run_node
from headrace.components.gates import verdict
from headrace.components.gates.config import CostGate, GatesConfig, QualityGate
from headrace.components.gates.judge import decide
from headrace.components.gates.state import Bound, Gate, read_gates, write_gates
from headrace.components.node import NodeContext
from headrace.data.errors import DataRejected, GateRejected
from tests.components.gate_candidate import DATA_PASS, NAMES, PUSH, Candidate


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


@pytest.mark.parametrize(
    ("state", "blocks", "unbounded"),
    [
        ("PASS", False, False),
        ("WARN", False, False),
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
        ({"state": "OK"}, "`state` of a gate must be one of FAIL, SKIPPED, .*PASS. Received: OK"),
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
    assert result.finding == "push; 30 gates: 30 PASS"
    assert result.properties["gates"] == {"verdict": "push", "blocking": 0}
    assert result.doubts == {}
    assert _verdict(tmp_path, verdict.model).finding == "push serving: int8_weights, lite: tflite_int8"


def test_the_nodes_reject_at_every_launch(tmp_path: Path, candidate: Candidate) -> None:
    candidate.evaluated("tflite_int8")["agreement"]["flip_rate"] = 0.5
    rules = {"quality": [{"metric": "auc", "min": 0.9}]}
    result = run_node.run(_context(tmp_path, candidate, rules))  # The evidence node finishes.
    assert result.finding.startswith("reject; 30 gates: 4 FAIL, 26 PASS; 4 block, first float32: auc is 0.8")
    for _ in range(2):
        with pytest.raises(GateRejected) as caught:
            _verdict(tmp_path, verdict.model)
        assert caught.value.exit_code == 3
        lines = caught.value.message.splitlines()
        assert lines[0] == "4 gates rejected the model."
        assert len(lines) == 5
        assert lines[1] == ("FAIL         quality  float32, auc: auc is 0.8, and must be at least 0.9.")
        assert "flip_rate: 50.000% of the rows" in lines[4]


_SLOW = {"cost": [{"variant": "tflite_int8", "max_p99_us_b1": 10}]}
_BIG = {"cost": [{"variant": "tflite_int8", "max_size_bytes": 10}]}


@pytest.mark.parametrize(
    ("rules", "probed", "doubts"),
    [
        (_SLOW, {}, dict.fromkeys(("gates", "infra"), "p99_us_b1 of tflite_int8 failed")),
        (
            {"cost": [{"variant": "float32", "max_load_s": 0.1}]},
            {},
            dict.fromkeys(("gates", "infra"), "load_s of float32 failed"),
        ),
        # Another measurement changes no size.
        (_BIG, {}, {"gates": "size_bytes of tflite_int8 failed"}),
        (
            {"cost": [*_BIG["cost"], *_SLOW["cost"]]},
            {},
            {"gates": "size_bytes of tflite_int8 failed", "infra": "p99_us_b1 of tflite_int8 failed"},
        ),
        (
            {},
            {"state": "FAIL", "reason": "it did not finish within 0.3 s"},
            dict.fromkeys(("gates", "infra"), "golden_rows of tflite_int8 failed"),
        ),
        ({"quality": [{"metric": "auc", "min": 0.9}]}, {}, {}),
    ],
)
def test_failed_measurements_are_doubted(
    tmp_path: Path, candidate: Candidate, rules: Any, probed: Any, doubts: dict[str, str]
) -> None:
    candidate.probed("tflite_int8").update(probed)
    result = run_node.run(_context(tmp_path, candidate, rules))
    assert result.finding.startswith("reject")
    assert result.doubts == doubts


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
    assert _verdict(tmp_path, verdict.data).finding == "go on; 1 gate: 1 PASS"


def test_judging_changes_nothing_it_was_given(candidate: Candidate) -> None:
    before = copy.deepcopy((candidate.evaluation, candidate.infra, candidate.variants))
    candidate.judge({"cost": [{"variant": "tflite_int8", "max_size_ratio": 0.3}]})
    assert before == (candidate.evaluation, candidate.infra, candidate.variants)
