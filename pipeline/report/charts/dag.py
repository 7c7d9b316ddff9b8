"""The DAG: a box a node, with its state and seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..numbers import duration
from ..svg import element, svg, text

__all__ = ["dag", "layers", "reduced"]

_BOX = (132, 50)
_GAP = (34, 18)
_PER_BAND = 7
_BAND_GAP = 34


def layers(graph: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return each node's longest distance from a node without inputs; unknown inputs count for nothing."""
    depth: dict[str, int] = {}
    inputs = {str(node["id"]): [i for i in node.get("inputs") or () if i != node["id"]] for node in graph}
    for _ in inputs:
        for name, parents in inputs.items():
            depth[name] = max((depth.get(parent, 0) + 1 for parent in parents if parent in inputs), default=0)
    return depth


def reduced(graph: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the edges that do not follow from others (the transitive reduction)."""
    inputs = {str(node["id"]): set(node.get("inputs") or ()) for node in graph}
    depth = layers(graph)
    ancestors: dict[str, set[str]] = {}
    for name in sorted(inputs, key=lambda n: depth[n]):
        parents = {parent for parent in inputs[name] if parent in inputs and depth[parent] < depth[name]}
        ancestors[name] = parents.union(*(ancestors[parent] for parent in parents))
    return [
        (parent, name)
        for name in inputs
        for parent in sorted(inputs[name], key=str)
        if parent in ancestors
        and depth[parent] < depth[name]
        and not any(
            parent in ancestors[other] for other in inputs[name] if other in ancestors and other != parent
        )
    ]


def dag(graph: Sequence[Mapping[str, Any]], nodes: Mapping[str, Mapping[str, Any]], label: str) -> Markup:
    """Draw nodes left to right, in bands where one row is not wide enough.

    Args:
        graph: `[{id, title, inputs: [ids]}]`.
        nodes: Id -> `{state, wall_s}`.
        label: What a screen reader says.
    """
    edges = reduced(graph)
    places, width, height = _places(graph, edges)
    wires = [_edge(places[a], places[b]) for a, b in edges]
    boxes = [_node(item, nodes.get(str(item["id"])) or {}, places[str(item["id"])]) for item in graph]
    return svg(width, height, *wires, *boxes, label=label, class_="chart wide dag")


@dataclass(frozen=True)
class _Place:
    """A box's top left corner, and the top of its band."""

    x: float
    y: float
    band: float


def _columns(graph: Sequence[Mapping[str, Any]], edges: Sequence[tuple[str, str]]) -> dict[int, list[str]]:
    """Return each layer's nodes from the top, near the nodes that need them so that few edges cross."""
    depth = layers(graph)
    members: dict[int, list[str]] = {}
    for item in graph:
        members.setdefault(depth[str(item["id"])], []).append(str(item["id"]))
    row: dict[str, int] = {}
    for layer in sorted(members, reverse=True):
        below = {name: [row[b] for a, b in edges if a == name] for name in members[layer]}
        members[layer].sort(key=lambda name: sum(below[name]) / len(below[name]) if below[name] else 0.0)
        row |= {name: index for index, name in enumerate(members[layer])}
    return members


def _places(
    graph: Sequence[Mapping[str, Any]], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, _Place], float, float]:
    """Return where each box is, and the drawing's size."""
    members = _columns(graph, edges)
    bands = -(-len(members) // _PER_BAND)
    per_band = -(-len(members) // max(1, bands))
    places: dict[str, _Place] = {}
    top = 4.0
    for band in range(bands):
        columns = [members.get(layer, []) for layer in range(band * per_band, (band + 1) * per_band)]
        tallest = max(len(column) for column in columns)
        tall = tallest * _BOX[1] + (tallest - 1) * _GAP[1]
        for index, column in enumerate(columns):
            own = len(column) * _BOX[1] + (len(column) - 1) * _GAP[1]
            for row, name in enumerate(column):
                y = top + (tall - own) / 2 + row * (_BOX[1] + _GAP[1])
                places[name] = _Place(8 + index * (_BOX[0] + _GAP[0]), y, top)
        top += tall + _BAND_GAP
    wide = 16 + per_band * _BOX[0] + (per_band - 1) * _GAP[0]
    return places, wide, top - _BAND_GAP + 6


def _edge(start: _Place, end: _Place) -> Markup:
    x1, y1 = start.x + _BOX[0], start.y + _BOX[1] / 2
    x2, y2 = end.x, end.y + _BOX[1] / 2
    if start.band == end.band:
        bend = (x2 - x1) / 2
        drawn = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        return element("path", d=drawn, class_="edge")
    # To the next band: down from the box, along the gap between bands, down into the other box.
    x1, y1 = start.x + _BOX[0] / 2, start.y + _BOX[1]
    x2, y2 = end.x + _BOX[0] / 2, end.y
    middle = end.band - _BAND_GAP / 2
    return element("path", d=f"M{x1:.1f} {y1:.1f}V{middle:.1f}H{x2:.1f}V{y2:.1f}", class_="edge")


def _node(item: Mapping[str, Any], known: Mapping[str, Any], place: _Place) -> Markup:
    x, y = place.x, place.y
    state = str(known.get("state") or "not run").replace("skipped", "not run")
    timed = known.get("wall_s") is not None and state != "not run"
    words = f"{state}, {duration(known['wall_s'])}" if timed else state
    needs = ", ".join(item.get("inputs") or ()) or "nothing"
    css = f"node {state.replace(' ', '-')}"
    return element(
        "g",
        element("title", f"{item['id']}: {item.get('title') or ''} ({words}); needs {needs}"),
        element("rect", x=x, y=y, width=_BOX[0], height=_BOX[1], rx=7),
        element("rect", x=x, y=y + 9, width=3.5, height=_BOX[1] - 18, rx=1.5, class_="stripe"),
        text(x + 14, y + 21, item["id"], class_="strong"),
        text(x + 14, y + 38, words, class_="tick"),
        class_=css,
    )
