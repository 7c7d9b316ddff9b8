"""Which raw columns a feature spec reads, and how."""

from collections.abc import Iterator

from headrace.data.columns import Usage

from .config import (
    CategoricalFeature,
    CrossFeature,
    CrossPart,
    DateFeature,
    Feature,
    FeaturesConfig,
    ImageFeature,
    NumericFeature,
    SeriesFeature,
)

__all__ = ["column_usages"]


def column_usages(features: FeaturesConfig) -> list[tuple[str, Usage]]:
    """List (raw column, usage) for every place where a feature reads a column, in config order.

    A column may occur several times. `headrace.data.columns.plan_columns` turns the list into types.
    """
    return [pair for name, feature in features.items() for pair in _usages_of(name, feature)]


def _usages_of(name: str, feature: Feature) -> Iterator[tuple[str, Usage]]:
    if isinstance(feature, CrossFeature):
        for part in feature.of:
            yield (part.column, "number") if isinstance(part, CrossPart) else (part, "category")
    elif isinstance(feature, SeriesFeature):
        yield from ((column, "series") for column in feature.of or (name,))
    elif isinstance(feature, NumericFeature):
        yield feature.column or name, "number"
    elif isinstance(feature, CategoricalFeature):
        yield feature.column or name, "category"
    elif isinstance(feature, ImageFeature):
        yield feature.column or name, "image"
    elif isinstance(feature, DateFeature):
        yield feature.column or name, "date" if feature.format is None else f"date:{feature.format}"
    else:
        yield feature.column or name, "text"
