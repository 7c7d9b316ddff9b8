"""A line with a band around it: the median and spread of residuals over the prediction."""

from collections.abc import Sequence

from markupsafe import Markup

from ..numbers import count, significant
from ..svg import Box, axes, element, path, polyline, span, svg, tick_labels, ticks

__all__ = ["residual_band"]


def residual_band(
    predicted: Sequence[float],
    low: Sequence[float],
    median: Sequence[float],
    high: Sequence[float],
    rows: Sequence[float],
    mark: str,
    label: str,
) -> Markup:
    """Draw the 10th to 90th percentile of residuals as a band, the median as a line.

    Args:
        predicted: Mean prediction of each group of rows, ascending.
        low, median, high: Percentiles of the residuals of each group.
        rows: Rows of each group.
        mark: Palette class.
        label: What a screen reader says.
    """
    floor, ceiling = span([0.0, *low, *high], pad=0.08)
    box = Box().fitted(tick_labels(ticks(floor, ceiling)))
    x, y = box.x(*span(predicted, pad=0.03)), box.y(floor, ceiling)
    upper = [(x(a), y(b)) for a, b in zip(predicted, high, strict=True)]
    lower = [(x(a), y(b)) for a, b in zip(predicted, low, strict=True)]
    middle = [(x(a), y(b)) for a, b in zip(predicted, median, strict=True)]
    parts = [
        axes(box, x, y, "Predicted value", "Residual"),
        path([*upper, *reversed(lower)], "spread"),
        element("line", x1=box.left, x2=box.width - box.right, y1=y(0), y2=y(0), class_="reference"),
        polyline(middle, "line"),
    ]
    for index, (a, b) in enumerate(middle):
        tip = f"predicted near {significant(predicted[index], 3)}: median {significant(median[index], 3)}, "
        tip += f"80 % of {count(rows[index])} rows from {significant(low[index], 3)} "
        tip += f"to {significant(high[index], 3)}"
        parts.append(element("circle", element("title", tip), cx=a, cy=b, r=3, class_="dot"))
    return svg(box.width, box.height, element("g", *parts, class_=f"series {mark}"), label=label)
