"""Metrics by slice: dots with intervals, and a sortable table of every variant."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.intervals import Estimate, Row, intervals
from ..facts import Facts, Variant, dig, slice_name
from ..metrics import LESS_IS_BETTER, SLICED, first_present
from ..numbers import count, finite, interval, metric, metric_title, percent, signed
from ..table import Cell, Column, Table, number
from ..table import Row as TableRow

__all__ = ["slices"]

_MOST_ROWS = 24


def slices(facts: Facts) -> dict[str, Any] | None:
    """Return a chart for each slice spec, and the table."""
    sliced = [v for v in facts.judged if any(s.get("keys") for s in v.slices)]
    if not sliced:
        return None
    shown = [v for v in facts.candidates if v in sliced][:2] or sliced[:1]
    name = next(iter(first_present(SLICED, facts.task, shown[0].metrics)), None)
    floor = finite(dig(facts.summary, "config", "evaluation", "min_slice_rows")) or 0
    specs = list(dict.fromkeys(tuple(s["keys"]) for s in shown[0].slices if s.get("keys")))
    return {
        "charts": [chart for spec in specs if name and (chart := _chart(spec, shown, name, floor))],
        "legend": [(v.name, v.mark) for v in shown],
        "metric": metric_title(name or ""),
        "table": _table(sliced, shown[0], facts.task, floor),
        "variants": [v.name for v in sliced],
        "selected": shown[0].name,
        "floor": count(floor) if floor else None,
    }


def _chart(spec: Sequence[str], shown: Sequence[Variant], name: str, floor: float) -> dict[str, Any] | None:
    lead = [
        s
        for s in shown[0].slices
        if tuple(s.get("keys") or ()) == spec and finite(dig(s, "metrics", name)) is not None
    ]
    kept = [s for s in lead if (finite(s.get("rows")) or 0) >= floor]
    # All below the floor: better small slices than none, their intervals tell.
    kept = sorted(kept or lead, key=lambda s: float(s["metrics"][name]), reverse=name in LESS_IS_BETTER)
    if not kept:
        return None
    several = len(spec) > 1
    rows = []
    for held in kept[:_MOST_ROWS]:
        words = " · ".join(str(value) for value in held["keys"].values())
        rows.append(Row(words, held.get("rows") or 0, _estimates(held["keys"], shown, name)))
    title = " × ".join(spec)
    note = (
        f"{count(len(kept[:_MOST_ROWS]))} worst of {count(len(lead))}"
        if len(lead) > len(rows) and several
        else ""
    )
    if len(lead) > len(rows) and not note:
        note = f"{count(len(rows))} of {count(len(lead))} values"
    label = f"{metric_title(name)} by {title}, worst first"
    return {
        "title": title,
        "note": note,
        "svg": intervals(rows, shown[0].metrics.get(name), metric_title(name), label),
    }


def _estimates(keys: Mapping[str, Any], shown: Sequence[Variant], name: str) -> list[Estimate]:
    found = []
    for variant in shown:
        held = next((s for s in variant.slices if s.get("keys") == keys), None)
        known = finite(dig(held, "metrics", name))
        if held is None or known is None:
            continue
        low, high = (dig(held, "intervals", name) or [None, None])[:2]
        found.append(Estimate(variant.name, variant.mark, known, finite(low), finite(high)))
    return found


def _table(sliced: Sequence[Variant], selected: Variant, task: str, floor: float) -> Table:
    present = {m for v in sliced for s in v.slices for m in s.get("metrics") or ()}
    names = first_present(SLICED, task, present)
    columns = [Column("Slice"), Column("Rows", True), *[Column(metric_title(m), True) for m in names]]
    main = names[0] if names else ""
    if main:
        columns.insert(
            3, Column("Against all rows", True, f"{metric_title(main)} less its value over all rows")
        )
    flips = any(finite(dig(s, "agreement", "flip_rate")) is not None for v in sliced for s in v.slices)
    if flips:
        what = "label decisions that differ" if task == "multilabel" else "rows whose predicted class differs"
        columns.append(Column("Flip rate", True, f"Share of {what} from float32's"))
    rows = [
        _row(held, variant, names, flips, floor)
        for variant in sorted(sliced, key=lambda v: v is not selected)
        for held in sorted(variant.slices, key=lambda s: -(finite(s.get("rows")) or 0))
        if held.get("keys")
    ]
    return Table(columns, rows, "Metrics by slice", sortable=True, tall=True, id="slices")


def _row(
    held: Mapping[str, Any], variant: Variant, names: Sequence[str], flips: bool, floor: float
) -> TableRow:
    rows = finite(held.get("rows"))
    small = rows is not None and rows < floor
    cells = [
        Cell(slice_name(held["keys"]), note="too few rows to gate" if small else ""),
        number(count(rows), rows),
    ]
    for index, name in enumerate(names):
        known = finite(dig(held, "metrics", name))
        within = interval(dig(held, "intervals", name))
        cells.append(
            number(
                metric(known),
                known,
                hint=within,
                note=within if index == 0 else "",
                css="main" if index == 0 else "",
            )
        )
        if index == 0:
            whole = variant.metrics.get(name)
            apart = known - whole if known is not None and whole is not None else None
            cells.append(number(signed(apart), apart))
    if flips:
        rate = finite(dig(held, "agreement", "flip_rate"))
        cells.append(number(percent(rate, 2), rate))
    return TableRow(cells, keys={"variant": variant.name}, css="small" if small else "")
