"""Tuner trials as parallel coordinates: one axis a hyperparameter, the last the score."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..numbers import finite, metric, significant
from ..svg import Scale, element, polyline, span, svg, text

__all__ = ["parallel"]

_WIDTH, _HEIGHT = 1040, 276
_TOP, _BOTTOM = 52, 24


def parallel(
    trials: Sequence[Mapping[str, Any]], fields: Sequence[str], best: object, objective: str, label: str
) -> Markup:
    """Draw trials that have a score.

    Args:
        trials: `[{trial, values, score}]`.
        fields: Dotted fields of `values`, left to right; a trial without one has a gap there.
        best: `trial` of the chosen one.
        objective: Title of the last axis.
        label: What a screen reader says.
    """
    gap = (_WIDTH - 150) / max(1, len(fields))
    places = [70 + gap * index for index in range(len(fields) + 1)]
    scales = [
        _axis([trial["values"][name] for trial in trials if name in trial["values"]]) for name in fields
    ]
    scores = _axis([trial["score"] for trial in trials], metric)
    parts = [_drawn_axis(x, name) for x, name in zip(places, [*fields, objective], strict=True)]
    ordered = sorted(trials, key=lambda trial: trial["trial"] == best)
    for trial in ordered:
        places_of = [
            (x, scale[0](trial["values"][name])) if name in trial["values"] else None
            for x, name, scale in zip(places, fields, scales, strict=False)
        ]
        runs = _unbroken([*places_of, (places[-1], scores[0](trial["score"]))])
        settings = ", ".join(f"{name} {_words(value)}" for name, value in trial["values"].items())
        tip = f"trial {trial['trial']}: {settings}; {objective} {metric(trial['score'])}"
        marks = [element("title", tip)]
        marks += [polyline(run, kind) for run in runs if len(run) > 1 for kind in ("line", "hover")]
        marks += [element("circle", cx=x, cy=y, r=3, class_="dot") for run in runs for x, y in run]
        parts.append(
            element("g", *marks, class_="series mark " + ("best" if trial["trial"] == best else "other"))
        )
    # Outside the lines: the best trial often runs level, and would strike a label at its end through.
    for x, (_, labels) in zip(places, [*scales, scores], strict=True):
        for y, words in labels:
            parts.append(text(x + 9, y - 7 if y < _HEIGHT / 2 else y + 14, words, "start", "tick halo"))
    return svg(_WIDTH, _HEIGHT, *parts, label=label, class_="chart wide parallel")


def _unbroken(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Cut a row of points at its gaps."""
    found: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            found.append([])
        else:
            found[-1].append(point)
    return [run for run in found if run]


def _axis(values: Sequence[Any], shown: Any = None) -> tuple[Any, list[tuple[float, str]]]:
    """Return (value -> y, [(y, label)]): numbers by size, anything else by its place in sorted text."""
    start, end = _HEIGHT - _BOTTOM, _TOP
    numbers = [finite(value) for value in values]
    if numbers and all(number is not None for number in numbers):
        known = [number for number in numbers if number is not None]
        low, high = span(known)
        log = min(known) > 0 and max(known) / min(known) > 20
        scale = Scale(low, high, start, end, log)
        ends = sorted({min(known), max(known)})
        return scale, [(scale(value), (shown or (lambda v: significant(v, 3)))(value)) for value in ends]
    names = sorted({_words(value) for value in values})
    place = {name: Scale(0, max(1, len(names) - 1), start, end)(index) for index, name in enumerate(names)}
    return (lambda value: place[_words(value)]), [(y, name) for name, y in place.items()]


def _drawn_axis(x: float, name: str) -> Markup:
    parts = [element("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="axis")]
    section, _, leaf = name.rpartition(".")
    parts.append(text(x, 12, section, "middle", "tick"))
    parts.append(text(x, 26, leaf, "middle", "title strong"))
    return Markup("").join(parts)


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(_words(item) for item in value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    number = finite(value)
    return significant(number, 3) if number is not None and not isinstance(value, int) else str(value)
