"""What is poor about a split is told by the data gate, and in the reason of each gate that stands on it."""

import re
from pathlib import Path
from typing import Any

import pytest

from headrace.components.gates.config import GatesConfig
from headrace.components.gates.evidence import Evidence
from headrace.components.gates.judge import judge
from headrace.components.gates.splits import judge_splits
from headrace.components.gates.state import Bound, Gate, read_gates
from tests.components.gate_candidate import DATA_PASS, PUSH, Candidate, blocking, only
from tests.components.validation_room import Room, make_rows


def told(rows: int, distinct: int, counts: dict[str, list[int]] | None = None) -> dict[str, Any]:
    """Of ingest.json; `counts`: class -> rows in train, eval and test."""
    by_split = counts and {
        split: {name: held[place] for name, held in counts.items()}
        for place, split in enumerate(("train", "eval", "test"))
    }
    return {
        "splits": {"train": 800, "eval": 100, "test": rows},
        "split": {"distinct": {"test_rows": distinct}},
        "label": {"counts": by_split},
    }


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


FINE = {"a": [500, 60, 70], "b": [300, 40, 30]}


@pytest.mark.parametrize(
    ("ingest", "task"),
    [
        (told(100, 100, FINE), "binary"),
        (told(100, 51, FINE), "binary"),
        (told(1000, 100, FINE), "binary"),
        (told(100, 100), "regression"),
        (told(100, 100, {"a": [5, 1, 1], "b": [9, 1, 1]}), "multilabel"),
    ],
)
def test_sound_splits_have_no_gate(ingest: dict[str, Any], task: str) -> None:
    assert judge_splits(ingest, task) == []


@pytest.mark.parametrize(
    ("ingest", "task", "metric", "split", "bound", "value", "reason"),
    [
        (
            told(99, 99), "regression", "rows", "test", 100, 99,
            "the test split has 99 rows, under 100, so that figures on it are rough.",
        ),
        (
            told(1800, 27, FINE), "binary", "distinct_rows", "test", 100, 27,
            "the 1,800 rows of the test split are only 27 different ones in what the model reads, so that "
            "figures on it rest on these alone.",
        ),
        (told(198, 99), "regression", "distinct_rows", "test", 100, 99, "are only 99 different ones"),
        (
            told(100, 100, {"0": [599, 79, 100], "1": [41, 1, 0]}), "binary", "class_count", "test", 2, 1,
            "the test split has rows of one class alone, '0': '0' with 599 train, 79 eval, 100 test rows; "
            "'1' with 41 train, 1 eval, 0 test rows.",
        ),
        (
            told(100, 100, {"0": [599, 80, 99], "1": [41, 0, 1]}), "binary", "class_count", "eval", 2, 1,
            "the eval split, which chooses the epoch and the threshold, has rows of one class alone, '0': ",
        ),
        (
            told(100, 100, {"c": [4, 1, 0], "a": [9, 1, 70], "d": [3, 1, 0], "b": [300, 40, 30]}),
            "multiclass", "class_count", "test", 4, 2,
            "the test split has no row of 2 of 4 classes: 'd' with 3 train, 1 eval, 0 test rows; "
            "'c' with 4 train, 1 eval, 0 test rows.",
        ),
        (
            told(100, 100, {"a": [9, 1, 70], "b": [30, 4, 0]}), "multilabel", "class_count", "test", 2, 1,
            "the test split has no row of 1 of 2 classes: 'b' with 30 train, 4 eval, 0 test rows.",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_a_warning_with_its_counts(
    ingest: dict[str, Any], task: str, metric: str, split: str, bound: int, value: int, reason: str
) -> None:
    (gate,) = judge_splits(ingest, task)
    assert (gate.kind, gate.metric, gate.state, gate.variant) == ("data", metric, "WARN", None)
    assert (gate.slice, gate.bound, gate.value) == ({"split": split}, Bound(">=", bound), value)
    assert reason in gate.reason
    assert gate.bound is not None
    assert not gate.bound.holds(value)


def test_several_faults_are_several_warnings() -> None:
    gates = judge_splits(told(80, 40, {"0": [599, 80, 80], "1": [41, 0, 0]}), "binary")
    assert [(gate.metric, (gate.slice or {})["split"]) for gate in gates] == [
        ("rows", "test"), ("distinct_rows", "test"), ("class_count", "test"), ("class_count", "eval"),
    ]  # fmt: skip


def test_all_rare_classes_are_named_at_once_up_to_a_number() -> None:
    counts = {f"c{n:02}": [2, 0, 0] for n in range(23)}
    reason = judge_splits(told(100, 100, {**counts, "x": [9, 9, 50], "y": [9, 9, 50]}), "multiclass")[
        0
    ].reason
    assert re.findall(r"'(c\d\d)'", reason) == [f"c{n:02}" for n in range(20)]
    assert reason.endswith("'c19' with 2 train, 0 eval, 0 test rows; and 3 more.")


def test_the_data_gate_warns_and_goes_on(tmp_path: Path) -> None:
    splits = {
        "train": make_rows(600, 0),
        "eval": make_rows(200, 1),
        "test": make_rows(80, 2, late=lambda number: "0"),
    }
    room = Room(tmp_path)
    _, base = room.run(splits, **{"validation.max_skew": None})
    warned = [gate for gate in read_gates(base / "gates/gates.json") if gate.state == "WARN"]
    assert [gate.metric for gate in warned] == ["rows", "class_count"]
    assert ", 80 test rows; '1' with " in warned[1].reason
    assert room.verdict(base).finding == "go on; 5 gates: 2 WARN, 3 NO_BASELINE"


WORDS = "the test split has rows of one class alone, '0': '0' with 9 train, 9 eval, 80 test rows"
POOR = [
    DATA_PASS,
    Gate("data", "class_count", "WARN", f"{WORDS}.", None, {"split": "test"}),
    Gate("data", "rows", "WARN", "the test split has 80 rows.", None, {"split": "test"}),
    Gate("data", "skew", "WARN", "x differs most.", None, {"split": "test"}),
    Gate("data", "class_count", "PASS", "all is there.", None, {"split": "eval"}),
]


def judged(candidate: Candidate, rules: dict[str, Any], data_gates: list[Gate]) -> list[Gate]:
    evidence = Evidence(candidate.evaluation, candidate.infra, candidate.variants, min_slice_rows=200)
    return judge(evidence, data_gates, GatesConfig.model_validate(rules), PUSH, "binary")


RULES = {
    "quality": [{"metric": "accuracy", "min": 0.8}, {"metric": "auc", "min": 0.9}],
    "cost": [{"variant": "float32", "max_load_s": 10}],
}


def test_each_gate_that_stands_on_a_poor_split_says_so(candidate: Candidate) -> None:
    plain, gates = (judged(candidate, RULES, held)[len(held) :] for held in ([DATA_PASS], POOR))
    assert [gate.state for gate in gates] == [gate.state for gate in plain]
    for before, after in zip(plain, gates, strict=True):
        said = after.reason.replace(f"; {WORDS}; the test split has 80 rows", "")
        assert said == before.reason
        assert (said != after.reason) == (before.kind in ("quality", "variant")), after
    assert {gate.kind for gate in gates} == {"quality", "variant", "cost", "serving"}


def test_every_warning_of_a_split_is_repeated(candidate: Candidate) -> None:
    warned = judge_splits(told(80, 40, {"0": [599, 80, 80], "1": [41, 0, 0]}), "binary")
    gate = only(judged(candidate, RULES, warned), kind="quality", variant="float32", metric="auc")
    words = "; ".join(gate.reason.removesuffix(".") for gate in warned)
    assert (len(warned), gate.reason) == (4, f"auc is 0.8, and must be at least 0.9; {words}.")


def test_gates_that_judged_nothing_say_nothing_of_splits(candidate: Candidate) -> None:
    rules = {"quality": [{"metric": "auc", "max_drop": 0.1}, {"metric": "auc"}]}
    found = {gate.state: gate for gate in judged(candidate, rules, POOR) if gate.kind == "quality"}
    assert {*found} == {"NO_BASELINE", "NO_THRESHOLD"}
    assert all(WORDS not in gate.reason for gate in found.values())


@pytest.mark.parametrize("rule", [{"min": 0.6}, {"max_drop": 0.9}])
def test_an_auc_that_cannot_be_computed_passes_nowhere(candidate: Candidate, rule: dict[str, Any]) -> None:
    candidate.evaluation["baseline"] = {**candidate.evaluated("float32"), "name": "baseline"}
    for entry in candidate.evaluation["variants"]:
        entry["metrics"] = {**entry["metrics"], "auc": None}
    gates = judged(candidate, {"quality": [{"metric": "auc", **rule}]}, POOR)
    metric = "auc_drop" if "max_drop" in rule else "auc"
    gate = only(gates, kind="quality", variant="float32", metric=metric)
    assert gate.state == "FAIL"
    assert gate.reason == f"auc could not be computed on these rows; {WORDS}; the test split has 80 rows."
    assert gate in blocking(gates)
