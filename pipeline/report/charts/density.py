"""Where predictions lie over true values: a grid of shaded cells."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from ..numbers import count, significant
from ..svg import Box, axes, element, svg, tick_labels, ticks

__all__ = ["density"]


def density(
    edges: Sequence[float], counts: Sequence[Sequence[float]], mark: str, label: str, of: str = "rows"
) -> Markup:
    """Draw counts on a grid; on the diagonal the prediction is right.

    Args:
        edges: Ends of the bins of both axes, one more than bins.
        counts: Rows are bins of the true value, columns bins of the prediction.
        mark: Palette class.
        label: What a screen reader says.
        of: What is counted, "rows" or "weight".
    """
    box = Box().fitted(tick_labels(ticks(edges[0], edges[-1])))
    x, y = box.x(edges[0], edges[-1]), box.y(edges[0], edges[-1])
    most = max((value for row in counts for value in row), default=0) or 1
    parts = [axes(box, x, y, "True value", "Predicted value")]
    for true, row in enumerate(counts):
        for guess, value in enumerate(row):
            if not value:
                continue
            # Shades by the square root, so that sparse cells are seen beside crowded ones.
            shade = round(0.1 + 0.9 * math.sqrt(value / most), 2)
            left, right = x(edges[true]), x(edges[true + 1])
            top, bottom = y(edges[guess + 1]), y(edges[guess])
            tip = f"{count(value)} {of}: true near {significant((edges[true] + edges[true + 1]) / 2, 3)}, "
            tip += f"predicted near {significant((edges[guess] + edges[guess + 1]) / 2, 3)}"
            parts.append(
                element(
                    "rect", element("title", tip), x=left, y=top, width=right - left + 0.2,
                    height=bottom - top + 0.2, fill_opacity=shade, class_="bar",
                )
            )  # fmt: skip
    ends = {"x1": x(edges[0]), "y1": y(edges[0]), "x2": x(edges[-1]), "y2": y(edges[-1])}
    parts.append(element("line", **ends, class_="reference"))
    return svg(box.width, box.height, element("g", *parts, class_=f"series {mark}"), label=label)
