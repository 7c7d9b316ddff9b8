"""The `schema` node: what the data must look like, kept from the user's file or inferred."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from headrace.components.node import NodeContext, NodeResult
from headrace.data.config import DataConfig

from .schema_file import Origin, curation_hash, parse_schema, read_schema_text, with_origin, write_inferred
from .statistics import read_statistics

__all__ = ["SCHEMA_FILE", "curation_hash", "infer_schema", "run"]

SCHEMA_FILE = "schema.pbtxt"

_MOST_DOMAIN_VALUES = 100
_ROWS_PER_DOMAIN_VALUE = 5
_MIN_DOMAIN_MASS = 0.99
_MIN_FRACTION = 0.99
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")


def run(ctx: NodeContext) -> NodeResult:
    """Write `schema.pbtxt`; the first run writes it beside the config too.

    Raises:
        ConfigError: If the schema file is there and is no schema; names line and file.
    """
    data = DataConfig.model_validate(ctx.config["data"])
    path: str | None = ctx.config["validation.schema_path"]
    statistics = read_statistics(Path(ctx.input("statistics")))
    inferred = infer_schema(statistics, data)
    text = None if path is None else read_schema_text(path)
    if text is None:
        body = text_format.MessageToString(inferred)
        written = path is not None and write_inferred(path, body, ctx.config["validation.schema_sha256"])
        schema, origin = inferred, Origin("inferred", Path(path).name if path and written else None)
        finding = f"inferred {len(schema.feature)} features, " + (
            f"written to {Path(str(path)).name}"
            if written
            else "kept in the run only: the config's folder takes no files"
        )
    else:
        schema, name = parse_schema(text, str(path)), Path(str(path)).name
        added = _add_missing_features(schema, inferred)
        origin = Origin("kept", name, added)
        finding = f"kept {len(schema.feature) - len(added)} features from {name}" + (
            f"; new and inferred: {', '.join(added)}" if added else ""
        )
    folder = Path(ctx.outputs["schema"])
    folder.mkdir(parents=True, exist_ok=True)
    text = with_origin(text_format.MessageToString(schema), origin)
    (folder / SCHEMA_FILE).write_text(text, encoding="utf-8")
    return NodeResult(finding, {"schema": {"origin": origin.origin}})


def infer_schema(statistics: Mapping[str, Any], data: DataConfig) -> Any:
    """Infer a schema that its own data keeps and that data of another kind breaks.

    Types, presence, values a row, and domains of low-cardinality strings come from the training
    split, widened where another split differs. What the next data may bring is let through: 1 % of
    unseen categories or of missing values in columns that had none, twice the missing values (or 5
    points more) in others, any finite number, lists of any length where lengths differed. The label is held
    strictly, but for texts with many labels. Pictures are marked as such.

    Args:
        statistics: Split -> `DatasetFeatureStatisticsList`; `train` must be among them.
        data: Names the label and the weight.

    Returns:
        A `Schema` proto.
    """
    schema = tfdv.infer_schema(
        statistics["train"], infer_feature_shape=False, max_string_domain_size=_MOST_DOMAIN_VALUES
    )
    for split, other in statistics.items():
        if split != "train" and other.datasets[0].num_examples:
            schema = tfdv.update_schema(schema, other, max_string_domain_size=_MOST_DOMAIN_VALUES)
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    del schema.string_domain[:]
    for feature in schema.feature:
        found = [stats for entry in statistics.values() for stats in _feature_stats(entry, feature.name)]
        values = domains.get(feature.domain) or _bool_values(feature)
        for domain in ("domain", "bool_domain", "int_domain", "float_domain"):
            feature.ClearField(domain)
        if _is_picture(found):
            feature.image_domain.SetInParent()
        elif feature.name == data.label and data.task != "multilabel":
            _constrain_label(schema, feature, found, data)
        else:
            few = [] if feature.name == data.label else values
            _constrain_feature(schema, feature, found, few, is_weight=feature.name == data.weight)
        strict = feature.name == data.weight or (feature.name == data.label and data.task != "multilabel")
        _constrain_presence(feature, statistics, strict=strict)
        _constrain_length(feature, found)
    return schema


def _constrain_label(schema: Any, feature: Any, found: list[Any], data: DataConfig) -> None:
    """Allow the classes seen (or declared) and no other."""
    if data.task == "regression":
        _forbid_nonfinite(feature)
    elif feature.type == schema_pb2.BYTES:
        values = set(data.classes) or {bucket.label for stats in found for bucket in _ranks(stats)}
        _set_domain(schema, feature, sorted(values), min_mass=1.0)
    elif feature.type == schema_pb2.INT:
        feature.int_domain.min = int(min(stats.num_stats.min for stats in found))
        feature.int_domain.max = int(max(stats.num_stats.max for stats in found))
        feature.int_domain.is_categorical = True


def _constrain_feature(
    schema: Any, feature: Any, found: list[Any], values: list[str], *, is_weight: bool
) -> None:
    """Bound a string to its categories where they are few and recur; bound numbers to finite ones."""
    _forbid_nonfinite(feature)
    if is_weight and feature.type == schema_pb2.FLOAT:
        feature.float_domain.min = 0.0
    if feature.type != schema_pb2.BYTES or not values:
        return
    rows = sum(stats.string_stats.common_stats.num_non_missing for stats in found)
    dates = all(_DATE.fullmatch(value) for value in values)
    if not dates and len(values) * _ROWS_PER_DOMAIN_VALUE <= rows:
        _set_domain(schema, feature, sorted(values), min_mass=_MIN_DOMAIN_MASS)


def _constrain_length(feature: Any, found: list[Any]) -> None:
    """Ask for the number of values that every row has; where rows differ, for one or more."""
    counts = [_common(stats) for stats in found if _common(stats).num_non_missing]
    fewest = min((common.min_num_values for common in counts), default=1)
    most = max((common.max_num_values for common in counts), default=1)
    feature.value_count.Clear()
    feature.value_count.min = most if fewest == most else 1
    if fewest == most:
        feature.value_count.max = most
    if most > 1 and feature.type == schema_pb2.FLOAT:
        feature.float_domain.disallow_nan = False  # a step without a number


def _is_picture(found: list[Any]) -> bool:
    return any(stats.WhichOneof("stats") == "bytes_stats" for stats in found)


def _forbid_nonfinite(feature: Any) -> None:
    if feature.type == schema_pb2.FLOAT:
        feature.float_domain.disallow_nan = True
        feature.float_domain.disallow_inf = True


def _set_domain(schema: Any, feature: Any, values: list[str], min_mass: float) -> None:
    schema.string_domain.add(name=feature.name, value=values)
    feature.domain = feature.name
    feature.distribution_constraints.min_domain_mass = min_mass


def _constrain_presence(feature: Any, statistics: Mapping[str, Any], *, strict: bool) -> None:
    """Ask for the share of rows with a value that the splits had, with room for the next data."""
    missing = max((_missing_share(entry, feature.name) for entry in statistics.values()), default=0.0)
    feature.presence.min_count = 1
    if strict:
        feature.presence.min_fraction = 1.0
    elif missing == 0:
        feature.presence.min_fraction = _MIN_FRACTION
    else:
        feature.presence.min_fraction = round(max(0.0, 1 - max(2 * missing, missing + 0.05)), 4)


def _missing_share(statistics: Any, name: str) -> float:
    (dataset,) = statistics.datasets
    if not dataset.num_examples:
        return 0.0
    present = sum(_common(stats).num_non_missing for stats in _feature_stats(statistics, name))
    return float(1 - present / dataset.num_examples)


def _feature_stats(statistics: Any, name: str) -> Iterator[Any]:
    return (stats for stats in statistics.datasets[0].features if stats.path.step[:] == [name])


def _common(stats: Any) -> Any:
    return getattr(stats, stats.WhichOneof("stats")).common_stats


def _ranks(stats: Any) -> Any:
    return stats.string_stats.rank_histogram.buckets


def _bool_values(feature: Any) -> list[str]:
    """Return the two texts that TFDV takes for truth values, which are categories like any other."""
    if feature.type != schema_pb2.BYTES or not feature.HasField("bool_domain"):
        return []
    values = (feature.bool_domain.true_value, feature.bool_domain.false_value)
    return [value for value in values if value]


def _add_missing_features(schema: Any, inferred: Any) -> tuple[str, ...]:
    """Add to a kept schema the columns that the config has come to use since; return their names."""
    known = {feature.name for feature in schema.feature}
    domains = {domain.name: domain for domain in inferred.string_domain}
    taken = {domain.name for domain in schema.string_domain}
    added = []
    for feature in inferred.feature:
        if feature.name in known:
            continue
        schema.feature.add().CopyFrom(feature)
        added.append(feature.name)
        if feature.domain and feature.domain not in taken:
            schema.string_domain.add().CopyFrom(domains[feature.domain])
    return tuple(added)
