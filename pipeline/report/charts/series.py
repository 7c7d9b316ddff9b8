"""Short series as small drawings, each line on its own scale."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..numbers import short
from ..svg import element, polyline, span, svg

__all__ = ["small_series"]

_WIDTH, _HEIGHT = 220, 84


def small_series(drawn: Mapping[str, Sequence[float | None]], marks: Mapping[str, str], label: str) -> Markup:
    """Draw lines over their steps; a step without a number is left out.

    Args:
        drawn: Name -> steps.
        marks: Name -> palette class.
        label: What a screen reader says.
    """
    parts = []
    for name, steps in drawn.items():
        low, high = span(steps, pad=0.04)
        across = max(1, len(steps) - 1)
        points = [
            (4 + index / across * (_WIDTH - 8), _HEIGHT - 4 - (value - low) / (high - low) * (_HEIGHT - 8))
            for index, value in enumerate(steps)
            if value is not None
        ]
        known = [value for value in steps if value is not None]
        tip = f"{name}: {len(steps)} steps"
        tip += f", {short(min(known))} to {short(max(known))}" if known else ", none with a number"
        line = polyline(points, "line") if len(points) > 1 else ""
        dots = (
            [element("circle", cx=x, cy=y, r=2, class_="dot") for x, y in points] if len(points) == 1 else []
        )
        parts.append(element("g", element("title", tip), line, *dots, class_=f"mark {marks[name]}"))
    return svg(_WIDTH, _HEIGHT, *parts, label=label, class_="chart series-small")
