"""The `features` section: what each model input is made of.

A feature is a mapping under its name. `kind` decides which keys it takes:

    numeric      one number: impute -> log -> clip -> scale or buckets
    categorical  one value (or several, with `separator`) from a vocabulary or hashed
    date         parts of an ISO 8601 date or date-time, cyclical or as categories
    cross        several columns taken together as one category
    image        a JPEG or PNG file, or a row of pixels: decode -> resize -> scale
    text         words or characters of a text: a sequence, or a bag with counts or TF-IDF weights
    series       numbers in order, one or several channels: cut or padded to one length, scaled
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headrace.data.dates import date_rewrite
from headrace.data.section import Section

__all__ = [
    "Buckets",
    "CategoricalFeature",
    "CrossFeature",
    "CrossPart",
    "DateFeature",
    "Feature",
    "FeaturesConfig",
    "ImageFeature",
    "NumericFeature",
    "SeriesFeature",
    "TextFeature",
    "Vocabulary",
]

Encoding = Literal["embedding", "one_hot", "multi_hot"]
DatePart = Literal["month", "day", "day_of_week", "day_of_year", "hour", "minute"]


class Buckets(Section):
    """Cut a number into ranges: by quantiles of the training split or at given bounds.

    A value equal to a bound falls in the range above it. Missing values get a bucket of their own
    (the last one).
    """

    quantiles: Annotated[int, Field(ge=2, le=1000)] | None = None
    bounds: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> "Buckets":
        if (self.quantiles is None) == (not self.bounds):
            raise ValueError("give exactly one of `quantiles` and `bounds`")
        if list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError(f"`bounds` must increase strictly. Received: {list(self.bounds)}")
        return self


class Vocabulary(Section):
    """Values kept as categories of their own, counted on the training split.

    Attributes:
        top_k: Keep at most this many values, the most frequent first. None: all.
        min_count: Keep values seen at least this often.
        oov_buckets: Values not kept are hashed into this many shared categories, >= 1.
            Missing is a category of its own.
    """

    top_k: Annotated[int, Field(ge=1)] | None = None
    min_count: Annotated[int, Field(ge=1)] = 1
    oov_buckets: Annotated[int, Field(ge=1)] = 1


class NumericFeature(Section):
    """A number, or with `buckets` a category.

    Attributes:
        column: Raw column; by default the feature's own name.
        impute: What a missing value becomes: the mean or median of the training split, or a
            constant, on the raw scale (before log, clip and scale).
        missing_indicator: Add a 0/1 input that says the value was missing.
        log: Take log(1 + max(x, 0)).
        clip: Limits applied after the log, if any.
        scale: `zscore` (mean 0, standard deviation 1), `minmax` (to [0, 1]) or `none`; statistics are
            those of the training split after impute, log and clip.
        buckets: Cut into ranges instead of scaling.
        encode: With `buckets`: how the model sees them.
        embedding_dim: Width of the embedding; by default chosen from the number of buckets.
    """

    kind: Literal["numeric"]
    column: str | None = None
    impute: Literal["mean", "median"] | float = "mean"
    missing_indicator: bool = False
    log: bool = False
    clip: tuple[float, float] | None = None
    scale: Literal["zscore", "minmax", "none"] = "zscore"
    buckets: Buckets | None = None
    encode: Literal["embedding", "one_hot"] = "one_hot"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _clip_in_order(self) -> "NumericFeature":
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"`clip` must be [low, high] with low < high. Received: {list(self.clip)}")
        return self


class CategoricalFeature(Section):
    """A category, or with `separator` a set of categories.

    Attributes:
        column: Raw column; by default the feature's own name.
        vocabulary: Which values are categories of their own. Not with `hash_buckets`.
        hash_buckets: Hash every value into this many categories (no vocabulary is kept).
        separator: The column holds several values joined by this text, as in "drama|crime".
        max_values: With `separator`: values kept of a row, the first ones; >= 1.
        encode: How the model sees it. `multi_hot` needs `separator`.
        embedding_dim: Width of the embedding; by default chosen from the number of categories.
    """

    kind: Literal["categorical"]
    column: str | None = None
    vocabulary: Vocabulary | None = None
    hash_buckets: Annotated[int, Field(ge=2, le=10_000_000)] | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    max_values: Annotated[int, Field(ge=1, le=1024)] = 16
    encode: Encoding = "embedding"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CategoricalFeature":
        if self.vocabulary is not None and self.hash_buckets is not None:
            raise ValueError("give at most one of `vocabulary` and `hash_buckets`")
        if self.encode == "multi_hot" and self.separator is None:
            raise ValueError("`encode: multi_hot` needs `separator`")
        if self.separator is not None and self.encode == "one_hot":
            raise ValueError("`separator` goes with `encode: multi_hot` or `embedding` (averaged)")
        return self


class DateFeature(Section):
    """Parts of a date: two numbers (sine, cosine) each when cyclical, else one-hot categories.

    Attributes:
        column: Raw string column of dates or date-times; by default the feature's name.
        format: How they are written: %Y, %m and %d, and %H, %M and %S where there is a time, as in
            "%d/%m/%Y"; null: ISO 8601, as 2024-12-31 or 2024-12-31T23:59. Data with other texts is refused;
            a served model takes them as missing.
        parts: Which parts to take.
        cyclical: Encode each part as sine and cosine of its place in its cycle.
    """

    kind: Literal["date"]
    column: str | None = None
    format: str | None = None
    parts: Annotated[tuple[DatePart, ...], Field(min_length=1)] = ("month", "day_of_week")
    cyclical: bool = True

    @field_validator("format")
    @classmethod
    def _format_is_one(cls, value: str | None) -> str | None:
        if value is not None:
            date_rewrite(value)
        return value


class CrossPart(Section):
    """A column inside a cross; a number is first cut at `bounds`."""

    column: str
    bounds: Annotated[tuple[float, ...], Field(min_length=1)]


class CrossFeature(Section):
    """Several columns taken together as one category.

    Attributes:
        of: Two or more columns; a numeric one either as it is (integers) or cut at bounds.
        vocabulary: Which combinations are categories of their own. Not with `hash_buckets`.
        hash_buckets: Hash every combination into this many categories.
        encode: How the model sees it.
        embedding_dim: Width of the embedding; by default chosen from the number of categories.
    """

    kind: Literal["cross"]
    of: Annotated[tuple[str | CrossPart, ...], Field(min_length=2)]
    vocabulary: Vocabulary | None = None
    hash_buckets: Annotated[int, Field(ge=2, le=10_000_000)] | None = None
    encode: Literal["embedding", "one_hot"] = "embedding"
    embedding_dim: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "CrossFeature":
        if self.vocabulary is not None and self.hash_buckets is not None:
            raise ValueError("give at most one of `vocabulary` and `hash_buckets`")
        return self


class ImageFeature(Section):
    """A picture, float32 `[height, width, channels]`.

    Attributes:
        column: Raw column of type `image` (JPEG or PNG), or `floats` (rows of pixels: row by row,
            channels last); by default the feature's own name.
        height: Pixels after resizing, >= 1.
        width: Pixels after resizing, >= 1.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: How a picture of other proportions is made to fit: `stretch`; `pad` (keep them, with 0 around);
            `crop` (keep them, cut off what is over, around the middle).
        antialias: Average over what a smaller pixel covers when shrinking.
        scale: `unit` (0 to 1), `signed` (-1 to 1), `zscore` (mean 0 and standard deviation 1 of each
            channel on the training split) or `none` (0 to 255).
        source_height: With a `floats` column: its rows of pixels; by default `height`.
        source_width: With a `floats` column: its pixels a row; by default `width`.
        max_value: With a `floats` column: the number that means white, > 0.
    """

    kind: Literal["image"]
    column: str | None = None
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3] = 3
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    antialias: bool = True
    scale: Literal["unit", "signed", "zscore", "none"] = "unit"
    source_height: Annotated[int, Field(ge=1, le=4096)] | None = None
    source_width: Annotated[int, Field(ge=1, le=4096)] | None = None
    max_value: Annotated[float, Field(gt=0)] = 255.0


class TextFeature(Section):
    """A text, as tokens that the model sees in order or as a bag.

    Attributes:
        column: Raw string column; by default the feature's own name.
        lowercase: Ignore case.
        strip_accents: Ignore accents, by Unicode decomposition.
        tokens: What a token is: `words` (runs of letters and digits, with apostrophes inside, and any other
            single character that is not space) or `characters` (a run of space counts as one blank).
        ngrams: [least, most] tokens joined to one; [1, 2] takes pairs of neighbours too, after all single
            tokens.
        vocabulary: Which tokens are categories of their own; the most frequent come first. For `tfidf` and
            `counts`, `min_count` and the order go by the number of rows that hold the token.
        output: `sequence` keeps the order; `tfidf` and `counts` weigh each distinct token of the text,
            `tfidf` by inverse document frequency with rows of length 1.
        max_length: Tokens kept, the first ones (of a bag: distinct ones), >= 1.
        embedding_dim: Width of a token's vector; by default chosen from the size of the vocabulary.
    """

    kind: Literal["text"]
    column: str | None = None
    lowercase: bool = True
    strip_accents: bool = False
    tokens: Literal["words", "characters"] = "words"
    ngrams: tuple[Annotated[int, Field(ge=1, le=8)], Annotated[int, Field(ge=1, le=8)]] = (1, 1)
    vocabulary: Vocabulary = Vocabulary(top_k=20_000, min_count=2)
    output: Literal["sequence", "tfidf", "counts"] = "sequence"
    max_length: Annotated[int, Field(ge=1, le=16_384)] = 64
    embedding_dim: Annotated[int, Field(ge=1, le=4096)] | None = None

    @model_validator(mode="after")
    def _ngrams_in_order(self) -> "TextFeature":
        if self.ngrams[0] > self.ngrams[1]:
            raise ValueError(f"`ngrams` must be [least, most]. Received: {list(self.ngrams)}")
        return self


class SeriesFeature(Section):
    """Numbers in order, float32 `[max_length, channels]`, with the length before padding.

    Attributes:
        of: Raw `floats` columns, one a channel, of one length in each row; by default the column of the
            feature's own name.
        max_length: Steps kept, >= 1; shorter series are padded with 0 after scaling.
        keep: Which steps of a longer series are kept.
        scale: `zscore`, `minmax` or `none`, for each channel over all steps of the training split.
            A step without a number becomes the channel's mean. A row is as long as its longest
            channel, up to the last number; shorter channels are filled up the same way.
    """

    kind: Literal["series"]
    of: tuple[str, ...] = ()
    max_length: Annotated[int, Field(ge=1, le=100_000)]
    keep: Literal["first", "last"] = "last"
    scale: Literal["zscore", "minmax", "none"] = "zscore"


Feature = Annotated[
    NumericFeature
    | CategoricalFeature
    | DateFeature
    | CrossFeature
    | ImageFeature
    | TextFeature
    | SeriesFeature,
    Field(discriminator="kind"),
]

FeaturesConfig = dict[str, Feature]
"""Feature name -> how it is made."""
