"""The run itself: DAG, timings, lineage, versions, config and the command."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.dag import dag
from ..charts.timeline import starts, timeline_bar
from ..facts import Facts, dig
from ..numbers import DASH, duration, finite, size
from ..table import Cell, Column, Row, Table, number

__all__ = ["lineage", "nodes", "reproduce"]

_SIGNS = {"complete": "✓", "cached": "↺", "failed": "✕", "skipped": "–"}
_WORDS = {"skipped": "not run"}


def nodes(facts: Facts) -> dict[str, Any] | None:
    """Return the drawn DAG and the table of timings."""
    ran: Sequence[Mapping[str, Any]] = facts.summary.get("nodes") or []
    graph = facts.evidence.get("graph") or []
    if not ran and not graph:
        return None
    by_id = {str(node.get("id")): node for node in ran}
    return {
        "svg": dag(graph, by_id, "The DAG: nodes with state and seconds") if graph else None,
        "table": _timings(ran, graph, _failure(facts)) if ran else None,
        "recorded": any(finite(node.get("start_s")) is not None for node in ran),
        "states": [
            (_WORDS.get(state, state), sign)
            for state, sign in _SIGNS.items()
            if any(node.get("state") == state for node in ran)
        ],
    }


def lineage(facts: Facts) -> Table | None:
    """Return the artifacts that the run read and wrote."""
    listed = facts.evidence.get("lineage") or []
    if not listed:
        return None
    columns = [Column("Node"), Column("Artifact"), Column("Type"), Column("Id", True), Column("URI")]
    rows = [
        Row(
            [
                Cell(str(item.get("node") or DASH)),
                Cell(str(item.get("artifact") or DASH)),
                Cell(str(item.get("type") or DASH)),
                number(str(item.get("id", DASH)), finite(item.get("id"))),
                Cell(str(item.get("uri") or DASH), css="mono uri"),
            ]
        )
        for item in listed
    ]
    return Table(columns, rows, "Artifacts of the run", sortable=True, tall=len(rows) > 16)


def reproduce(facts: Facts) -> dict[str, Any] | None:
    """Return the command, the identities, the versions and the effective config."""
    summary = facts.summary
    data_hash = (summary.get("data") or {}).get("sha256")
    found = {
        "command": facts.evidence.get("command"),
        "identity": [
            (name, str(value))
            for name, value in (
                ("Run", summary.get("run_id")),
                ("Content", summary.get("content_id")),
                ("Data SHA-256", data_hash),
            )
            if value
        ],
        "versions": [
            (str(name), str(value)) for name, value in (facts.evidence.get("versions") or {}).items()
        ],
        "config": facts.evidence.get("config_yaml"),
    }
    return found if any(found.values()) else None


def _failure(facts: Facts) -> str:
    """Return what stopped the run, in one line; further lines are gates, which have their own table."""
    return str(dig(facts.summary, "error", "message") or "").split("\n", 1)[0]


def _timings(ran: Sequence[Mapping[str, Any]], graph: Sequence[Mapping[str, Any]], reason: str) -> Table:
    begun = starts(ran, graph)
    total = max((begun[str(node.get("id"))] + (finite(node.get("wall_s")) or 0) for node in ran), default=0.0)
    titles = {str(item["id"]): str(item.get("title") or "") for item in graph}
    columns = [
        Column("Node"),
        Column("State"),
        Column("Timeline"),
        Column("Wall", True),
        Column("CPU", True),
        Column("Peak memory", True),
    ]
    rows = []
    for node in ran:
        name, state = str(node.get("id")), str(node.get("state") or DASH)
        reached = state != "skipped"
        wall, cpu, peak = (
            finite(node.get(key)) if reached else None for key in ("wall_s", "cpu_s", "peak_rss_bytes")
        )
        finding = str(node.get("finding") or "") or (reason if state == "failed" else "")
        bar = (
            timeline_bar(begun[name], wall, total, state) if state in ("complete", "failed", "cached") else ""
        )
        rows.append(
            Row(
                [
                    Cell(name, hint=titles.get(name, ""), note=finding, css="node"),
                    Cell(f"{_SIGNS.get(state, '')} {_WORDS.get(state, state)}".strip(), css=f"state {state}"),
                    Cell(bar, sort=begun[name], css="timeline"),
                    number(duration(wall), wall),
                    number(duration(cpu), cpu),
                    number(size(peak), peak),
                ],
                css="failing" if state == "failed" else "",
            )
        )
    return Table(columns, rows, "Time and memory of every node", sortable=True)
