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


def heatmap(labels: Sequence[str], matrix: Sequence[Sequence[float]], label: str, of: str = "rows") -> Markup:
    """Draw a confusion matrix: rows are true labels, columns predicted.

    Shade and percentage are the share of the row; inside an element of class `by-predicted`, of the column.

    Args:
        labels: Class names, K of them, K <= 30.
        matrix: Counts `[K][K]`.
        label: What a screen reader says.
        of: What is counted, "rows" or "weight".
    """
    names = [str(name) for name in labels]
    longest = max((len(name) for name in names), default=1)
    left = min(96, 30 + 6.2 * min(longest, 11))
    top = 40 if len(names) <= _CROWDED else 28 + 5.2 * min(longest, 11)
    cell = (_WIDTH - left - 8) / max(1, len(names))
    rise = min(cell, 92) if len(names) <= _CROWDED else cell
    parts = [*_titles(names, left, top, cell, rise)]
    called = [sum(counts) for counts in zip(*matrix, strict=False)]
    for row, (name, counts) in enumerate(zip(names, matrix, strict=False)):
        total = sum(counts)
        for column, value in enumerate(counts):
            shares = (value / total if total else 0.0, value / called[column] if called[column] else 0.0)
            rows = f"{count(value)} {of}, {percent(shares[0])} of this true label"
            rows += f", {percent(shares[1])} of this prediction"
            tip = f"true {name}, predicted {names[column]}: {rows}"
            place = (left + column * cell, top + row * rise, cell, rise)
            parts.append(_cell(place, value, shares, tip, len(names)))
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
    place: tuple[float, float, float, float], value: float, shares: tuple[float, float], tip: str, k: int
) -> Markup:
    """Draw one cell at (x, y, width, height); `shares` are those of the row and of the column."""
    x, y, width, height = place
    gap = 1.5 if k <= 12 else 0.5
    box = {"x": x, "y": y, "width": width - gap, "height": height - gap, "rx": 3 if k <= 12 else 1}
    row, column = (round(0.04 + 0.96 * share, 3) for share in shares)
    parts = [
        element("title", tip),
        element("rect", **box, class_="base"),
        element("rect", **box, class_="heat", style=f"--r:{row};--p:{column}"),
    ]
    tones = "".join(f" {view}-on" for view, share in zip("rp", shares, strict=True) if share > _DARK_FROM)
    centre, middle = x + (width - gap) / 2, y + height / 2
    both = tuple(zip("rp", shares, strict=True))
    if k <= _CROWDED:
        parts.append(text(centre, middle - 1, count(value), "middle", f"count{tones}"))
        parts += [
            text(centre, middle + 15, percent(share), "middle", f"share of-{view}{tones}")
            for view, share in both
        ]
    elif k <= 10 and value:
        parts.append(text(centre, middle - 1, _short(value), "middle", f"tiny{tones}"))
        parts += [
            text(centre, middle + 9, _percent(share), "middle", f"tiny of-{view}{tones}")
            for view, share in both
        ]
    elif k <= 16:
        parts += [
            text(centre, middle + 3, f"{share * 100:.0f}", "middle", f"tiny of-{view}{tones}")
            for view, share in both
            if share >= 0.005
        ]
    return element("g", *parts, class_="mark")


def _percent(share: float) -> str:
    return f"{share * 100:.0f}%" if share >= 0.005 else "<1%"


def _short(value: float) -> str:
    return count(value) if value < 1e4 else f"{value / 1e3:,.0f}k"
