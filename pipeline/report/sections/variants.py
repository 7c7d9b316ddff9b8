"""Variants side by side: quality, agreement, size and speed; and their confusion matrices."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from headrace.components.quantization.sizes import larger_than_float32

from ..charts.bars import cell_bar
from ..charts.heatmap import heatmap
from ..facts import Facts, Variant
from ..metrics import MAIN, SHOWN, first_present
from ..numbers import (
    DASH,
    count,
    duration,
    finite,
    interval,
    latency,
    metric,
    metric_title,
    percent,
    ratio,
    signed,
    significant,
    size,
)
from ..table import Cell, Column, Row, Table, number

__all__ = ["confusion", "variants"]

_COSTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("size_bytes", "Size", size),
    ("weight_bytes", "Weights", size),
    ("b1_p50", "p50, 1 row", latency),
    ("b1_p99", "p99, 1 row", latency),
    ("b100_p50", "p50, 100 rows", latency),
    ("b100_p99", "p99, 100 rows", latency),
    ("load_s", "Load", duration),
)
_AGREEMENT = {
    "flip_rate": ("Flip rate", "Share of test rows whose predicted class differs from float32's"),
    "max_abs_diff": ("Max |diff|", "Largest absolute difference of an output from float32's"),
}
_LABEL_FLIPS = "Share of label decisions that differ from float32's"
_LARGEST_MATRIX = 30
_SMALL_MATRIX = 12  # of larger ones only the telling variants are drawn


def variants(facts: Facts) -> dict[str, Any] | None:
    """Return the two tables: what each variant is worth, and what it costs."""
    if not facts.variants:
        return None
    return {
        "quality": _quality(facts) if facts.judged else None,
        "cost": _cost(facts)
        if any(any(v is not None for v in item.cost.values()) for item in facts.variants)
        else None,
        "skipped": [(item.name, item.skipped) for item in facts.variants if item.skipped],
        "pushed": [
            (item.name, item.mark, item.target, item.pushed_to) for item in facts.variants if item.pushed_to
        ],
    }


def confusion(facts: Facts) -> dict[str, Any] | None:
    """Return a heat map a variant; above 30 classes the most frequent confusions instead."""
    shown = [item for item in facts.overlaid if item.confusion_matrix and item.confusion_matrix.get("matrix")]
    if not shown:
        return None
    first = shown[0].confusion_matrix or {}
    axis = first.get("axis") or "rows are true labels"
    classes = len(first["labels"])
    few = classes <= _LARGEST_MATRIX
    drawn = shown if classes <= _SMALL_MATRIX else [item for item in shown if item in facts.telling]
    return {
        "axis": axis,
        "maps": [_map(item, axis, facts.counted) for item in drawn] if few else [],
        "left_out": [item.name for item in shown if item not in drawn] if few else [],
        "worst": _worst(facts.leading or shown[0], facts.counted) if classes > 2 else None,
        "leading": (facts.leading or shown[0]).name,
        "classes": classes,
    }


def _map(item: Variant, axis: str, of: str) -> dict[str, Any]:
    held = item.confusion_matrix or {}
    label = f"Confusion matrix of {item.name}; {axis}, columns are predicted labels"
    right = sum(row[index] for index, row in enumerate(held["matrix"]))
    total = sum(map(sum, held["matrix"]))
    return {
        "name": item.name,
        "mark": item.mark,
        "pushed": bool(item.pushed_to),
        "note": f"{count(right)} of {count(total)}{'' if of == 'rows' else f' {of}'} right",
        "svg": heatmap(held["labels"], held["matrix"], label, of),
    }


def _worst(item: Variant, of: str) -> Table | None:
    held = item.confusion_matrix or {}
    names = [str(name) for name in held.get("labels") or ()]
    wrong = [
        (value, sum(row), names[true], names[guess])
        for true, row in enumerate(held.get("matrix") or ())
        for guess, value in enumerate(row)
        if true != guess and value
    ]
    wrong.sort(key=lambda pair: -pair[0])
    rows = [
        Row([Cell(true), Cell(guess), number(count(n), n), number(percent(n / total), n / total)])
        for n, total, true, guess in wrong[:8]
    ]
    columns = [
        Column("True"),
        Column("Predicted as"),
        Column(of.capitalize(), True),
        Column("Share of the true label", True),
    ]
    return Table(columns, rows, "Most frequent confusions") if rows else None


def _name_cell(item: Variant) -> Cell:
    where = f"pushed to {item.target}" if item.pushed_to else ("skipped" if item.skipped else item.target)
    name = Markup('<span class="key {}" aria-hidden="true"></span>{}').format(item.mark, item.name)
    return Cell(name, sort=item.name, note=where, css="variant pushed" if item.pushed_to else "variant")


def _quality(facts: Facts) -> Table:
    judged = facts.overlaid
    present = list(dict.fromkeys(m for v in judged for m in v.metrics))
    main = first_present(MAIN, facts.task, present)
    names = first_present(SHOWN, facts.task, present) or present[:6]
    columns = [Column("Variant"), *[Column(metric_title(m), True) for m in names]]
    agreement = [key for key in _AGREEMENT if any(finite(v.agreement.get(key)) is not None for v in judged)]
    if facts.task == "regression" and "flip_rate" in agreement:
        agreement.remove("flip_rate")
    for key in agreement:
        hint = _LABEL_FLIPS if key == "flip_rate" and facts.task == "multilabel" else _AGREEMENT[key][1]
        columns.append(Column(_AGREEMENT[key][0], True, hint))
    whole = next((v for v in judged if v.name == "float32"), None)
    rows = [_quality_row(item, names, set(main), whole, agreement) for item in judged]
    return Table(columns, rows, "Quality of the variants on the test split", sortable=True)


def _quality_row(
    item: Variant, names: list[str], main: set[str], whole: Variant | None, agreement: list[str]
) -> Row:
    cells = [
        _name_cell(item) if item.mark != "base" else Cell("baseline", note="live model", css="variant")
    ]
    for name in names:
        amount = item.metrics.get(name)
        within = interval(item.intervals.get(name))
        note = ""
        if whole is not None and item is not whole and amount is not None and name in whole.metrics:
            note = signed(amount - whole.metrics[name])
        hint = f"{metric_title(name)} {metric(amount)}" + (f", interval {within}" if within else "")
        cells.append(number(metric(amount), amount, hint=hint, note=note, css="main" if name in main else ""))
    for key in agreement:
        amount = finite(item.agreement.get(key))
        cells.append(number(percent(amount, 2) if key == "flip_rate" else significant(amount, 2), amount))
    return Row(cells)


def _cost(facts: Facts) -> Table:
    keys = [entry for entry in _COSTS if any(v.cost.get(entry[0]) is not None for v in facts.variants)]
    columns = [Column("Variant")]
    for key, title, _ in keys:
        columns.append(Column(title, True))
        if key == "weight_bytes":
            columns.append(
                Column(
                    "Ratio", True, "SavedModel: weights over float32's; TF Lite: file over float32 TF Lite's"
                )
            )
    largest = {key: max((v.cost.get(key) or 0 for v in facts.variants), default=0) for key, _, _ in keys}
    rows = []
    larger = larger_than_float32([{"name": v.name, **v.cost} for v in facts.variants])
    for item in facts.variants:
        if item.skipped and not any(v is not None for v in item.cost.values()):
            continue
        cells = [_name_cell(item)]
        for key, _, shown in keys:
            amount = item.cost.get(key)
            exact = f"{count(amount)} bytes" if key.endswith("_bytes") and amount is not None else ""
            note = cell_bar(amount, largest[key], item.mark) if amount is not None else Markup("")
            if key == "size_bytes" and item.name in larger:
                note = escape(f"larger than {larger[item.name]}") + note
            cells.append(number(shown(amount), amount, hint=exact, note=note))
            if key == "weight_bytes":
                share = item.cost.get("size_ratio")
                cells.append(
                    number(
                        ratio(share) if share is not None else DASH,
                        share,
                        note=cell_bar(share, 1.0, item.mark),
                    )
                )
        rows.append(Row(cells))
    return Table(columns, rows, "Size and speed of the variants", sortable=True)
