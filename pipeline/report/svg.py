"""SVG elements, scales and axes that every chart draws with."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from markupsafe import Markup, escape

from .numbers import significant, superscript

__all__ = [
    "Box",
    "Scale",
    "axes",
    "element",
    "path",
    "polyline",
    "power_labels",
    "span",
    "svg",
    "text",
    "thin",
    "tick_labels",
    "ticks",
]

T = TypeVar("T")


def element(name: str, *children: str, **attributes: object) -> Markup:
    """Return one element, its text and attribute values escaped.

    Args:
        name: Tag name.
        *children: Text (escaped) or Markup (kept).
        **attributes: Attribute values; None leaves one out, floats are rounded to hundredths. `class_` stands
            for "class", `stroke_width` for "stroke-width".
    """
    shown = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, shown, inner)


def svg(
    width: float, height: float, *children: str, label: str, class_: str = "chart", widest: float = 0
) -> Markup:
    """Return a drawing that shrinks with its box and never grows past `widest`.

    Args:
        width: Width of the coordinate system.
        height: Height of the coordinate system.
        *children: Elements.
        label: What a screen reader says.
        class_: CSS class.
        widest: Largest width in px, by default `width`.
    """
    style = f"max-width:{_plain(widest or width)}px"
    return element(
        "svg", *children, viewBox=f"0 0 {_plain(width)} {_plain(height)}", class_=class_, role="img",
        aria_label=label, style=style,
    )  # fmt: skip


def text(x: float, y: float, content: object, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a text element; `anchor` is start, middle or end."""
    return element(
        "text", str(content), x=x, y=y, text_anchor=anchor if anchor != "start" else None, class_=class_
    )


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return an open line through `points`."""
    return element("polyline", points=_joined(points), class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, title: str | None = None) -> Markup:
    """Return a filled polygon through `points`."""
    children = (element("title", title),) if title else ()
    return element("polygon", *children, points=_joined(points), class_=class_)


def span(values: Iterable[float | None], pad: float = 0.0) -> tuple[float, float]:
    """Return the smallest and largest finite value, widened by `pad` of their distance.

    Returns:
        (0, 1) where there is no value; a range around it where all are equal.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if low == high:
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low - (high - low) * pad, high + (high - low) * pad


@dataclass(frozen=True)
class Scale:
    """A map from values to coordinates.

    Attributes:
        low, high: Values at the two ends.
        start, end: Coordinates of the two ends.
        log: Whether values are spaced by their logarithm (low > 0).
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of `value`, kept inside the ends."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        where = math.log10(max(value, self.low)) if self.log else value
        share = 0.5 if high == low else (where - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values inside the scale."""
        if self.log:
            powers = range(
                math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1
            )
            found = [10.0**power for power in powers]
            return found if len(found) >= 2 else [self.low, self.high]
        return ticks(self.low, self.high, wanted)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about `wanted` round values in [low, high], steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * 1.0001)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Return labels that share one number of decimals."""
    if not values:
        return []
    largest = max(abs(value) for value in values)
    if largest >= 1e6 or (0 < largest < 1e-3):
        return [significant(value, 2) for value in values]
    steps = [abs(b - a) for a, b in itertools.pairwise(values)] or [largest or 1]
    decimals = max(0, -math.floor(math.log10(min(steps)) + 1e-9)) if min(steps) > 0 else 0
    if any(abs(value - round(value, decimals)) > 1e-9 for value in values):
        decimals += 1
    return [f"{value:,.{decimals}f}".replace("-", "−") for value in values]


def power_labels(values: Sequence[float]) -> list[str]:
    """Return labels for a logarithmic axis: powers of ten as "10⁻³"."""
    found = []
    for value in values:
        power = math.log10(value)
        whole = abs(power - round(power)) < 1e-9
        found.append(f"10{superscript(round(power))}" if whole else significant(value, 2))
    return found


@dataclass(frozen=True)
class Box:
    """The plotting area inside a drawing: margins are for axis labels."""

    width: float = 360
    height: float = 280
    left: float = 46
    right: float = 12
    top: float = 12
    bottom: float = 42

    def fitted(self, labels: Sequence[str], titled: bool = True) -> "Box":
        """Return the box with a left margin that holds `labels`, and a turned title where `titled`."""
        return replace(self, left=(22 if titled else 4) + 8 + 6.3 * max(map(len, labels), default=1))

    def x(self, low: float, high: float, log: bool = False) -> Scale:
        """Return the horizontal scale."""
        return Scale(low, high, self.left, self.width - self.right, log)

    def y(self, low: float, high: float, log: bool = False) -> Scale:
        """Return the vertical scale; larger values are higher."""
        return Scale(low, high, self.height - self.bottom, self.top, log)


def axes(
    box: Box, x: Scale, y: Scale, x_title: str, y_title: str,
    x_ticks: Sequence[float] | None = None, x_format: Sequence[str] | None = None,
    y_format: Sequence[str] | None = None,
) -> Markup:  # fmt: skip
    """Return grid lines, tick labels and axis titles."""
    across = list(x_ticks) if x_ticks is not None else x.ticks(5)
    up = y.ticks(5)
    bottom, right = box.height - box.bottom, box.width - box.right
    parts = []
    for value, label in zip(up, y_format or tick_labels(up), strict=False):
        parts.append(element("line", x1=box.left, x2=right, y1=y(value), y2=y(value), class_="grid"))
        parts.append(text(box.left - 6, y(value) + 3.5, label, "end", "tick"))
    for value, label in zip(across, x_format or tick_labels(across), strict=False):
        parts.append(element("line", x1=x(value), x2=x(value), y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(text(x(value), bottom + 16, label, "middle", "tick"))
    parts.append(element("line", x1=box.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(text((box.left + right) / 2, box.height - 6, x_title, "middle", "title"))
    if y_title:
        turned = f"translate(11 {_plain((box.top + bottom) / 2)}) rotate(-90)"
        parts.append(element("text", y_title, text_anchor="middle", class_="title", transform=turned))
    return Markup("").join(parts)


def thin(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of `items`, evenly spaced, both ends kept."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
