"""What a finished run prints: gates that matter, variants, where things are, what to do next."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.components.gates.states import STATES, Tone, count_states, worst_first
from headrace.components.quantization.sizes import larger_than_float32

from .verdicts import VERDICTS

__all__ = ["print_gates", "print_outcome", "shown_path"]

_TONES: Mapping[Tone, str] = {"good": "green", "note": "cyan", "warn": "yellow", "bad": "bold red"}
_METRICS = ("auc", "accuracy", "subset_accuracy", "f1", "macro_f1", "rmse", "mae", "r2")


def print_outcome(result: Any, console: Console | None = None) -> None:
    """Print the end of a run on stdout.

    Args:
        result: A `RunResult`.
        console: Where to; stdout by default.
    """
    console = console or _console()
    summary = result.summary
    if any(variant["metrics"] for variant in summary["variants"]):
        _print_table(console, _variants_table(summary["variants"]))
    if summary["gates"]:
        counted = count_states(gate["state"] for gate in summary["gates"])
        console.print(f"gates    {counted}", highlight=False)
    for gate in summary["gates"]:
        if gate["state"] == "WARN":
            line = Text.assemble(("warning  ", _TONES["warn"]), f"{_place(gate)}: {gate['reason']}")
            console.print(line, soft_wrap=True)
    console.print(Text.assemble("verdict  ", (summary["verdict"], VERDICTS[summary["verdict"]].style)))
    for variant in summary["variants"]:
        if variant["pushed_to"]:
            where = shown_path(variant["pushed_to"])
            console.print(f"pushed   {variant['name']} -> {where}", highlight=False, soft_wrap=True)
    console.print(f"report   {result.report_path}", highlight=False, soft_wrap=True)
    console.print(f"summary  {result.summary_path}", highlight=False, soft_wrap=True)


def shown_path(path: str | Path) -> str:
    """Return `path` relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def print_gates(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print every gate with its state and reason, those that block first, then warnings."""
    console = console or Console()
    console.print(Text.assemble("verdict  ", (summary["verdict"], VERDICTS[summary["verdict"]].style)))
    if summary.get("error"):
        # Its further lines are the failing gates, which follow here in any case.
        console.print(Text(summary["error"]["message"].split("\n", 1)[0]), soft_wrap=True)
    gates = worst_first(summary["gates"])
    # As wide as the longest name needs, so that a reason never runs into it.
    width = max((len(_place(gate)) for gate in gates), default=0)
    for gate in gates:
        console.print(
            Text.assemble(
                (f"{gate['state']:<12} ", _TONES[STATES[gate["state"]].tone]),
                (f"{_place(gate):<{width}}  ", "bold"),
                gate["reason"],
            ),
            soft_wrap=True,
        )


def _place(gate: dict[str, Any]) -> str:
    """Return what a gate judged: its kind, variant and metric, and the split of a gate of the data."""
    # The reason of a quality gate names its slice; that of a data gate does not name its split.
    split = (gate["slice"] or {}).get("split") if gate["kind"] == "data" else None
    return " ".join(part for part in (gate["kind"], gate["variant"], gate["metric"], split) if part)


def _console() -> Console:
    console = Console()
    # A pipe has no width of its own; 80 columns would cut the table.
    return console if console.is_terminal else Console(width=120)


def _print_table(console: Console, table: Table) -> None:
    """Print a table without the blanks that fill its last column."""
    for line in console.render_lines(table, pad=False):
        text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


def _variants_table(variants: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = [metric for metric in _METRICS if any(metric in v["metrics"] for v in variants)]
    if "macro_f1" in names:
        names = [name for name in names if name != "f1"]  # the same number there
    for title in ("variant", "size", *names, "flips", "1 row", "100 rows", ""):
        table.add_column(title, justify="left" if title in ("variant", "") else "right", no_wrap=True)
    larger = larger_than_float32(variants)
    for variant in variants:
        latency = variant["latency_us"] or {}
        agreement = variant["agreement"] or {}
        table.add_row(
            variant["name"],
            _size(variant["size_bytes"]) + (" (larger)" if variant["name"] in larger else ""),
            *(_number(variant["metrics"].get(name)) for name in names),
            _share(agreement.get("flip_rate")),
            _micros((latency.get("b1") or {}).get("p50")),
            _micros((latency.get("b100") or {}).get("p50")),
            Text("pushed", style="green") if variant["pushed_to"] else _missing(variant),
        )
    return table


def _missing(variant: dict[str, Any]) -> Text:
    return Text("" if variant["metrics"] else variant.get("state") or "not judged", style="yellow")


def _size(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _micros(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e3:.2f} ms" if value >= 1000 else f"{value:.0f} µs"
