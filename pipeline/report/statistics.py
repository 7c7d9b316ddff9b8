"""TFDV statistics made small enough to print, read with protos only (no TensorFlow)."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from headrace.components.validation.distributions import Bins, Distribution, read_distributions

from .numbers import short

__all__ = ["compact", "compact_split"]

_TOP_VALUES = 12


def compact(stats_dir: str | Path) -> dict[str, Any]:
    """Read `Split-*/FeatureStats.pb` and `distribution.json` under an ExampleStatistics artifact.

    Args:
        stats_dir: Folder of the artifact.

    Returns:
        `{split: {rows, features: {name: F}}}`, train, eval and test first. F holds `type` ("number", "text"
        or "image"), `present` (rows with a value), `missing` (share of rows without one, in [0, 1]). Numbers
        have `mean`, `std`, `min`, `median` (a sketch's, about 1 % of the rows off), `max` and `zeros`; text
        has `distinct`, `top` (`[[value, count]]`, most frequent first), `other` (count of all other values)
        and `mean_length` (characters); images have `mean_bytes`, `min_bytes` and `max_bytes`. Where a row
        holds several values, `lengths` is `{min, mean, max}` of their number. `bins`, `[[name, count]]`, are
        the same in every split (none in runs of 0.1). Without statistics: `{}`.
    """
    found = {}
    for file in sorted(Path(stats_dir).glob("Split-*/FeatureStats.pb")):
        proto = statistics_pb2.DatasetFeatureStatisticsList()
        proto.ParseFromString(file.read_bytes())
        if proto.datasets:
            found[file.parent.name.removeprefix("Split-")] = compact_split(proto.datasets[0])
    for split, (_, columns) in read_distributions(Path(stats_dir)).items():
        for name in columns.keys() & found.get(split, {"features": {}})["features"].keys():
            found[split]["features"][name]["bins"] = _drawn(columns[name])
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


def _drawn(column: Distribution) -> list[list[Any]]:
    """Return name and count of each bin that is drawn; of texts, the first ones of train."""
    if column.bins.values is None:
        return [[name, n] for name, n in zip(_number_names(column.bins), column.drawn, strict=True)]
    return [[name, n] for name, n in zip(column.bins.values, column.counts, strict=False)][:_TOP_VALUES]


def _number_names(bins: Bins) -> list[str]:
    """Return each bin in words, such as "below 3", "7" or "3 to 6" of whole numbers, "9 or more"."""
    if not bins.drawn:
        return ["any number"]
    last = 1 if bins.integer else 0
    between = [
        short(low) if last and high - low == 1 else f"{short(low)} to {short(high - last)}"
        for low, high in pairwise(bins.drawn)
    ]
    return [f"below {short(bins.drawn[0])}", *between, f"{short(bins.drawn[-1])} or more"]


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
    return {
        "type": "number",
        **{name: _finite(getattr(stats, field)) for name, field in _NUMBER_FIELDS.items()},
        "zeros": int(stats.num_zeros),
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


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
