"""Calibration: observed share over predicted probability, and where the predictions lie."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..numbers import count, percent
from ..svg import Box, axes, element, polyline, svg

__all__ = ["Calibration", "reliability"]


@dataclass(frozen=True)
class Calibration:
    """One variant's bins: mean prediction, observed positive share and rows of each."""

    name: str
    mark: str
    predicted: Sequence[float | None]
    observed: Sequence[float | None]
    rows: Sequence[float]


def reliability(drawn: Sequence[Calibration], label: str, of: str = "rows") -> Markup:
    """Draw the variants' bins against the diagonal, with the last one's counts, `of` what, as bars below."""
    box = Box()
    x, y = box.x(0, 1), box.y(0, 1)
    parts = [axes(box, x, y, "Predicted probability", "Observed share")]
    parts.append(element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="reference"))
    if drawn:
        parts += _bars(drawn[-1], box, of)
    for item in drawn:
        known = [
            (p, o, n)
            for p, o, n in zip(item.predicted, item.observed, item.rows, strict=False)
            if p is not None and o is not None and n
        ]
        marks = [polyline(((x(p), y(o)) for p, o, _ in known), "line")]
        for p, o, n in known:
            tip = f"{item.name}: predicted {percent(p)}, observed {percent(o)}, {count(n)} {of}"
            marks.append(element("circle", element("title", tip), cx=x(p), cy=y(o), r=3, class_="dot"))
        parts.append(element("g", *marks, class_=f"series {item.mark}", data_series=item.name))
    return svg(box.width, box.height, *parts, label=label)


def _bars(item: Calibration, box: Box, of: str) -> list[Markup]:
    most = max(item.rows, default=0)
    x, floor, tallest = box.x(0, 1), box.height - box.bottom, 44
    bars = []
    for p, n in zip(item.predicted, item.rows, strict=False):
        if p is not None and most and n:
            height = max(0.6, tallest * n / most)
            tip = f"{count(n)} {of} predicted near {percent(p)}"
            bars.append(
                element(
                    "rect",
                    element("title", tip),
                    x=x(p) - 4,
                    y=floor - height,
                    width=8,
                    height=height,
                    class_="ghost",
                )
            )
    return bars
