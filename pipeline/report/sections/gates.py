"""The gate table, failing gates first."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from headrace.components.gates.states import STATES, GateState, worst_first

from ..facts import Facts, slice_name
from ..numbers import DASH, count, duration, finite, latency, metric, metric_title, percent, significant, size
from ..table import Cell, Column, Row, Table, number

__all__ = ["bound", "gates", "value"]

_OPERATORS = {
    "<=": "≤",
    ">=": "≥",
    "==": "=",
    "!=": "≠",
    "le": "≤",
    "ge": "≥",
    "lt": "<",
    "gt": ">",
    "eq": "=",
}


def gates(facts: Facts) -> dict[str, Any] | None:
    """Return the table and the number of gates in each state."""
    listed = worst_first(facts.summary.get("gates") or [])
    if not listed:
        return None
    columns = [
        Column("State"),
        Column("Kind"),
        Column("Variant"),
        Column("Slice"),
        Column("Metric"),
        Column("Value", numeric=True),
        Column("Bound", numeric=True),
        Column("Reason"),
    ]
    tally = Counter(gate["state"] for gate in listed)
    return {
        "table": Table(
            columns,
            [_row(gate) for gate in listed],
            "Gates",
            sortable=True,
            tall=len(listed) > 14,
            id="gates",
        ),
        "counts": [
            {"state": state, "shown": shown, "n": tally[state]}
            for state, shown in STATES.items()
            if tally[state]
        ],
        "total": len(listed),
    }


def value(gate: Mapping[str, Any]) -> str:
    """Format a gate's value in its metric's unit."""
    return _in_unit(str(gate.get("metric") or ""), gate.get("value"))


def bound(gate: Mapping[str, Any]) -> str:
    """Format a gate's bound as "≥ 0.8050", or nothing where it has none."""
    limit = gate.get("bound")
    if not isinstance(limit, Mapping) or limit.get("value") is None:
        return ""
    operator = str(limit.get("op") or "")
    shown = _in_unit(str(gate.get("metric") or ""), limit["value"])
    return f"{_OPERATORS.get(operator, operator)} {shown}".strip()


def _row(gate: Mapping[str, Any]) -> Row:
    state: GateState = gate["state"]
    shown = STATES[state]
    cells = [
        Cell(
            f"{shown.sign} {shown.title}",
            sort=list(STATES).index(state),
            hint=shown.meaning,
            css=f"chip {shown.tone}",
        ),
        Cell(str(gate.get("kind") or DASH)),
        Cell(str(gate.get("variant") or DASH), css="mono"),
        Cell(slice_name(gate.get("slice")), css="slice" if gate.get("slice") else "muted"),
        Cell(metric_title(str(gate.get("metric") or DASH)), css="wraps"),
        number(value(gate), finite(gate.get("value"))),
        number(bound(gate) or DASH, finite((gate.get("bound") or {}).get("value"))),
        Cell(str(gate.get("reason") or ""), css="prose"),
    ]
    return Row(cells, keys={"state": state}, css="failing" if state == "FAIL" else "")


def _in_unit(name: str, amount: Any) -> str:
    """Format by what the metric's name says of its unit."""
    known = finite(amount)
    if known is None:
        return DASH if amount is None else str(amount)
    if name.endswith("_bytes"):
        return size(known)
    if "_us" in name or "latency" in name:
        return latency(known)
    if name.endswith("_s"):
        return duration(known)
    if "rate" in name:
        return percent(known, 2)
    if "diff" in name:
        return significant(known, 2)
    if any(word in name for word in ("anomal", "rows", "count")):
        return count(known)
    return metric(known)
