"""What was found of each class, or of each label of a multilabel task."""

from collections.abc import Mapping
from typing import Any

from ..charts.bars import cell_bar
from ..charts.heatmap import heatmap
from ..facts import Facts, Variant
from ..numbers import count, finite, interval, metric, metric_title
from ..table import Cell, Column, Row, Table, number

__all__ = ["classes"]

_METRICS = ("f1", "precision", "recall", "auc", "pr_auc", "accuracy", "log_loss")
_MOST_MATRICES = 24


def classes(facts: Facts) -> dict[str, Any] | None:
    """Return a table of every variant's classes, and for labels a matrix each of the leading variant."""
    shown = [item for item in facts.overlaid if item.per_class]
    if not shown:
        return None
    lead = next((item for item in shown if item is facts.leading), shown[0])
    names = [m for m in _METRICS if any(m in held for item in shown for held in item.per_class)]
    several = bool(lead.label_matrices)
    return {
        "word": "label" if several else "class",
        "table": _table(shown, lead, names, facts.counted),
        "variants": [item.name for item in shown],
        "selected": lead.name,
        "matrices": _matrices(lead, facts.counted),
        "more": max(0, len(lead.label_matrices) - _MOST_MATRICES),
    }


def _table(shown: list[Variant], lead: Variant, names: list[str], of: str) -> Table:
    whose = "Number of" if of == "rows" else "Sum of the weights of"
    limits = any("threshold" in held for item in shown for held in item.per_class)
    columns = [
        Column("Label" if lead.label_matrices else "Class"),
        Column(of.capitalize(), True, f"{whose} test rows that have it"),
        Column("Predicted", True, f"{whose} test rows that were given it"),
        *([Column("Threshold", True, "Score from which a row is given the label")] if limits else []),
        *[Column(metric_title(name), True) for name in names],
    ]
    rows = [
        _row(held, item.name, names, limits)
        for item in sorted(shown, key=lambda item: item is not lead)
        for held in item.per_class
    ]
    return Table(
        columns, rows, "Metrics by class", sortable=True, tall=len(lead.per_class) > 14, id="classes"
    )


def _row(held: Mapping[str, Any], variant: str, names: list[str], limits: bool) -> Row:
    cells = [
        Cell(str(held.get("label")), css="variant"),
        number(count(held.get("rows")), finite(held.get("rows"))),
        number(count(held.get("predicted")), finite(held.get("predicted"))),
    ]
    if limits:
        cells.append(number(metric(held.get("threshold")), finite(held.get("threshold"))))
    for name in names:
        value = finite(held.get(name))
        within = interval((held.get("intervals") or {}).get(name))
        first = name == names[0]
        bar = cell_bar(value, 1.0) if first and value is not None else ""
        cells.append(
            number(metric(value), value, hint=f"interval {within}" if within else "", note=bar,
                   css="main" if first else "")
        )  # fmt: skip
    return Row(cells, keys={"variant": variant})


def _matrices(lead: Variant, of: str) -> list[dict[str, Any]]:
    """Return the labels with the lowest F1 first; one that no row has and none was given comes last."""
    scores = {str(held.get("label")): finite(held.get("f1")) for held in lead.per_class}

    def order(held: Mapping[str, Any]) -> float:
        score = scores.get(str(held.get("label")))
        return 2.0 if score is None else score

    return [
        {
            "label": held["label"],
            "note": f"F1 {metric(scores.get(str(held['label'])))}",
            "svg": heatmap(["no", "yes"], held["matrix"], f"Confusion matrix of label {held['label']}", of),
        }
        for held in sorted(lead.label_matrices, key=order)[:_MOST_MATRICES]
    ]
