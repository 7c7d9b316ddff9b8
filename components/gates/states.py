"""Every state that a gate can end in, in one table: what it does to a push, and how it is shown."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

__all__ = ["STATES", "GateState", "State", "Tone", "count_states", "may_push", "worst_first"]

GateState = Literal["FAIL", "SKIPPED", "NO_THRESHOLD", "WARN", "NO_BASELINE", "PASS"]

_Json = TypeVar("_Json", bound=Mapping[str, Any])

Tone = Literal["good", "note", "warn", "bad"]


@dataclass(frozen=True)
class State:
    """One state of a gate.

    Attributes:
        push: Whether a model with such a gate may be pushed: always, only with
            `gates.allow_unbounded`, or never.
        tone: What its colour says, on the terminal and in the report.
        title: Its name for people.
        sign: One character beside the title, so that colour is never alone.
        counted: Verb of a sentence that counts such gates: "2 failed".
        meaning: When a gate ends so.
    """

    push: Literal["always", "unbounded", "never"]
    tone: Tone
    title: str
    sign: str
    counted: str
    meaning: str


STATES: Mapping[GateState, State] = {
    "FAIL": State("never", "bad", "Fail", "✕", "failed", "the bound is broken, or what it needs is missing"),
    "SKIPPED": State(
        "never", "warn", "Skipped", "–", "could not be judged", "what it judges was left out or is too little"
    ),
    "NO_THRESHOLD": State("unbounded", "warn", "No threshold", "?", "had no threshold", "there is no bound"),
    "WARN": State("always", "warn", "Warning", "!", "warned", "worth a look; the config lets it pass"),
    "NO_BASELINE": State(
        "always",
        "note",
        "No baseline",
        "○",
        "had no baseline to compare with yet",
        "there is nothing earlier to compare with",
    ),
    "PASS": State("always", "good", "Pass", "✓", "passed", "the bound holds"),
}
"""In the order in which gates are shown: those that stop a push, then warnings, then the others."""

if list(STATES) != list(get_args(GateState)):
    raise TypeError(f"STATES must list every GateState, in one order. Received: {', '.join(STATES)}")


def may_push(state: GateState, *, allow_unbounded: bool) -> bool:
    """Tell whether a gate in `state` lets the model be pushed."""
    push = STATES[state].push
    return push == "always" or (push == "unbounded" and allow_unbounded)


def worst_first(gates: Iterable[_Json]) -> list[_Json]:
    """Sort gates as JSON by state, those that stop a push first; order is kept within a state."""
    order = list(STATES)
    return sorted(gates, key=lambda gate: order.index(gate["state"]))


def count_states(states: Iterable[str]) -> str:
    """Return "1 WARN, 6 NO_BASELINE, 43 PASS", in the order of the table."""
    tally = Counter(states)
    return ", ".join(f"{tally[state]} {state}" for state in STATES if tally[state])
