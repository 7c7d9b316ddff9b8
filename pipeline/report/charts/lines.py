"""Line charts: curves of several variants, and training histories."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from ..svg import Box, Scale, axes, element, polyline, power_labels, span, svg, text, thin, tick_labels

__all__ = ["Line", "lines"]


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: What the tooltip calls it.
        mark: Palette class.
        xs, ys: Coordinates; a None in `ys` breaks nothing, the point is left out.
        tips: Tooltip of each point, or empty for none.
        dots: Whether every point is drawn as a dot.
    """

    name: str
    mark: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    tips: Sequence[str] = field(default=())
    dots: bool = False


def lines(
    drawn: Sequence[Line],
    label: str,
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    level: float | None = None,
    at: tuple[float, str] | None = None,
    x_ticks: Sequence[float] | None = None,
    y_log: bool = False,
    x_log: bool = False,
    height: float = 280,
) -> Markup:
    """Draw lines over one pair of axes.

    Args:
        drawn: Lines, the most important last (drawn on top).
        label: What a screen reader says.
        x_title, y_title: Axis titles; an empty one takes no room.
        x_range, y_range: Ends of the axes; by default those of the data.
        diagonal: Draw the line y = x for reference.
        level: Draw a horizontal reference line at this value.
        at: A vertical marker (x, words).
        x_ticks: Where the x axis is labelled.
        y_log, x_log: Logarithmic axes.
        height: Height of the drawing in px.
    """
    low, high = x_range or span([x for line in drawn for x in line.xs])
    floor, ceiling = y_range or span([y for line in drawn for y in line.ys], pad=0.06)
    box = Box(height=height, top=26 if at is not None else 12).fitted(
        tick_labels(Scale(floor, ceiling, 0, 1, y_log).ticks(5)), titled=bool(y_title)
    )
    x, y = box.x(low, high, x_log), box.y(floor, ceiling, y_log)
    names = power_labels(x.ticks()) if x_log else None
    parts = [axes(box, x, y, x_title, y_title, x_ticks=x_ticks, x_format=names)]
    if diagonal:
        parts.append(element("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="reference"))
    if level is not None:
        parts.append(element("line", x1=x(low), y1=y(level), x2=x(high), y2=y(level), class_="reference"))
    if at is not None:
        parts.append(_marker(box, x, at))
    parts += [_line(line, x, y) for line in drawn]
    return svg(box.width, box.height, *parts, label=label)


def _marker(box: Box, x: Scale, at: tuple[float, str]) -> Markup:
    value, words = at
    where = x(value)
    # Half the words' width: they stay inside the drawing.
    half = 3.1 * len(words)
    middle = min(max(where, half), box.width - half)
    return Markup("").join(
        [
            element("line", x1=where, x2=where, y1=box.top, y2=box.height - box.bottom, class_="marker"),
            text(middle, box.top - 8, words, "middle", "marker"),
        ]
    )


def _line(line: Line, x: Scale, y: Scale) -> Markup:
    tips = list(line.tips) or [""] * len(line.xs)
    known = [(x(a), y(b), tip) for a, b, tip in zip(line.xs, line.ys, tips, strict=False) if b is not None]
    parts = [polyline(((a, b) for a, b, _ in known), "line")]
    for a, b, tip in known if line.dots else thin([item for item in known if item[2]], 24):
        children = (element("title", tip),) if tip else ()
        parts.append(
            element(
                "circle",
                *children,
                cx=a,
                cy=b,
                r=3 if line.dots else 6,
                class_="dot" if line.dots else "hover",
            )
        )
    return element("g", *parts, class_=f"series {line.mark}", data_series=line.name)
