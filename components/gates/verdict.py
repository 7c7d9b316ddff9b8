"""The verdict nodes: re-read the gate artifact at every launch and stop the run where it says so.

They are never cached and never retried. A launcher that meets a completed execution returns silently,
so the exit code of the node that judged proves nothing; these two carry it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.components.node import NodeContext, NodeResult
from headrace.data.errors import DataRejected, GateRejected

from .state import Gate, read_gates
from .states import count_states, may_push

__all__ = ["anomaly_table", "data", "model"]

_COLUMNS = ("split", "feature", "rule", "expected", "found", "count")
_WIDEST = 60


def data(ctx: NodeContext) -> NodeResult:
    """Pass if no data gate fails.

    Raises:
        DataRejected: With one failing gate a line and the table of anomalies.
    """
    folder = Path(ctx.input("gates"))
    gates = read_gates(folder / "gates.json")
    failing = [gate for gate in gates if not may_push(gate.state, allow_unbounded=True)]
    if failing:
        anomalies = json.loads((folder / "anomalies.json").read_text(encoding="utf-8"))
        errors = [row for row in anomalies if row["severity"] == "error"]
        lines = ["The data gate rejected the data.", *(gate.line() for gate in failing)]
        raise DataRejected("\n".join([*lines, *anomaly_table(errors)]), _hint(folder, failing, ctx))
    counted = count_states(gate.state for gate in gates)
    return NodeResult(
        finding=f"go on; {len(gates)} gate{'s' if len(gates) != 1 else ''}: {counted or 'none'}"
    )


def model(ctx: NodeContext) -> NodeResult:
    """Pass if the verdict is push.

    Raises:
        GateRejected: With one blocking gate a line.
    """
    folder = Path(ctx.input("gates"))
    gates = read_gates(folder / "gates.json")
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    blocking = [gates[index] for index in verdict["blocking"]]
    if blocking or verdict["verdict"] != "push":
        count = f"{len(blocking)} gate{'s' if len(blocking) != 1 else ''}"
        lines = [f"{count} rejected the model.", *(gate.line() for gate in blocking)]
        raise GateRejected("\n".join(lines))
    targets = [f"{side}: {name}" for side, name in verdict["targets"].items() if name]
    return NodeResult(finding=f"push {', '.join(targets) or 'nothing: no target is set'}")


def anomaly_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return anomalies as lines of a table: split, feature, rule, expected, found, count."""
    if not rows:
        return []
    cells = [_COLUMNS, *(tuple(_cell(row.get(name)) for name in _COLUMNS) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in cells)
    return ["  ".join(line).rstrip() for line in padded]


def _cell(value: object) -> str:
    text = "-" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _hint(folder: Path, failing: Sequence[Gate], ctx: NodeContext) -> str:
    """Return what to do, naming the schema file where the validation node recorded one."""
    if all(gate.metric == "corrupt_share" for gate in failing):
        return "Replace or remove these pictures, or raise `data.max_corrupt_share`."
    try:
        noted = json.loads((folder / "schema_origin.json").read_text(encoding="utf-8"))["path"]
    except FileNotFoundError:
        noted = None
    if not noted:
        return "Correct the data."
    path = ctx.config["validation.schema_path"]
    return f"Correct the data, or edit {path} (or delete it to have a new one inferred from this data)."
