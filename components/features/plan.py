"""From the feature spec to the list of model inputs, free of TensorFlow.

The graph (`graph.py`), features.json and the JSON sidecar (`sidecar.py`) are all derived from this list, so
that they cannot disagree.
"""

import math
from collections.abc import Iterator, Mapping

from headrace.data.config import RawType
from headrace.data.errors import ConfigError

from .config import (
    CategoricalFeature,
    CrossFeature,
    CrossPart,
    DateFeature,
    FeaturesConfig,
    ImageFeature,
    NumericFeature,
    SeriesFeature,
    TextFeature,
    Vocabulary,
)
from .outputs import (
    Bag,
    BagWeights,
    Bucketed,
    Categories,
    Category,
    DateCategory,
    DateCycle,
    MissingFlag,
    Number,
    Output,
    Part,
    Picture,
    Series,
    SeriesLength,
    Tokenizer,
    Tokens,
)

__all__ = ["default_embedding_dim", "plan_outputs"]

_RESERVED = ("label", "weight")


def default_embedding_dim(cardinality: int) -> int:
    """Return the width of an embedding that the config leaves open.

    Twice the fourth root of the number of categories, at least 4 and at most 32. The fourth root is the
    rule of thumb of "Introducing TensorFlow Feature Columns" (Google Developers Blog, 2017); the factor
    leaves room, since a width too small costs quality and one too large only bytes.

    Example:
        >>> [default_embedding_dim(n) for n in (3, 16, 1000, 10_000, 1_000_000)]
        [4, 4, 12, 20, 32]
    """
    return min(32, max(4, math.ceil(2 * cardinality**0.25)))


def plan_outputs(features: FeaturesConfig, types: Mapping[str, RawType]) -> tuple[Output, ...]:
    """List the model's inputs, in config order.

    Args:
        features: The `features` section.
        types: Raw column -> type, for every column that the features read.

    Raises:
        ConfigError: If a feature does not suit its column's type, or two outputs share a name.
    """
    outputs: list[Output] = []
    for name, feature in features.items():
        if isinstance(feature, NumericFeature):
            outputs += _plan_numeric(name, feature, types)
        elif isinstance(feature, CategoricalFeature):
            outputs.append(_plan_categorical(name, feature, types))
        elif isinstance(feature, CrossFeature):
            outputs.append(_plan_cross(name, feature, types))
        elif isinstance(feature, ImageFeature):
            outputs.append(_plan_image(name, feature, types))
        elif isinstance(feature, TextFeature):
            outputs += _plan_text(name, feature, types)
        elif isinstance(feature, SeriesFeature):
            outputs += _plan_series(name, feature, types)
        else:
            outputs += _plan_date(name, feature, types)
    _check_names(outputs)
    return tuple(outputs)


def _plan_numeric(name: str, feature: NumericFeature, types: Mapping[str, RawType]) -> Iterator[Output]:
    column = feature.column or name
    _check_type(types, column, ("int", "float"), f"features.{name}", "a numeric feature")
    if feature.buckets is None:
        yield Number(name, name, column, feature.impute, feature.log, feature.clip, feature.scale)
    else:
        yield Bucketed(
            name,
            name,
            column,
            feature.log,
            feature.clip,
            feature.buckets.quantiles,
            feature.buckets.bounds,
            feature.encode,
            feature.embedding_dim,
        )
    if feature.missing_indicator:
        yield MissingFlag(f"{name}_missing", name, column)


def _plan_categorical(name: str, feature: CategoricalFeature, types: Mapping[str, RawType]) -> Output:
    column = feature.column or name
    wanted: tuple[RawType, ...] = ("string",) if feature.separator else ("int", "string")
    kind = "a categorical feature with `separator`" if feature.separator else "a categorical feature"
    _check_type(types, column, wanted, f"features.{name}", kind)
    vocabulary, buckets = _ways(feature.vocabulary, feature.hash_buckets)
    if feature.separator is None:
        return Category(
            name, name, (Part(column),), vocabulary, buckets, feature.encode, feature.embedding_dim
        )
    return Categories(
        name,
        name,
        column,
        feature.separator,
        feature.max_values,
        vocabulary,
        buckets,
        feature.encode,
        feature.embedding_dim,
    )


def _plan_cross(name: str, feature: CrossFeature, types: Mapping[str, RawType]) -> Output:
    parts = []
    for part in feature.of:
        if isinstance(part, CrossPart):
            _check_type(types, part.column, ("int", "float"), f"features.{name}.of", "a part cut at `bounds`")
            _check_bounds(part.bounds, f"features.{name}.of")
            parts.append(Part(part.column, part.bounds))
        else:
            _check_type(types, part, ("int", "string"), f"features.{name}.of", "a part taken as it is")
            parts.append(Part(part))
    vocabulary, buckets = _ways(feature.vocabulary, feature.hash_buckets)
    return Category(name, name, tuple(parts), vocabulary, buckets, feature.encode, feature.embedding_dim)


def _plan_date(name: str, feature: DateFeature, types: Mapping[str, RawType]) -> Iterator[Output]:
    column = feature.column or name
    _check_type(types, column, ("string",), f"features.{name}", "a date feature")
    for part in feature.parts:
        kind = DateCycle if feature.cyclical else DateCategory
        yield kind(f"{name}_{part}", name, column, part, feature.format)


def _plan_image(name: str, feature: ImageFeature, types: Mapping[str, RawType]) -> Output:
    column = feature.column or name
    _check_type(types, column, ("image", "floats"), f"features.{name}", "an image feature")
    pixels = None
    if types[column] == "floats":
        pixels = (feature.source_height or feature.height, feature.source_width or feature.width)
    elif feature.source_height or feature.source_width:
        raise ConfigError(
            "`source_height` and `source_width` are for rows of pixels; a file tells its own size. "
            f"Received: column {column!r} of type image (features.{name})",
            f"leave them out, or declare `floats` under `data.columns.{column}`",
        )
    return Picture(
        name,
        name,
        column,
        feature.height,
        feature.width,
        feature.channels,
        feature.fit,
        feature.antialias,
        feature.scale,
        pixels,
        feature.max_value,
    )


def _plan_text(name: str, feature: TextFeature, types: Mapping[str, RawType]) -> Iterator[Output]:
    column = feature.column or name
    _check_type(types, column, ("string",), f"features.{name}", "a text feature")
    tokenizer = Tokenizer(feature.lowercase, feature.strip_accents, feature.tokens, feature.ngrams)
    vocabulary, width, embedding_dim = feature.vocabulary, feature.max_length, feature.embedding_dim
    if feature.output == "sequence":
        yield Tokens(name, name, column, tokenizer, vocabulary, width, embedding_dim)
    else:
        yield Bag(name, name, column, tokenizer, vocabulary, feature.output, width, embedding_dim)
        yield BagWeights(f"{name}_weights", name, column, name, width)


def _plan_series(name: str, feature: SeriesFeature, types: Mapping[str, RawType]) -> Iterator[Output]:
    columns = feature.of or (name,)
    place = f"features.{name}" + (".of" if feature.of else "")
    for column in columns:
        _check_type(types, column, ("floats",), place, "a series feature")
    if len(set(columns)) != len(columns):
        raise ConfigError(f"`of` must name different columns. Received: {list(columns)} ({place})")
    yield Series(name, name, columns, feature.max_length, feature.keep, feature.scale)
    yield SeriesLength(f"{name}_length", name, columns, name)


def _ways(vocabulary: Vocabulary | None, hash_buckets: int | None) -> tuple[Vocabulary | None, int]:
    """Return the vocabulary, if any, and the number of hash buckets for all other values."""
    if hash_buckets is not None:
        return None, hash_buckets
    vocabulary = vocabulary or Vocabulary()
    return vocabulary, vocabulary.oov_buckets


def _check_type(
    types: Mapping[str, RawType], column: str, wanted: tuple[RawType, ...], place: str, kind: str
) -> None:
    if column not in types:
        raise ConfigError(f"a feature's column must be read from the data. Received: {column!r} ({place})")
    if types[column] not in wanted:
        names = " or ".join(f"`{name}`" for name in wanted)
        raise ConfigError(
            f"{kind} needs a column of type {names}. Received: column {column!r} of type {types[column]} "
            f"({place})",
            f"declare its type under `data.columns.{column}`"
            + (", or cut it at `bounds`" if kind == "a part taken as it is" else ""),
        )


def _check_bounds(bounds: tuple[float, ...], place: str) -> None:
    if list(bounds) != sorted(set(bounds)):
        raise ConfigError(f"`bounds` must increase strictly. Received: {list(bounds)} ({place})")


def _check_names(outputs: list[Output]) -> None:
    taken: dict[str, str] = {}
    for output in outputs:
        if output.name in _RESERVED:
            raise ConfigError(
                f"a feature must not be called `label` or `weight`. Received: {output.name!r} "
                f"(features.{output.source})",
                "rename it, and give the raw column as `column`",
            )
        if output.name in taken:
            raise ConfigError(
                f"every model input needs a name of its own. Received: {output.name!r} from both "
                f"features.{taken[output.name]} and features.{output.source}"
            )
        taken[output.name] = output.source
