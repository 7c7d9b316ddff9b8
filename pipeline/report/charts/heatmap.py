"""Confusion matrices as heat maps."""

from collections.abc import Sequence

from markupsafe import Markup

from ..numbers import count, percent
from ..svg import element, svg, text

__all__ = ["heatmap"]

_WIDTH = 340
_CROWDED = 6
_LARGEST = 30
_DARK_FROM = 0.68


def heatmap(labels: Sequence[str], matrix: Sequence[Sequence[float]], label: str) -> Markup:
    """Draw a confusion matrix: rows are true labels, columns predicted; shade is the share of the row.

    Args:
        labels: Class names, K of them, K <= 30.
        matrix: Counts `[K][K]`.
        label: What a screen reader says.
    """
    names = [str(name) for name in labels]
    longest = max((len(name) for name in names), default=1)
    left = min(96, 30 + 6.2 * min(longest, 11))
    top = 40 if len(names) <= _CROWDED else 28 + 5.2 * min(longest, 11)
    cell = (_WIDTH - left - 8) / max(1, len(names))
    rise = min(cell, 92) if len(names) <= _CROWDED else cell
    parts = [*_titles(names, left, top, cell, rise)]
    for row, (name, counts) in enumerate(zip(names, matrix, strict=False)):
        total = sum(counts)
        for column, value in enumerate(counts):
            share = value / total if total else 0.0
            rows = f"{count(value)} rows, {percent(share)} of this true label"
            tip = f"true {name}, predicted {names[column]}: {rows}"
            parts.append(
                _cell(left + column * cell, top + row * rise, cell, rise, value, share, tip, len(names))
            )
    return svg(_WIDTH, top + rise * len(names) + 6, *parts, label=label, class_="chart heatmap")


def _titles(names: Sequence[str], left: float, top: float, cell: float, rise: float) -> list[Markup]:
    middle = left + cell * len(names) / 2
    centre = top + rise * len(names) / 2
    parts = [
        text(middle, 11, "Predicted label", "middle", "title"),
        element(
            "text",
            "True label",
            text_anchor="middle",
            class_="title",
            transform=f"translate(10 {centre:.1f}) rotate(-90)",
        ),
    ]
    step = max(1, len(names) // _LARGEST + (len(names) > _LARGEST))
    for index in range(0, len(names), step):
        name = names[index] if len(names[index]) <= 11 else names[index][:10] + "…"
        x = left + (index + 0.5) * cell
        parts.append(text(left - 7, top + (index + 0.5) * rise + 3.5, name, "end", "tick"))
        if len(names) <= _CROWDED:
            parts.append(text(x, top - 8, name, "middle", "tick"))
        else:
            parts.append(
                element(
                    "text",
                    name,
                    class_="tick",
                    transform=f"translate({x + 3.5:.1f} {top - 6:.1f}) rotate(-90)",
                )
            )
    return parts


def _cell(
    x: float, y: float, width: float, height: float, value: float, share: float, tip: str, k: int
) -> Markup:
    gap = 1.5 if k <= 12 else 0.5
    parts = [
        element("title", tip),
        element(
            "rect", x=x, y=y, width=width - gap, height=height - gap, rx=3 if k <= 12 else 1, class_="base"
        ),
        element(
            "rect",
            x=x,
            y=y,
            width=width - gap,
            height=height - gap,
            rx=3 if k <= 12 else 1,
            class_="heat",
            fill_opacity=round(0.04 + 0.96 * share, 3),
        ),
    ]
    tone = "on" if share > _DARK_FROM else "off"
    centre = x + (width - gap) / 2
    if k <= _CROWDED:
        parts.append(text(centre, y + height / 2 - 1, count(value), "middle", f"count {tone}"))
        parts.append(text(centre, y + height / 2 + 15, percent(share), "middle", f"share {tone}"))
    elif k <= 10 and value:
        parts.append(text(centre, y + height / 2 - 1, _short(value), "middle", f"tiny {tone}"))
        parts.append(
            text(
                centre,
                y + height / 2 + 9,
                f"{share * 100:.0f}%" if share >= 0.005 else "<1%",
                "middle",
                f"tiny {tone}",
            )
        )
    elif k <= 16 and share >= 0.005:
        parts.append(text(centre, y + height / 2 + 3, f"{share * 100:.0f}", "middle", f"tiny {tone}"))
    return element("g", *parts, class_="mark")


def _short(value: float) -> str:
    return count(value) if value < 1e4 else f"{value / 1e3:,.0f}k"
