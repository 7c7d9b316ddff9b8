"""Stacked bars of shares: rows per split, classes per split."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..numbers import count, percent
from ..svg import element, svg, text

__all__ = ["shares"]

_WIDTH = 480
_LEFT = 62


def shares(rows: Sequence[tuple[str, Mapping[str, float]]], marks: Mapping[str, str], label: str) -> Markup:
    """Draw one full-width bar a row, cut in proportion.

    Args:
        rows: (name, part -> count), drawn from the top.
        marks: Part -> palette class.
        label: What a screen reader says.
    """
    parts = []
    for index, (name, counts) in enumerate(rows):
        y = 4 + index * 34
        parts.append(text(_LEFT - 12, y + 17, name, "end", "name"))
        total = sum(counts.values())
        x = float(_LEFT)
        for part, value in counts.items():
            width = (_WIDTH - _LEFT) * value / total if total else 0.0
            tip = f"{name}, {part}: {count(value)} rows, {percent(value / total if total else None)}"
            drawn = [element("title", tip)]
            drawn.append(
                element(
                    "rect",
                    x=x,
                    y=y,
                    width=max(0.0, width - 1.5),
                    height=26,
                    rx=3,
                    class_=f"fill {marks[part]}",
                )
            )
            if width > 40:
                drawn.append(
                    text(x + width / 2, y + 17, percent(value / total), "middle", f"inside {marks[part]}")
                )
            parts.append(element("g", *drawn, class_="mark"))
            x += width
    return svg(_WIDTH, 34 * len(rows) + 2, *parts, label=label, widest=540, class_="chart wide shares")
