"""The table of states, and whatever else lists them."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from headrace.components.gates.states import STATES, GateState, count_states, may_push, worst_first

ROOT = Path(__file__).resolve().parents[2]
_PUSH = {"always": "always", "unbounded": "with `gates.allow_unbounded`", "never": "never"}


def test_the_document_of_artifacts_holds_the_table() -> None:
    text = (ROOT / "docs" / "artifacts.md").read_text(encoding="utf-8")
    table = [f"| {name} | {_PUSH[state.push]} | {state.meaning} |" for name, state in STATES.items()]
    assert "\n".join(["| state | lets the model be pushed | when |", "|---|---|---|", *table]) in text
    assert f"state: {'|'.join(STATES)}, reason" in text


def test_the_schema_of_the_summary_knows_every_state() -> None:
    schema = json.loads((ROOT / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
    assert schema["$defs"]["gate"]["properties"]["state"]["enum"] == list(STATES)


def test_the_readme_names_every_state() -> None:
    line = next(
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if "gates, verdict, push" in line
    )
    assert set(re.findall(r"[A-Z_]{4,}", line)) == set(STATES)


def test_every_tone_has_a_colour_in_the_report() -> None:
    css = (ROOT / "pipeline" / "report" / "templates" / "style.css").read_text(encoding="utf-8")
    assert {state.tone for state in STATES.values()} == set(re.findall(r"^\.chip\.(\w+) ", css, re.M))


def test_signs_and_titles_tell_states_apart() -> None:
    assert (
        len({state.sign for state in STATES.values()})
        == len(STATES)
        == len({s.title for s in STATES.values()})
    )


@pytest.mark.parametrize(
    ("state", "pushes", "pushes_unbounded"),
    [
        ("FAIL", False, False), ("SKIPPED", False, False), ("NO_THRESHOLD", False, True),
        ("WARN", True, True), ("NO_BASELINE", True, True), ("PASS", True, True),
    ],
)  # fmt: skip
def test_what_may_push(state: GateState, pushes: bool, pushes_unbounded: bool) -> None:
    found = [may_push(state, allow_unbounded=allowed) for allowed in (False, True)]
    assert found == [pushes, pushes_unbounded]


def test_what_stops_a_push_is_shown_first_then_warnings() -> None:
    gates = [{"state": state, "n": n} for n in (1, 2) for state in reversed(get_args(GateState))]
    found = [(gate["state"], gate["n"]) for gate in worst_first(gates)]
    order = ("FAIL", "SKIPPED", "NO_THRESHOLD", "WARN", "NO_BASELINE", "PASS")
    assert found == [(state, n) for state in order for n in (1, 2)]


def test_states_are_counted_in_the_order_of_the_table() -> None:
    assert count_states(["PASS", "WARN", "PASS", "NO_BASELINE"]) == "1 WARN, 1 NO_BASELINE, 2 PASS"
    assert count_states([]) == ""
