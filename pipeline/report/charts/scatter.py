"""Predicted against true values."""

from collections.abc import Sequence

from markupsafe import Markup

from ..numbers import significant
from ..svg import Box, axes, element, span, svg, thin, tick_labels, ticks

__all__ = ["scatter"]


def scatter(actual: Sequence[float], predicted: Sequence[float], mark: str, label: str) -> Markup:
    """Draw at most 400 rows; on the diagonal the prediction is right."""
    pairs = thin(list(zip(actual, predicted, strict=False)), 400)
    low, high = span([value for pair in pairs for value in pair], pad=0.03)
    box = Box().fitted(tick_labels(ticks(low, high)))
    x, y = box.x(low, high), box.y(low, high)
    parts = [axes(box, x, y, "True value", "Predicted value")]
    parts.append(element("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="reference"))
    for true, guess in pairs:
        tip = f"true {significant(true)}, predicted {significant(guess)}"
        parts.append(element("circle", element("title", tip), cx=x(true), cy=y(guess), r=2.6, class_="point"))
    return svg(box.width, box.height, element("g", *parts, class_=f"series {mark}"), label=label)
