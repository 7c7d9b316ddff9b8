"""Inside the model while it learned: gradients, weights, units that never answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.histogram import sparkline
from ..charts.lines import Line, lines
from ..facts import Facts
from ..numbers import DASH, count, finite, percent, short, significant
from ..svg import thin
from ..table import Cell, Column, Row, Table, number

__all__ = ["monitoring"]

_MOST_LINES = 8
_DEAD = 0.5

Json = Mapping[str, Any]


def monitoring(facts: Facts) -> dict[str, Any] | None:
    """Return gradient norms and dead units by epoch, and every layer's weights after the last one."""
    epochs: Sequence[Json] = (facts.evidence.get("monitoring") or {}).get("epochs") or ()
    if not epochs:
        return None
    last = epochs[-1]
    return {
        "gradients": _gradients(epochs),
        "dead": _dead(epochs),
        "table": _layers(last),
        "epoch": count(last.get("epoch")),
        "warnings": _warnings(epochs),
    }


def _gradients(epochs: Sequence[Json]) -> Any:
    """Draw the norm of the whole gradient, and those of the layers with the largest."""
    drawn = [_line("all layers", "s0", epochs, [finite(e.get("gradient_norm")) for e in epochs])]
    last = {str(layer["name"]): finite(layer.get("gradient_norm")) or 0.0 for layer in epochs[-1]["layers"]}
    largest = sorted((name for name in last if last[name]), key=lambda name: -last[name])[: _MOST_LINES - 1]
    for index, name in enumerate(largest, start=1):
        values = [finite(_layer(epoch, name).get("gradient_norm")) for epoch in epochs]
        drawn.append(_line(name, f"s{index}", epochs, values))
    positive = [y for line in drawn for y in line.ys if y]
    if not positive:
        return None
    log = max(positive) / min(positive) > 20
    ends = (min(positive) * 0.8, max(positive) * 1.25) if log else None
    svg = lines(
        [*drawn[1:], drawn[0]], "Norm of the gradient by epoch", "Epoch", "", _room(epochs), ends,
        x_ticks=_steps(epochs), y_log=log,
    )  # fmt: skip
    return {"svg": svg, "legend": [(line.name, line.mark) for line in drawn]}


def _dead(epochs: Sequence[Json]) -> Any:
    """Draw the share of units of each ReLU layer that answer 0 on every row looked at."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.get("dead") or ()))[:_MOST_LINES]
    if not names:
        return None
    drawn = [
        _line(
            name, f"s{index}", epochs, [finite((e.get("dead") or {}).get(name)) for e in epochs], share=True
        )
        for index, name in enumerate(names)
    ]
    highest = max((y for line in drawn for y in line.ys if y is not None), default=0.0)
    svg = lines(
        drawn, "Share of units that never answer, by epoch", "Epoch", "", _room(epochs),
        (0, max(0.1, min(1.0, highest * 1.15))), x_ticks=_steps(epochs),
    )  # fmt: skip
    return {"svg": svg, "legend": [(line.name, line.mark) for line in drawn]}


def _line(
    name: str, mark: str, epochs: Sequence[Json], ys: Sequence[float | None], share: bool = False
) -> Line:
    xs = [float(epoch["epoch"]) for epoch in epochs]
    shown = percent if share else (lambda value: significant(value, 3))
    tips = [f"epoch {x:g}, {name}: {shown(y)}" for x, y in zip(xs, ys, strict=True)]
    return Line(name, mark, xs, ys, tips, dots=len(xs) <= 40)


def _room(epochs: Sequence[Json]) -> tuple[float, float]:
    return float(epochs[0]["epoch"]) - 0.3, float(epochs[-1]["epoch"]) + 0.3


def _steps(epochs: Sequence[Json]) -> list[float]:
    xs = [float(epoch["epoch"]) for epoch in epochs]
    return xs if len(xs) <= 8 else [round(x) for x in thin(xs, 6)]


def _layer(epoch: Json, name: str) -> Json:
    return next((layer for layer in epoch.get("layers") or () if layer.get("name") == name), {})


def _layers(last: Json) -> Table | None:
    layers = last.get("layers") or ()
    if not layers:
        return None
    dead = last.get("dead") or {}
    columns = [
        Column("Layer"),
        Column("Weights", True),
        Column("Mean", True),
        Column("Std", True),
        Column("Range", True),
        Column("Distribution"),
        Column("Gradient norm", True),
        Column("Dead units", True, "ReLU units that answer 0 on every row looked at"),
    ]
    rows = [_row(layer, finite(dead.get(layer.get("name")))) for layer in layers]
    return Table(columns, rows, "Layers", sortable=True, tall=len(rows) > 14)


def _row(layer: Json, dead: float | None) -> Row:
    low, high = finite(layer.get("min")), finite(layer.get("max"))
    counts = layer.get("histogram") or ()
    drawn: Any = DASH
    if counts and low is not None and high is not None and high > low:
        edges = [low + (high - low) * index / len(counts) for index in range(len(counts) + 1)]
        drawn = sparkline(edges, counts, "s0", f"Weights of {layer.get('name')}")
    broken = finite(layer.get("mean")) is None
    return Row(
        [
            Cell(str(layer.get("name")), css="variant", note="not finite" if broken else ""),
            number(count(layer.get("weights")), finite(layer.get("weights"))),
            number(significant(layer.get("mean"), 3), finite(layer.get("mean"))),
            number(significant(layer.get("std"), 3), finite(layer.get("std"))),
            number(
                f"{short(low)} to {short(high)}" if low is not None and high is not None else DASH,
                high - low if low is not None and high is not None else None,
            ),
            Cell(drawn),
            number(significant(layer.get("gradient_norm"), 3), finite(layer.get("gradient_norm"))),
            number(percent(dead), dead, css="far" if dead is not None and dead > _DEAD else ""),
        ],
        css="failing" if broken else "",
    )


def _warnings(epochs: Sequence[Json]) -> list[str]:
    """Say what is wrong after the last epoch, a sentence each."""
    last, found = epochs[-1], []
    dead = {name: share for name, share in (last.get("dead") or {}).items() if (finite(share) or 0) > _DEAD}
    for name, share in sorted(dead.items(), key=lambda item: -item[1]):
        found.append(
            f"{percent(share)} of the units of {name} answer 0 on every row looked at: a lower learning rate "
            "or another activation may bring them back."
        )
    broken = [str(layer["name"]) for layer in last.get("layers") or () if finite(layer.get("mean")) is None]
    if broken:
        found.append(f"Weights of {', '.join(broken)} are not finite.")
    norms = [norm for epoch in epochs if (norm := finite(epoch.get("gradient_norm"))) is not None]
    if len(norms) > 1 and norms[0] > 0 and norms[-1] > 100 * norms[0]:
        found.append("The gradient grew more than a hundredfold: clipping or a lower learning rate may help.")
    return found
