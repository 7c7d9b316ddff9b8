"""Small histograms for table cells and residuals."""

import itertools
from collections.abc import Sequence

from markupsafe import Markup

from ..numbers import count, percent, significant
from ..svg import Box, axes, element, svg, tick_labels, ticks

__all__ = ["histogram", "residual_histogram", "sparkline"]

_WIDTH, _HEIGHT = 116, 34


def sparkline(edges: Sequence[float], counts: Sequence[float], mark: str, label: str) -> Markup:
    """Draw a number's histogram, bins as wide as they are."""
    if not counts or len(edges) < 2 or edges[-1] < edges[0]:
        return Markup("")
    low, width = edges[0], edges[-1] - edges[0]
    if width == 0:
        return histogram([(significant(low), sum(counts))], sum(counts), mark, label)
    places = [((a - low) / width, (b - a) / width) for a, b in itertools.pairwise(edges)]
    total = sum(counts) or 1
    tips = [
        f"{significant(a, 3)} to {significant(b, 3)}: {count(round(n))} rows ({percent(n / total)})"
        for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
    return _bars(places, counts, tips, mark, label)


def histogram(
    values: Sequence[tuple[str, float]], present: float, mark: str, label: str, of: str = "rows"
) -> Markup:
    """Draw how often each value or bin occurs, all bars equally wide; `of` is what is counted."""
    if not values:
        return Markup("")
    slot = 1 / max(6, len(values))
    places = [(index * slot, slot * 0.86) for index in range(len(values))]
    tips = [f"{name}: {count(n)} {of} ({percent(n / present if present else None)})" for name, n in values]
    return _bars(places, [n for _, n in values], tips, mark, label)


def residual_histogram(
    edges: Sequence[float], counts: Sequence[float], mark: str, label: str, of: str = "rows"
) -> Markup:
    """Draw the distribution of predicted minus true values over `edges` (one more than `counts`), of what."""
    most = max(counts, default=1) or 1
    box = Box().fitted(tick_labels(ticks(0, most)))
    x, y = box.x(edges[0], edges[-1]), box.y(0, most)
    parts = [axes(box, x, y, "Residual (predicted − true)", of.capitalize())]
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        tip = f"{significant(low, 3)} to {significant(high, 3)}: {count(n)} {of}"
        parts.append(
            element(
                "rect",
                element("title", tip),
                x=x(low),
                y=y(n),
                width=max(0.5, x(high) - x(low) - 0.6),
                height=max(0.0, y(0) - y(n)),
                class_="bar",
            )
        )
    if edges[0] < 0 < edges[-1]:
        parts.append(element("line", x1=x(0), x2=x(0), y1=box.top, y2=y(0), class_="marker"))
    return svg(box.width, box.height, element("g", *parts, class_=f"series {mark}"), label=label)


def _bars(
    places: Sequence[tuple[float, float]], counts: Sequence[float], tips: Sequence[str], mark: str, label: str
) -> Markup:
    most = max(counts) or 1
    parts = []
    for (start, width), n, tip in zip(places, counts, tips, strict=False):
        height = _HEIGHT * n / most
        drawn = max(height, 0.8 if n else 0.0)
        parts.append(
            element(
                "rect",
                element("title", tip),
                x=start * _WIDTH,
                y=_HEIGHT - drawn,
                height=drawn,
                width=max(0.6, width * _WIDTH - 0.5),
                class_="bar",
            )
        )
    base = element("line", x1=0, x2=_WIDTH, y1=_HEIGHT + 0.5, y2=_HEIGHT + 0.5, class_="axis")
    return svg(_WIDTH, _HEIGHT + 1, *parts, base, label=label, class_=f"chart spark {mark}")
