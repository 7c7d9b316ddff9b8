"""Residuals: how far predictions of a number are from the truth, and where."""

from typing import Any

from ..charts.band import residual_band
from ..charts.density import density
from ..charts.histogram import residual_histogram
from ..charts.scatter import scatter
from ..facts import Facts, Variant

__all__ = ["residuals"]


def residuals(facts: Facts) -> dict[str, Any] | None:
    """Return charts of each telling variant: truth and prediction, residuals alone and by prediction."""
    drawn = [_charts(item, facts.counted) for item in facts.telling if item.residuals]
    if not drawn:
        return None
    kept = {item.name for item in facts.telling}
    return {
        "variants": drawn,
        "of": facts.counted,
        "left_out": [item.name for item in facts.overlaid if item.residuals and item.name not in kept],
    }


def _charts(item: Variant, of: str) -> dict[str, Any]:
    held = item.residuals
    edges, counts = list(held.get("bins") or ()), list(held.get("counts") or ())
    return {
        "name": item.name,
        "mark": item.mark,
        "pushed": bool(item.pushed_to),
        "density": _density(item, of),
        "histogram": residual_histogram(edges, counts, item.mark, f"Residuals of {item.name}", of)
        if len(edges) == len(counts) + 1 and counts
        else None,
        "band": _band(item),
    }


def _band(item: Variant) -> Any:
    grouped = item.residuals.get("by_predicted") or {}
    if not grouped.get("predicted"):
        return None
    predicted, low, median, high, rows = (
        grouped[key] for key in ("predicted", "low", "median", "high", "rows")
    )
    label = f"Residuals of {item.name} by prediction"
    return residual_band(predicted, low, median, high, rows, item.mark, label)


def _density(item: Variant, of: str) -> Any:
    """Draw all rows on a grid, or else the sample of rows."""
    held, label = item.residuals, f"Predicted against true values, {item.name}"
    if (grid := held.get("density")) and grid.get("counts"):
        return density(grid["edges"], grid["counts"], item.mark, label, of)
    if held.get("actual") and held.get("predicted"):
        return scatter(held["actual"], held["predicted"], item.mark, label)
    return None
