"""Horizontal bars: one by one inside table cells, or as a chart with whiskers."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..svg import Scale, element, svg, text

__all__ = ["Bar", "bars", "cell_bar"]

_WIDTH = 480
_PITCH = 26


@dataclass(frozen=True)
class Bar:
    """A named value, how it is written, and its standard deviation."""

    name: str
    value: float
    shown: str
    std: float | None = None
    tip: str = ""


def bars(drawn: Sequence[Bar], title: str, label: str) -> Markup:
    """Draw bars from zero, longest value to the right; a whisker spans one standard deviation either side."""
    longest = max((len(bar.name) for bar in drawn), default=4)
    left = min(200.0, 20 + 7.2 * longest)
    ends = [
        end for bar in drawn for end in (bar.value, bar.value + (bar.std or 0), bar.value - (bar.std or 0))
    ]
    x = Scale(min(0.0, *ends), max(*ends, 1e-12, 0.0), left, _WIDTH - 74.0)
    height = 8 + _PITCH * len(drawn) + 26
    parts = [element("line", x1=x(0), x2=x(0), y1=4, y2=height - 24, class_="axis")]
    for index, bar in enumerate(drawn):
        middle = 8 + _PITCH * (index + 0.5)
        name = bar.name if len(bar.name) <= 32 else bar.name[:31] + "…"
        start, end = sorted((x(0), x(bar.value)))
        marks = [element("title", bar.tip or f"{bar.name}: {bar.shown}")]
        marks.append(
            element("rect", x=start, y=middle - 7, width=max(1.0, end - start), height=14, rx=2, class_="bar")
        )
        if bar.std:
            marks.append(
                element(
                    "line",
                    x1=x(bar.value - bar.std),
                    x2=x(bar.value + bar.std),
                    y1=middle,
                    y2=middle,
                    class_="error",
                )
            )
        parts.append(text(left - 10, middle + 4, name, "end", "name"))
        parts.append(element("g", *marks, class_="mark"))
        parts.append(text(_WIDTH - 4, middle + 4, bar.shown, "end", "value"))
    parts.append(text((left + _WIDTH - 74) / 2, height - 4, title, "middle", "title"))
    return svg(_WIDTH, height, *parts, label=label, widest=540, class_="chart wide")


def cell_bar(value: float | None, largest: float, mark: str = "") -> Markup:
    """Draw a thin bar for a table cell: `value` against `largest`, both >= 0."""
    share = 0.0 if value is None or largest <= 0 else max(0.0, min(1.0, value / largest))
    filled = element("i", style=f"width:{share * 100:.1f}%", class_=mark or None)
    return element("span", filled, class_="cellbar", aria_hidden="true")
