"""Confusion counts over thresholds as a stacked area."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..numbers import count
from ..svg import Box, axes, element, path, svg, text, thin, tick_labels, ticks

__all__ = ["COUNTS", "stack"]

COUNTS = {"tp": "true positive", "fn": "false negative", "fp": "false positive", "tn": "true negative"}
"""Counts from the bottom up: the first two sum to the positive rows at every threshold."""


def stack(rows: Sequence[Mapping[str, Any]], threshold: float | None, label: str, of: str = "rows") -> Markup:
    """Draw tp, fn, fp and tn over the threshold, the chosen one marked.

    Args:
        rows: `[{threshold, tp, fp, tn, fn}]`, by threshold; at least one.
        threshold: The one in use, or None.
        label: What a screen reader says.
        of: What is counted, "rows" or "weight".
    """
    shown = thin(rows, 101)
    total = max(sum(float(row[name]) for name in COUNTS) for row in shown)
    box = Box().fitted(tick_labels(ticks(0, total)))
    x, y = box.x(0, 1), box.y(0, total)
    floor = [0.0] * len(shown)
    areas = []
    for name in COUNTS:
        ceiling = [low + float(row[name]) for low, row in zip(floor, shown, strict=True)]
        xs = [x(float(row["threshold"])) for row in shown]
        outline = (
            list(zip(xs, map(y, ceiling), strict=True)) + list(zip(xs, map(y, floor), strict=True))[::-1]
        )
        areas.append(path(outline, f"area {name}"))
        floor = ceiling
    parts = [*areas, axes(box, x, y, "Threshold", of.capitalize(), y_format=tick_labels(y.ticks(5)))]
    parts += _hovers(shown, box, x)
    if threshold is not None:
        where = x(threshold)
        side = -6 if threshold > 0.6 else 6
        parts.append(
            element(
                "line", x1=where, x2=where, y1=box.top, y2=box.height - box.bottom, class_="marker strong"
            )
        )
        parts.append(
            text(
                where + side,
                box.top + 14,
                f"threshold {threshold:.3f}",
                "end" if side < 0 else "start",
                "marker strong",
            )
        )
    return svg(box.width, box.height, *parts, label=label, class_="chart stack")


def _hovers(rows: Sequence[Mapping[str, Any]], box: Box, x: Any) -> list[Markup]:
    shown = thin(rows, 41)
    step = (box.width - box.left - box.right) / max(1, len(shown) - 1)
    found = []
    for row in shown:
        tip = f"threshold {row['threshold']:.3f}: " + ", ".join(
            f"{words} {count(row[name])}" for name, words in COUNTS.items()
        )
        found.append(
            element(
                "rect",
                element("title", tip),
                x=max(box.left, x(float(row["threshold"])) - step / 2),
                y=box.top,
                width=step,
                height=box.height - box.top - box.bottom,
                class_="hover",
            )
        )
    return found
