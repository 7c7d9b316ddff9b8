"""The model inputs that a feature spec can ask for, as plain data."""

from dataclasses import dataclass

from .config import Vocabulary

__all__ = [
    "Bag",
    "BagWeights",
    "Bucketed",
    "Categories",
    "Category",
    "DateCategory",
    "DateCycle",
    "MissingFlag",
    "Number",
    "Output",
    "Part",
    "Picture",
    "Series",
    "SeriesLength",
    "Tokenizer",
    "Tokens",
]


@dataclass(frozen=True)
class Number:
    """A number: impute -> log -> clip -> scale. Dense, width 1."""

    name: str
    source: str
    column: str
    impute: str | float
    log: bool
    clip: tuple[float, float] | None
    scale: str


@dataclass(frozen=True)
class MissingFlag:
    """1 where the column has no value, else 0. Dense, width 1."""

    name: str
    source: str
    column: str


@dataclass(frozen=True)
class Bucketed:
    """The range that a number falls in: log -> clip -> cut. Missing is the last category."""

    name: str
    source: str
    column: str
    log: bool
    clip: tuple[float, float] | None
    quantiles: int | None
    bounds: tuple[float, ...]
    encode: str
    embedding_dim: int | None


@dataclass(frozen=True)
class Part:
    """A column that a category is made of, cut at `bounds` if there are any."""

    column: str
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Category:
    """One category, of one column or of a cross: 0 missing, then hash buckets, then the vocabulary."""

    name: str
    source: str
    parts: tuple[Part, ...]
    vocabulary: Vocabulary | None
    buckets: int
    encode: str
    embedding_dim: int | None


@dataclass(frozen=True)
class Categories:
    """Several categories a row: text split at `separator`, at most `width`, padded with -1."""

    name: str
    source: str
    column: str
    separator: str
    width: int
    vocabulary: Vocabulary | None
    buckets: int
    encode: str
    embedding_dim: int | None


@dataclass(frozen=True)
class DateCycle:
    """Sine and cosine of a part's place in its cycle; (0, 0) where missing. Dense, width 2."""

    name: str
    source: str
    column: str
    part: str
    format: str | None = None


@dataclass(frozen=True)
class DateCategory:
    """A part of a date as a category; 0 where missing."""

    name: str
    source: str
    column: str
    part: str
    format: str | None = None


@dataclass(frozen=True)
class Picture:
    """A picture, float32 `[height, width, channels]`: decode or unpack -> resize -> scale; 0 where missing.

    Attributes:
        pixels: Rows and columns of the picture in a `floats` column; None where the column holds files.
        max_value: The number that means white in a `floats` column.
    """

    name: str
    source: str
    column: str
    height: int
    width: int
    channels: int
    fit: str
    antialias: bool
    scale: str
    pixels: tuple[int, int] | None
    max_value: float


@dataclass(frozen=True)
class Tokenizer:
    """How a text is cut into tokens."""

    lowercase: bool
    strip_accents: bool
    tokens: str
    ngrams: tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """The first `width` tokens of a text in order, padded with 0."""

    name: str
    source: str
    column: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    width: int
    embedding_dim: int | None

    @property
    def buckets(self) -> int:
        """Hash buckets of tokens that are not in the vocabulary."""
        return self.vocabulary.oov_buckets


@dataclass(frozen=True)
class Bag:
    """The first `width` distinct tokens of a text, padded with -1."""

    name: str
    source: str
    column: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    weigh: str
    width: int
    embedding_dim: int | None

    @property
    def buckets(self) -> int:
        """Hash buckets of tokens that are not in the vocabulary."""
        return self.vocabulary.oov_buckets


@dataclass(frozen=True)
class BagWeights:
    """The weight of each token of a bag: counts, or TF-IDF of length 1. Dense, as wide as the bag."""

    name: str
    source: str
    column: str
    of: str
    width: int


@dataclass(frozen=True)
class Series:
    """Numbers in order, float32 `[length, channels]`: fill -> scale -> cut or pad with 0."""

    name: str
    source: str
    columns: tuple[str, ...]
    length: int
    keep: str
    scale: str


@dataclass(frozen=True)
class SeriesLength:
    """Steps of a series before padding, at most its length; 0 where missing."""

    name: str
    source: str
    columns: tuple[str, ...]
    of: str


Output = (
    Number
    | MissingFlag
    | Bucketed
    | Category
    | Categories
    | DateCycle
    | DateCategory
    | Picture
    | Tokens
    | Bag
    | BagWeights
    | Series
    | SeriesLength
)
"""One tensor that the model receives."""
