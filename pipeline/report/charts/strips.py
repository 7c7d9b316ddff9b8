"""Values of several folds as dots, one strip a metric, each on a scale of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..numbers import metric
from ..svg import Scale, element, span, svg, text

__all__ = ["Strip", "strips"]

_WIDTH, _PITCH, _LEFT, _RIGHT = 720, 44, 150, 170


@dataclass(frozen=True)
class Strip:
    """One metric.

    Attributes:
        name: Its title.
        dots: (tooltip, value) of each fold.
        mean: Mean over folds.
        std: Standard deviation, or None for one fold.
        reference: Value to compare with, or None.
        reference_name: What the tooltip calls it.
    """

    name: str
    dots: Sequence[tuple[str, float]]
    mean: float
    std: float | None
    reference: float | None = None
    reference_name: str = ""


def strips(drawn: Sequence[Strip], label: str) -> Markup:
    """Draw a strip a metric: dots, the mean as a line, one standard deviation either way as a band."""
    height = 8 + _PITCH * len(drawn)
    parts = [_strip(strip, 8 + _PITCH * (index + 0.5)) for index, strip in enumerate(drawn)]
    return svg(_WIDTH, height, *parts, label=label, widest=820, class_="chart wide strips")


def _strip(strip: Strip, y: float) -> Markup:
    std = strip.std or 0.0
    values = [value for _, value in strip.dots]
    low, high = span([*values, strip.mean - std, strip.mean + std, strip.reference], pad=0.06)
    x = Scale(low, high, _LEFT, _WIDTH - _RIGHT)
    parts = [
        text(_LEFT - 14, y + 4, strip.name, "end", "name"),
        element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="axis"),
    ]
    if strip.std is not None:
        tip = element("title", f"mean ± standard deviation: {metric(strip.mean)} ± {metric(strip.std)}")
        start, end = x(strip.mean - std), x(strip.mean + std)
        parts.append(element("rect", tip, x=start, y=y - 11, width=end - start, height=22, class_="spread"))
    tip = element("title", f"mean: {metric(strip.mean)}")
    at = x(strip.mean)
    parts.append(element("line", tip, x1=at, x2=at, y1=y - 13, y2=y + 13, class_="marker strong"))
    if strip.reference is not None:
        tip = element("title", f"{strip.reference_name}: {metric(strip.reference)}")
        at = x(strip.reference)
        parts.append(element("line", tip, x1=at, x2=at, y1=y - 15, y2=y + 15, class_="marker"))
    for words, value in strip.dots:
        tip = element("title", f"{words}: {metric(value)}")
        parts.append(element("circle", tip, cx=x(value), cy=y, r=4.2, class_="dot"))
    told = metric(strip.mean) + (f" ± {metric(strip.std)}" if strip.std is not None else "")
    parts.append(text(_WIDTH - 4, y + 4, told, "end", "value"))
    return element("g", *parts, class_="series s0")
