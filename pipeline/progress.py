"""Progress of a run on a terminal (one live line) or in a log (plain lines)."""

import os
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .graph import GRAPH, Node
from .launch import LaunchResult

__all__ = ["TerminalReporter", "format_seconds"]

_MARKS = {"complete": ("✓", "green"), "cached": ("↺", "cyan"), "failed": ("✗", "bold red")}
_ID_WIDTH = max(len(node.id) for node in GRAPH)
_QUIET_EVENT_S = 10.0


def format_seconds(seconds: float) -> str:
    """Return seconds for people: "0.4 s", "12 s", "3 min 05 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


class TerminalReporter:
    """One line a node: its state, its time and what it found."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._started = 0.0
        self._last_event = 0.0
        self._event: dict[str, Any] = {}
        self._node: Node | None = None

    def start(self, node: Node) -> None:
        """Show `node` as running."""
        self._node, self._event, self._started = node, {}, time.monotonic()
        self._last_event = self._started
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self._console, transient=True, refresh_per_second=8
            )
            self._live.start()

    def event(self, node: Node, event: dict[str, Any]) -> None:
        """Show what the running node told."""
        self._event = event
        if not self._console.is_terminal and time.monotonic() - self._last_event > _QUIET_EVENT_S:
            self._last_event = time.monotonic()
            self._console.print(
                Text(f"  … {node.id:<{_ID_WIDTH}}  {_event_text(event)}", style="dim"), soft_wrap=True
            )

    def finish(self, node: Node, result: LaunchResult) -> None:
        """Leave a line that stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        mark, style = _MARKS[result.state]
        line = Text.assemble(
            ("  " + mark + " ", style),
            (f"{node.id:<{_ID_WIDTH}}", "bold"),
            f"  {format_seconds(result.wall_s):>12}  ",
        )
        line.append("cached  " if result.state == "cached" else "", style="cyan")
        line.append(
            _from_here(result.finding) if result.state != "failed" else _first_line(result.error),
            style="" if result.state != "failed" else "red",
        )
        self._console.print(line, soft_wrap=True)

    def _render(self) -> RenderableType:
        assert self._node is not None
        elapsed = format_seconds(time.monotonic() - self._started)
        grid = Table.grid(padding=(0, 1))
        text = _event_text(self._event) if self._event else self._node.title
        cells: list[RenderableType] = [
            Text(" "),
            Spinner("dots", style="yellow"),
            Text(f"{self._node.id:<{_ID_WIDTH}}", style="bold"),
            Text(f"{elapsed:>12}"),
        ]
        total = self._event.get("total")
        if total:
            cells.append(
                ProgressBar(total=float(total), completed=float(self._event.get("done", 0)), width=24)
            )
        cells.append(Text(text, overflow="ellipsis", no_wrap=True))
        grid.add_row(*cells)
        return Group(grid)


def _from_here(finding: str) -> str:
    """Return what a node found, paths in the working directory without it."""
    return finding.replace(os.path.join(os.getcwd(), ""), "")


def _event_text(event: dict[str, Any]) -> str:
    text = str(event.get("text", ""))
    if text:
        return text
    done, total = event.get("done"), event.get("total")
    return (
        f"{event.get('kind', '')} {done}/{total}"
        if total
        else f"{event.get('kind', '')} {done if done is not None else ''}".strip()
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
