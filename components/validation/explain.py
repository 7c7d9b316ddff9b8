"""Anomalies in words and numbers: feature, rule, expected, found, count."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

__all__ = ["AnomalyRow", "explain"]

_MOST_VALUES = 5


@dataclass(frozen=True)
class AnomalyRow:
    """One rule that one column of one split breaks.

    Attributes:
        split: Name of the split.
        feature: Column; "(all rows)" where it is about the split as a whole.
        rule: What is asked for, in words.
        severity: An `error` stops the run.
        expected: What the schema allows.
        found: What the data has.
        count: Values or rows that break the rule; None where that is not a count.
    """

    split: str
    feature: str
    rule: str
    severity: Literal["error", "warning"]
    expected: str
    found: str
    count: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the row of anomalies.json."""
        return asdict(self)


def explain(split: str, anomalies: Any, schema: Any, statistics: Any, unused: set[str]) -> list[AnomalyRow]:
    """Explain the anomalies of one split.

    Args:
        split: Its name.
        anomalies: `Anomalies` proto of TFDV.
        schema: `Schema` proto that was broken.
        statistics: `DatasetFeatureStatisticsList` of the split.
        unused: Columns of the schema that the config does not use; that they are absent is a warning.

    Returns:
        Rows, errors first, then by feature.
    """
    (dataset,) = statistics.datasets
    features = {feature.name: feature for feature in schema.feature}
    stats = {".".join(entry.path.step): entry for entry in dataset.features}
    rows = []
    for key, info in anomalies.anomaly_info.items():
        name = ".".join(info.path.step) or key
        for reason in info.reason or [info]:
            kind = _kind(reason)
            expected, found, count = _describe(
                kind, reason, schema, features.get(name), stats.get(name), dataset.num_examples
            )
            mild = kind == "SCHEMA_NEW_COLUMN" or (kind == "SCHEMA_MISSING_COLUMN" and name in unused)
            is_error = info.severity == anomalies_pb2.AnomalyInfo.ERROR and not mild
            rule = _RULES.get(kind) or reason.short_description
            severity: Literal["error", "warning"] = "error" if is_error else "warning"
            rows.append(AnomalyRow(split, name, rule, severity, expected, found, count))
    if anomalies.HasField("dataset_anomaly_info"):
        info = anomalies.dataset_anomaly_info
        severity = "error" if info.severity == anomalies_pb2.AnomalyInfo.ERROR else "warning"
        rule = info.short_description or "rows"
        rows.append(
            AnomalyRow(split, "(all rows)", rule, severity, "", info.description, dataset.num_examples)
        )
    return sorted(rows, key=lambda row: (row.severity, row.feature, row.rule))


_RULES = {
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": "known categories",
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": "share of rows with a value",
    "FEATURE_TYPE_LOW_NUMBER_PRESENT": "rows with a value",
    "FEATURE_TYPE_NOT_PRESENT": "rows with a value",
    "FEATURE_TYPE_LOW_NUMBER_VALUES": "values in a row",
    "FEATURE_TYPE_HIGH_NUMBER_VALUES": "values in a row",
    "SCHEMA_MISSING_COLUMN": "column present",
    "SCHEMA_NEW_COLUMN": "column in the schema",
    "UNEXPECTED_DATA_TYPE": "type",
    "INT_TYPE_BIG_INT": "largest value",
    "INT_TYPE_SMALL_INT": "smallest value",
    "FLOAT_TYPE_BIG_FLOAT": "largest value",
    "FLOAT_TYPE_SMALL_FLOAT": "smallest value",
    "FLOAT_TYPE_HAS_NAN": "no NaN",
    "FLOAT_TYPE_HAS_INF": "no infinities",
}


def _kind(reason: Any) -> str:
    kind = getattr(reason, "type", 0)
    return str(anomalies_pb2.AnomalyInfo.Type.Name(kind))


def _describe(
    kind: str, reason: Any, schema: Any, feature: Any, stats: Any, rows: int
) -> tuple[str, str, int | None]:
    """Return expected, found and count of one anomaly; TFDV's own sentence where there is no better one."""
    if kind in ("SCHEMA_MISSING_COLUMN", "FEATURE_TYPE_NOT_PRESENT") or (
        stats is None and feature is not None
    ):
        return "present", "no row has a value", rows
    if feature is None or stats is None:
        return "", reason.description, None
    common = getattr(stats, stats.WhichOneof("stats")).common_stats
    if kind.startswith("ENUM_TYPE_UNEXPECTED") and feature.domain:
        return _describe_categories(schema, feature, stats, common.num_non_missing)
    if kind == "FEATURE_TYPE_LOW_FRACTION_PRESENT":
        missing = rows - int(common.num_non_missing)
        share = common.num_non_missing / rows if rows else 0.0
        return f">= {feature.presence.min_fraction:.4%}", f"{share:.4%}", missing
    if kind == "FEATURE_TYPE_LOW_NUMBER_PRESENT":
        return f">= {feature.presence.min_count:,}", f"{common.num_non_missing:,}", rows
    if kind in ("FEATURE_TYPE_LOW_NUMBER_VALUES", "FEATURE_TYPE_HIGH_NUMBER_VALUES"):
        wanted = _range(feature.value_count.min, feature.value_count.max)
        return wanted, _range(common.min_num_values, common.max_num_values), None
    if kind == "UNEXPECTED_DATA_TYPE":
        found = statistics_pb2.FeatureNameStatistics.Type.Name(stats.type)
        found = {"STRING": "BYTES"}.get(found, found)
        return str(schema_pb2.FeatureType.Name(feature.type)), found, int(common.num_non_missing)
    if kind.endswith(("_BIG_INT", "_SMALL_INT", "_BIG_FLOAT", "_SMALL_FLOAT")):
        domain = feature.int_domain if "INT_TYPE" in kind else feature.float_domain
        low_side = "SMALL" in kind
        limit, extreme = (domain.min, stats.num_stats.min) if low_side else (domain.max, stats.num_stats.max)
        return f"{'>=' if low_side else '<='} {limit:g}", f"{extreme:g}", None
    if kind == "FLOAT_TYPE_HAS_NAN":
        return "finite numbers", "NaN", int(stats.num_stats.num_nan) or None
    if kind == "FLOAT_TYPE_HAS_INF":
        return "finite numbers", "infinity", None
    return "", reason.description, None


def _range(low: int, high: int) -> str:
    """Say from where to where; 0 as the upper end means none."""
    if not high:
        return f"{low:,} or more"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _describe_categories(schema: Any, feature: Any, stats: Any, present: int) -> tuple[str, str, int | None]:
    """Name the values outside of the domain, the most frequent first, and count their rows."""
    known = next(set(domain.value) for domain in schema.string_domain if domain.name == feature.domain)
    counts = {bucket.label: int(bucket.sample_count) for bucket in stats.string_stats.rank_histogram.buckets}
    unseen = {label: count for label, count in counts.items() if label not in known}
    # Beyond the 1,000 ranks that statistics keep every value is unseen: a domain has fewer.
    count = int(present) - sum(number for label, number in counts.items() if label in known)
    mass = feature.distribution_constraints.min_domain_mass
    share = f", {mass:.2%} of values" if mass < 1 else ""
    return f"one of {_listed(sorted(known))}{share}", f"also {_listed(list(unseen))}", count


def _listed(values: list[str]) -> str:
    shown: Iterator[str] = iter(values[:_MOST_VALUES])
    more = len(values) - _MOST_VALUES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
