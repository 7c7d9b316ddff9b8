"""Metrics by slice as dots with interval bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..numbers import count, interval, metric
from ..svg import Scale, element, span, svg, text, tick_labels

__all__ = ["Estimate", "Row", "intervals"]

_WIDTH = 480
_PITCH = 26


@dataclass(frozen=True)
class Estimate:
    """A value with its bounds, of one variant."""

    variant: str
    mark: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One slice: its name, its rows, its estimates."""

    name: str
    rows: float
    estimates: Sequence[Estimate]


def intervals(drawn: Sequence[Row], overall: float | None, title: str, label: str) -> Markup:
    """Draw one line a slice; the dotted reference is the value over all rows."""
    longest = max((len(row.name) for row in drawn), default=4)
    left = min(190.0, 20 + 7.2 * longest)
    right = 56.0
    bounds = [b for row in drawn for e in row.estimates for b in (e.value, e.low, e.high)]
    low, high = span([*bounds, overall], pad=0.04)
    x = Scale(low, high, left, _WIDTH - right)
    height = 26 + _PITCH * len(drawn) + 40
    floor = height - 40
    parts = [text(_WIDTH - 4, 14, "rows", "end", "title")]
    for value, words in zip(x.ticks(5), tick_labels(x.ticks(5)), strict=True):
        parts.append(element("line", x1=x(value), x2=x(value), y1=22, y2=floor, class_="grid"))
        parts.append(text(x(value), floor + 16, words, "middle", "tick"))
    parts.append(text((left + _WIDTH - right) / 2, height - 6, title, "middle", "title"))
    if overall is not None:
        tip = element("title", f"all rows: {metric(overall)}")
        parts.append(element("line", tip, x1=x(overall), x2=x(overall), y1=22, y2=floor, class_="reference"))
    for index, row in enumerate(drawn):
        parts.append(_row(row, 26 + _PITCH * (index + 0.5), left, x))
    return svg(_WIDTH, height, *parts, label=label, widest=540, class_="chart wide")


def _row(row: Row, y: float, left: float, x: Scale) -> Markup:
    name = row.name if len(row.name) <= 30 else row.name[:29] + "…"
    parts = [
        text(left - 10, y + 4, name, "end", "name"),
        text(_WIDTH - 4, y + 4, count(row.rows), "end", "tick"),
    ]
    spread = 9.0 if len(row.estimates) > 1 else 0.0
    for index, estimate in enumerate(row.estimates):
        at = y + spread * (index / max(1, len(row.estimates) - 1) - 0.5) if spread else y
        within = interval([estimate.low, estimate.high])
        tip = f"{row.name}, {estimate.variant}: {metric(estimate.value)}" + (f" ({within})" if within else "")
        marks = [element("title", f"{tip}, {count(row.rows)} rows")]
        if estimate.low is not None and estimate.high is not None:
            marks.append(
                element("line", x1=x(estimate.low), x2=x(estimate.high), y1=at, y2=at, class_="whisker")
            )
        marks.append(element("circle", cx=x(estimate.value), cy=at, r=3.6, class_="dot"))
        parts.append(element("g", *marks, class_=f"series mark {estimate.mark}"))
    return Markup("").join(parts)
