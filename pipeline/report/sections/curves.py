"""ROC, precision-recall and calibration curves, and counts over thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.lines import Line, lines
from ..charts.reliability import Calibration, reliability
from ..charts.stack import COUNTS, stack
from ..facts import Facts, Variant, dig
from ..numbers import DASH, count, finite, metric, percent

__all__ = ["curves", "thresholds"]

_CALIBRATED = {"multiclass": "of the predicted class", "multilabel": "of every label of every row"}


def curves(facts: Facts) -> dict[str, Any] | None:
    """Return the three charts with all variants overlaid, the leading one on top."""
    shown = sorted((v for v in facts.overlaid if v.curves), key=lambda v: v is facts.leading)
    if not shown:
        return None
    legend = [(v.name, v.mark) for v in facts.overlaid if v.curves]
    return {
        "legend": legend,
        "roc": _roc(shown),
        "pr": _pr(shown, _positive_share(facts)),
        "calibration": _calibration(shown, facts.counted),
        "calibrated": _CALIBRATED.get(facts.task, ""),
        "apart": _apart(facts) if any(v.curves.get("roc") for v in shown) else "",
    }


def thresholds(facts: Facts) -> dict[str, Any] | None:
    """Return the leading variant's counts and rates over the threshold."""
    lead = facts.leading
    if lead is None or not lead.thresholds:
        return None
    chosen = finite(facts.shown("evaluation", "threshold"))
    rows = lead.thresholds
    return {
        "name": lead.name,
        "mark": lead.mark,
        "threshold": chosen,
        "stack": stack(rows, chosen, f"Confusion counts of {lead.name} over the threshold", facts.counted),
        "rates": _rates(rows, chosen, lead.name),
        "words": COUNTS,
        "chosen": _at(_chosen_counts(lead, chosen)) if chosen is not None else [],
        "positive": facts.shown("evaluation", "positive"),
    }


def _roc(shown: Sequence[Variant]) -> Any:
    drawn = [
        Line(
            v.name,
            v.mark,
            v.curves["roc"]["fpr"],
            v.curves["roc"]["tpr"],
            _tips(v.name, v.curves["roc"], "fpr", "tpr"),
        )
        for v in shown
        if v.curves.get("roc")
    ]
    return (
        lines(drawn, "ROC curves", "False positive rate", "True positive rate", (0, 1), (0, 1), diagonal=True)
        if drawn
        else None
    )


def _pr(shown: Sequence[Variant], share: float | None) -> Any:
    drawn = [
        Line(
            v.name,
            v.mark,
            v.curves["pr"]["recall"],
            v.curves["pr"]["precision"],
            _tips(v.name, v.curves["pr"], "recall", "precision"),
        )
        for v in shown
        if v.curves.get("pr")
    ]
    return (
        lines(drawn, "Precision-recall curves", "Recall", "Precision", (0, 1), (0, 1), level=share)
        if drawn
        else None
    )


def _calibration(shown: Sequence[Variant], of: str) -> Any:
    drawn = [
        Calibration(
            v.name,
            v.mark,
            held["predicted"],
            held["observed"],
            held["rows"],
        )
        for v in shown
        if (held := v.curves.get("calibration"))
    ]
    return reliability(drawn, "Calibration curves", of) if drawn else None


def _tips(name: str, curve: Mapping[str, Any], x: str, y: str) -> list[str]:
    words = {"fpr": "false positive rate", "tpr": "true positive rate"}
    return [
        f"{name}: {words.get(x, x)} {metric(a)}, {words.get(y, y)} {metric(b)}"
        for a, b in zip(curve[x], curve[y], strict=False)
    ]


def _positive_share(facts: Facts) -> float | None:
    counts = dig(facts.evidence, "ingest", "label", "counts", "test")
    positive = facts.shown("evaluation", "positive")
    if not isinstance(counts, Mapping) or not sum(counts.values()) or str(positive) not in counts:
        return None
    return float(counts[str(positive)] / sum(counts.values()))


def _apart(facts: Facts) -> str:
    """Say how far the variants' AUC lie apart, since overlaid curves hide it."""
    values = [v.metrics["auc"] for v in facts.judged if "auc" in v.metrics]
    if len(values) < 2:
        return ""
    apart = metric(max(values) - min(values))
    return f"The variants' AUC lie within {apart} of each other, so their curves overlap."


def _chosen_counts(lead: Variant, chosen: float) -> Mapping[str, Any]:
    """Return the counts at the chosen threshold.

    The confusion matrix was counted there; the thresholds of the curve are a grid that need not hold it.
    """
    matrix = (lead.confusion_matrix or {}).get("matrix")
    if matrix and len(matrix) == 2:
        (tn, fp), (fn, tp) = matrix
        return {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    return min(lead.thresholds, key=lambda item: abs(float(item["threshold"]) - chosen))


def _at(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (palette class, name, number) of the counts and of the rates that follow from them."""
    tp, fn, fp, tn = (float(row[name]) for name in COUNTS)

    def share(part: float, whole: float) -> str:
        return percent(part / whole) if whole else DASH

    return [
        *[(name, words.capitalize(), count(row[name])) for name, words in COUNTS.items()],
        ("", "Precision", share(tp, tp + fp)),
        ("", "Recall (true positive rate)", share(tp, tp + fn)),
        ("", "Specificity (true negative rate)", share(tn, tn + fp)),
        ("", "Called positive", share(tp + fp, tp + fp + tn + fn)),
    ]


def _rates(rows: Sequence[Mapping[str, Any]], chosen: float | None, name: str) -> Any:
    xs = [float(row["threshold"]) for row in rows]
    made: dict[str, list[float | None]] = {"precision": [], "recall": [], "F1": []}
    for row in rows:
        tp, fp, fn = (float(row[key]) for key in ("tp", "fp", "fn"))
        made["precision"].append(tp / (tp + fp) if tp + fp else None)
        made["recall"].append(tp / (tp + fn) if tp + fn else None)
        made["F1"].append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None)
    drawn = [
        Line(
            words,
            mark,
            xs,
            ys,
            [f"{words} {percent(y)} at threshold {x:.3f}" for x, y in zip(xs, ys, strict=True)],
        )
        for (words, ys), mark in zip(made.items(), ("s0", "s1", "s2"), strict=True)
    ]
    at = (chosen, f"threshold {chosen:.3f}") if chosen is not None else None
    return lines(
        drawn,
        f"Precision, recall and F1 of {name} over the threshold",
        "Threshold",
        "Rate",
        (0, 1),
        (0, 1),
        at=at,
    )
