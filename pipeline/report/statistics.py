"""TFDV statistics made small enough to print, read with protos only (no TensorFlow)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

__all__ = ["compact", "compact_split", "skew"]

_TOP_VALUES = 12
_HISTOGRAM_BINS = 24


def compact(stats_dir: str | Path) -> dict[str, Any]:
    """Read `Split-*/FeatureStats.pb` under an ExampleStatistics artifact.

    Args:
        stats_dir: Folder of the artifact.

    Returns:
        `{split: {rows, features: {name: F}}}`, train, eval and test first. F holds `type` ("number", "text"
        or "image"), `present` (rows with a value), `missing` (share of rows without one, in [0, 1]). Numbers
        have `mean`, `std`, `min`, `median`, `max`, `zeros` and `histogram` (`{edges, counts}`); text has
        `distinct`, `top` (`[[value, count]]`, most frequent first), `other` (count of all other values) and
        `mean_length` (characters); images have `mean_bytes`, `min_bytes` and `max_bytes`. Where a row holds
        several values, `lengths` is `{min, mean, max}` of their number. Without statistics: `{}`.
    """
    found = {}
    for file in sorted(Path(stats_dir).glob("Split-*/FeatureStats.pb")):
        proto = statistics_pb2.DatasetFeatureStatisticsList()
        proto.ParseFromString(file.read_bytes())
        if proto.datasets:
            found[file.parent.name.removeprefix("Split-")] = compact_split(proto.datasets[0])
    order = {"train": 0, "eval": 1, "test": 2}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], 3), item[0])))


def compact_split(dataset: Any) -> dict[str, Any]:
    """Return one split's `{rows, features}` from a DatasetFeatureStatistics proto."""
    rows = int(dataset.num_examples)
    features = {}
    for feature in dataset.features:
        name = feature.name or ".".join(feature.path.step)
        kind = feature.WhichOneof("stats")
        if kind == "num_stats":
            features[name] = _shared(feature.num_stats, rows) | _number(feature.num_stats)
        elif kind == "string_stats":
            features[name] = _shared(feature.string_stats, rows) | _text(feature.string_stats)
        elif kind == "bytes_stats":
            features[name] = _shared(feature.bytes_stats, rows) | _image(feature.bytes_stats)
    return {"rows": rows, "features": dict(sorted(features.items()))}


def skew(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Measure how far apart two features of `compact_split` are.

    Numbers: Jensen-Shannon divergence (base 2) of the histograms. Text: largest difference of a value's share
    among the values that either split lists (L-infinity).

    Returns:
        A number in [0, 1], or None where either side has no values.
    """
    if one.get("type") != other.get("type"):
        return None
    if one["type"] == "image":
        return None
    if one["type"] == "number":
        return _divergence(one["histogram"], other["histogram"])
    shares = [
        {str(value): n / side["present"] for value, n in side["top"]}
        for side in (one, other)
        if side["present"]
    ]
    if len(shares) < 2 or not (shares[0] or shares[1]):
        return None
    # A value that one side lists may be among the other's rarer ones: compare where both lists tell.
    tells = [not side["other"] for side in (one, other)]
    names = {
        name
        for name in (*shares[0], *shares[1])
        if all(name in s or t for s, t in zip(shares, tells, strict=True))
    }
    return max((abs(shares[0].get(name, 0.0) - shares[1].get(name, 0.0)) for name in names), default=None)


def _shared(stats: Any, rows: int) -> dict[str, Any]:
    common = stats.common_stats
    present = int(common.num_non_missing)
    total = present + int(common.num_missing) or rows
    found: dict[str, Any] = {"present": present, "missing": 1 - present / total if total else None}
    if common.max_num_values > 1:
        found["lengths"] = {
            "min": int(common.min_num_values),
            "mean": _finite(common.avg_num_values),
            "max": int(common.max_num_values),
        }
    return found


def _image(stats: Any) -> dict[str, Any]:
    return {
        "type": "image",
        "mean_bytes": _finite(stats.avg_num_bytes),
        "min_bytes": _finite(stats.min_num_bytes),
        "max_bytes": _finite(stats.max_num_bytes_int or stats.max_num_bytes),
    }


def _number(stats: Any) -> dict[str, Any]:
    standard = next((h for h in stats.histograms if h.type == h.STANDARD), None)
    buckets = list(standard.buckets) if standard is not None else []
    edges = [b.low_value for b in buckets] + [b.high_value for b in buckets[-1:]]
    counts = [b.sample_count for b in buckets]
    if not all(map(math.isfinite, edges)):
        edges, counts = [], []
    return {
        "type": "number",
        **{name: _finite(getattr(stats, field)) for name, field in _NUMBER_FIELDS.items()},
        "zeros": int(stats.num_zeros),
        "histogram": dict(zip(("edges", "counts"), _merged(edges, counts), strict=True)),
    }


_NUMBER_FIELDS = {"mean": "mean", "std": "std_dev", "min": "min", "median": "median", "max": "max"}


def _text(stats: Any) -> dict[str, Any]:
    ranked = list(stats.rank_histogram.buckets) or list(stats.top_values)
    pairs = [
        (
            item.label if hasattr(item, "label") else item.value,
            item.sample_count if hasattr(item, "label") else item.frequency,
        )
        for item in ranked
    ]
    values = int(stats.common_stats.tot_num_values) or int(stats.common_stats.num_non_missing)
    top = [[value, n] for value, n in pairs[:_TOP_VALUES]]
    return {
        "type": "text",
        "distinct": int(stats.unique),
        "top": top,
        "other": max(0.0, values - sum(n for _, n in top)),
        "mean_length": _finite(stats.avg_length),
    }


def _merged(edges: Sequence[float], counts: Sequence[float]) -> tuple[list[float], list[float]]:
    """Join neighbouring bins until at most `_HISTOGRAM_BINS` are left."""
    step = max(1, math.ceil(len(counts) / _HISTOGRAM_BINS))
    merged = [float(sum(counts[i : i + step])) for i in range(0, len(counts), step)]
    kept = [float(edges[min(i, len(counts))]) for i in range(0, len(counts) + step, step)] if counts else []
    return kept[: len(merged) + 1], merged


def _divergence(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Return the Jensen-Shannon divergence of two histograms, rows spread evenly inside each bin."""
    if not sum(one["counts"]) or not sum(other["counts"]):
        return None
    edges = sorted({*one["edges"], *other["edges"]})
    p, q = (_spread(side, edges) for side in (one, other))
    total = 0.0
    for place in {*p, *q}:
        a, b = p.get(place, 0.0), q.get(place, 0.0)
        total += sum(share / 2 * math.log2(2 * share / (a + b)) for share in (a, b) if share > 0)
    return min(1.0, max(0.0, total))


def _spread(histogram: Mapping[str, Any], edges: Sequence[float]) -> dict[tuple[float, float], float]:
    """Return (low, high) -> share of rows, between neighbouring `edges`; a constant's bin has no width."""
    total = sum(histogram["counts"])
    shares: dict[tuple[float, float], float] = {}
    for (low, high), n in zip(pairwise(histogram["edges"]), histogram["counts"], strict=False):
        if high == low:
            shares[low, low] = shares.get((low, low), 0.0) + n / total
            continue
        for left, right in pairwise(edges):
            overlap = min(high, right) - max(low, left)
            if overlap > 0:
                shares[left, right] = shares.get((left, right), 0.0) + n / total * overlap / (high - low)
    return shares


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
