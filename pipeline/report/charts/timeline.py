"""When each node ran: a bar a node on the run's clock."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..numbers import duration, finite
from ..svg import element

__all__ = ["starts", "timeline_bar"]


def starts(nodes: Sequence[Mapping[str, Any]], graph: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return each node's start in seconds on the run's clock.

    Where a node does not record `start_s`, it is placed at the end of the last node that it needs.
    """
    inputs = {str(item["id"]): item.get("inputs") or () for item in graph}
    found: dict[str, float] = {}
    ends: dict[str, float] = {}
    previous = 0.0
    for node in nodes:
        name = str(node.get("id"))
        needed = [ends[parent] for parent in inputs.get(name, ()) if parent in ends]
        recorded = finite(node.get("start_s"))
        fallback = max(needed, default=0.0) if name in inputs else previous
        found[name] = recorded if recorded is not None else fallback
        ends[name] = previous = found[name] + (finite(node.get("wall_s")) or 0.0)
    return found


def timeline_bar(start: float, wall: float | None, total: float, state: str) -> Markup:
    """Draw one node's bar as part of `total` seconds."""
    left = 100 * start / total if total > 0 else 0.0
    width = max(0.4, 100 * (wall or 0.0) / total) if total > 0 and wall else 0.4
    bar = element(
        "i", style=f"left:{min(left, 99.6):.2f}%;width:{min(width, 100 - min(left, 99.6)):.2f}%", class_=state
    )
    tip = f"from {duration(start)}, {duration(wall)} long"
    return element("span", bar, class_="timebar", title=tip, role="img", aria_label=tip)
