"""The rows that the model gets most wrong: pictures, series, texts or numbers beside both answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.series import small_series
from ..facts import Facts, dig
from ..numbers import DASH, count, finite, percent, short
from ..table import Cell, Column, Row, Table, number

__all__ = ["mistakes"]

_MOST_LINES = 8
_MOST_FACTS = 4
_MOST_COLUMNS = 8


def mistakes(facts: Facts) -> dict[str, Any] | None:
    """Return cards where rows hold pictures or series, else a table."""
    held = facts.evidence.get("mistakes") or {}
    rows: Sequence[Mapping[str, Any]] = held.get("rows") or ()
    if not rows:
        return None
    kinds: Mapping[str, str] = held.get("columns") or {}
    pictures = [name for name, kind in kinds.items() if kind == "image"]
    series = [name for name, kind in kinds.items() if kind == "series"][:_MOST_LINES]
    marks = {name: f"s{index}" for index, name in enumerate(series)}
    drawn = bool(pictures or series)
    return {
        "total": count(held.get("total")),
        "shown": count(len(rows)),
        "order": "the largest error" if facts.task == "regression" else "the largest loss",
        "task": facts.task,
        "legend": [(name, mark, "") for name, mark in marks.items()] if len(series) > 1 else [],
        "left_out": ", ".join(_undrawn(facts, kinds, series)) if series else "",
        "cards": [_card(row, kinds, pictures, marks) for row in rows] if drawn else [],
        "table": None if drawn else _table(rows, kinds, facts.task),
    }


def _undrawn(facts: Facts, kinds: Mapping[str, str], drawn: Sequence[str]) -> list[str]:
    """Return the lists of numbers that the model reads and no line shows."""
    columns = dig(facts.evidence, "ingest", "columns") or []
    lists = [str(column.get("name")) for column in columns if column.get("type") == "floats"]
    known = {*lists, *(name for name, kind in kinds.items() if kind == "series")}
    return sorted(name for name in known - {*drawn} if kinds.get(name) != "image")


def _card(
    row: Mapping[str, Any], kinds: Mapping[str, str], pictures: Sequence[str], marks: Mapping[str, str]
) -> dict[str, Any]:
    values: Mapping[str, Any] = row.get("values") or {}
    lines = {name: values[name] for name in marks if values.get(name)}
    others = [name for name, kind in kinds.items() if kind in ("text", "number")][:_MOST_FACTS]
    return {
        "pictures": [
            (name, str(values[name]))
            for name in pictures
            if str(values.get(name) or "").startswith("data:image/")
        ],
        "missing": [name for name in pictures if not values.get(name)],
        "series": small_series(lines, marks, f"Series of row {row.get('row')}") if lines else "",
        "label": _words(row.get("label")),
        "predicted": _words(row.get("predicted")),
        "score": percent(row["score"]) if finite(row.get("score")) is not None else "",
        "facts": [(name, _value(values.get(name), 80)) for name in others],
        "row": count(row.get("row")),
    }


def _table(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], task: str) -> Table:
    shown = list(kinds)[:_MOST_COLUMNS]
    scored = any(finite(row.get("score")) is not None for row in rows)
    numeric = task == "regression"
    columns = [Column("True", numeric), Column("Predicted", numeric)]
    if numeric:
        columns.append(Column("Error", True, "Predicted less true"))
    if scored:
        columns.append(Column("Its probability", True, "Probability given to the predicted class"))
    columns += [Column(name, kinds[name] == "number") for name in shown]
    found = []
    for row in rows:
        cells = [_answer(row.get("label")), _answer(row.get("predicted"))]
        if numeric:
            apart = (finite(row.get("predicted")) or 0.0) - (finite(row.get("label")) or 0.0)
            cells.append(number(short(apart), apart, css="main"))
        if scored:
            cells.append(number(percent(row.get("score")), finite(row.get("score"))))
        values = row.get("values") or {}
        for name in shown:
            known = finite(values.get(name))
            prose = "prose" if kinds[name] == "text" and len(str(values.get(name) or "")) > 24 else ""
            cells.append(Cell(_value(values.get(name), 400), sort=known, css=prose))
        found.append(Row(cells))
    return Table(columns, found, "Worst mistakes", sortable=True, tall=True)


def _answer(value: Any) -> Cell:
    known = finite(value)
    return Cell(_words(value), sort=known, css="variant")


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    known = finite(value)
    return short(known) if known is not None else str(value)


def _value(value: Any, most: int) -> str:
    if value is None or value == "":
        return DASH
    known = finite(value)
    words = short(known) if known is not None else str(value)
    return words if len(words) <= most else words[: most - 1] + "…"
