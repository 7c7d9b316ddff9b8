"""The tf.Transform graph of a feature spec.

Every analyzer sees raw values, never the result of another, so that one pass over the training split
fits everything: statistics "after impute" follow from those of the values that are present, the share
that is missing, and the imputed value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from headrace.serving.preprocessing import JOINER

from .dates import date_tables, parse_dates
from .integers import whole_numbers
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
    Tokens,
)
from .pictures import build_picture
from .texts import build_bag, distinct, first_tokens, lay_out, split_tokens
from .timeseries import build_series
from .vocabularies import look_up, look_up_weighed

__all__ = [
    "Column",
    "LabelPlan",
    "build_preprocessing_fn",
    "dense_column",
    "label_outputs",
    "statistics_name",
]

_MEDIAN_ERROR = 1e-4  # of rank, as a share of the rows
_CONSTANT = 1e-7  # a spread below this share of the mean is rounding, not a spread


@dataclass(frozen=True)
class LabelPlan:
    """The label and weight columns.

    Attributes:
        name: Raw column of the label.
        classes: Label texts in output order; None for regression.
        weight: Raw column of the weight, if any.
        separator: What stands between several labels in one text; None where a row has one label.
    """

    name: str
    classes: tuple[str, ...] | None
    weight: str | None
    separator: str | None = None


@dataclass(frozen=True)
class Column:
    """A raw column, dense.

    Attributes:
        values: `[rows]`, int64, float32 or string; 0 or "" where missing.
        present: bool `[rows]`.
        sparse: SparseTensor `[rows, values]`: all that the column holds.
    """

    values: Any
    present: Any
    sparse: Any

    def steps(self) -> Any:
        """Return a column of lists, float32 `[rows, steps]`, NaN where there is no number; steps >= 1."""
        return tf.sparse.to_dense(_widened(self.sparse), float("nan"))


def build_preprocessing_fn(
    outputs: Sequence[Output], label: LabelPlan
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the preprocessing_fn of a planned feature spec, for tf.Transform.

    Args:
        outputs: The planned model inputs.
        label: The label and weight.

    Returns:
        A function from raw column -> SparseTensor `[rows, values]` to the outputs, `label` and `weight`.
    """

    def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, Any]:
        columns = {name: dense_column(sparse) for name, sparse in inputs.items()}
        tensors: dict[str, Any] = {}
        for index, output in enumerate(outputs):
            if not isinstance(output, BagWeights | SeriesLength):  # those come with what they are of
                tensors |= _build(output, columns, index)
        return tensors | label_outputs(columns, label)

    return preprocessing_fn


def dense_column(sparse: Any) -> Column:
    """Take the first value of each row; absent, NaN and "" are missing.

    Args:
        sparse: SparseTensor `[rows, values]`.
    """
    widened = _widened(sparse)
    default = "" if sparse.dtype == tf.string else tf.zeros([], sparse.dtype)
    values = tf.sparse.to_dense(widened, default)[:, 0]
    if sparse.dtype == tf.string:
        return Column(values, tf.not_equal(values, ""), sparse)
    ones = tf.ones_like(sparse.values, tf.int8)
    present = tf.sparse.to_dense(widened.with_values(ones))[:, 0] > 0
    if sparse.dtype.is_floating:
        present &= tf.logical_not(tf.math.is_nan(values))
        values = tf.where(present, values, tf.zeros_like(values))
    return Column(values, present, sparse)


def _widened(sparse: Any) -> Any:
    """Return `sparse` with room for at least one value a row."""
    shape = tf.stack([sparse.dense_shape[0], tf.maximum(sparse.dense_shape[1], 1)])
    return tf.SparseTensor(sparse.indices, sparse.values, shape)


def label_outputs(columns: Mapping[str, Column], label: LabelPlan) -> dict[str, Any]:
    """Return `label` and, if there is one, `weight`.

    Both are `[rows, 1]`; the label is an int64 class index or, of a number, float32. Several labels are
    int64 0 or 1 `[rows, classes]`.
    """
    column = columns[label.name]
    if label.separator is not None:
        found = {"label": _several_labels(column.values, label)}
        if label.weight is not None:
            found["weight"] = tf.reshape(tf.cast(columns[label.weight].values, tf.float32), [-1, 1])
        return found
    if label.classes is None:
        found = {"label": tf.cast(column.values, tf.float32)}
    else:
        matches = column.values[:, tf.newaxis] == tf.constant(label.classes)  # [rows, classes]
        index = tf.argmax(tf.cast(matches, tf.int8), axis=1)
        found = {"label": tf.where(tf.reduce_any(matches, axis=1), index, -tf.ones_like(index))}
    if label.weight is not None:
        found["weight"] = tf.cast(columns[label.weight].values, tf.float32)
    return {name: tf.reshape(tensor, [-1, 1]) for name, tensor in found.items()}


def _several_labels(texts: Any, label: LabelPlan) -> Any:
    classes = tf.constant(label.classes)
    pieces = tf.strings.split(texts, label.separator).to_tensor("")  # [rows, labels]
    matches = tf.reduce_any(pieces[:, :, tf.newaxis] == classes, axis=1)
    return tf.ensure_shape(tf.cast(matches, tf.int64), [None, len(label.classes or ())])


def statistics_name(index: int) -> str:
    """Return the name of the operation that holds the fitted numbers of output `index`.

    tf.Transform's own way, annotations of the schema, is not compiled into its public builds.
    """
    return f"headrace_statistics_{index}"


def _build(output: Output, columns: Mapping[str, Column], index: int) -> dict[str, Any]:
    """Return the tensor of one output, and of its companion if it has one.

    Each is `[rows, width]`, float32 or int64.
    """
    fitted = statistics_name(index)
    if isinstance(output, Series):
        channels = [columns[name].steps() for name in output.columns]
        series, length = build_series(output, channels, fitted)
        return {output.name: series, f"{output.name}_length": length}
    if isinstance(output, Bag):
        bag, weights = _build_bag(output, columns[output.column], index)
        return {output.name: bag, f"{output.name}_weights": weights}
    if isinstance(output, Picture):
        tensor = build_picture(output, columns[output.column], fitted)
    elif isinstance(output, Tokens):
        tensor = _build_tokens(output, columns[output.column], index)
    elif isinstance(output, Categories):
        tensor = _build_categories(output, columns, index)
    elif isinstance(output, DateCycle):
        parts = parse_dates(columns[output.column].values, output.format)
        tensor = tf.gather(tf.constant(date_tables()[output.part]), parts[output.part])
    else:
        tensor = tf.reshape(_build_single(output, columns, index), [-1, 1])
    return {output.name: tensor}


def _build_single(output: Output, columns: Mapping[str, Column], index: int) -> Any:
    """Return an output of width 1, `[rows]`."""
    if isinstance(output, Number):
        return _build_number(output, columns[output.column], index)
    if isinstance(output, MissingFlag):
        return tf.cast(tf.logical_not(columns[output.column].present), tf.float32)
    if isinstance(output, Bucketed):
        return _build_buckets(output, columns[output.column], index)
    if isinstance(output, DateCategory):
        return parse_dates(columns[output.column].values, output.format)[output.part]
    assert isinstance(output, Category)
    return _build_category(output, columns, index)


def _build_number(output: Number, column: Column, index: int) -> Any:
    values = tf.cast(column.values, tf.float32)
    present = tf.boolean_mask(values, column.present)
    impute = _impute(output, present)
    shaped = _shape(present, output.log, output.clip)
    subtract, divide = _scale(output.scale, shaped, _shape(impute, output.log, output.clip), column.present)
    fitted = tf.identity(tf.stack([impute, subtract, divide]), statistics_name(index))
    impute, subtract, divide = tf.unstack(fitted, 3)
    filled = tf.where(column.present, values, impute)
    return (_shape(filled, output.log, output.clip) - subtract) / divide


def _build_buckets(output: Bucketed, column: Column, index: int) -> Any:
    shaped = _shape(tf.cast(column.values, tf.float32), output.log, output.clip)
    if output.quantiles is None:
        bounds = tf.constant(output.bounds, tf.float32)
    else:
        present = tf.boolean_mask(shaped, column.present)
        error = min(1e-3, 0.1 / output.quantiles)
        bounds = tf.sort(tf.reshape(tft.quantiles(present, output.quantiles, epsilon=error), [-1]))
    bounds = tf.identity(bounds, statistics_name(index))
    missing = tf.cast(tf.size(bounds), tf.int64) + 1
    return tf.where(column.present, _cut(shaped, bounds), missing)


def _build_category(output: Category, columns: Mapping[str, Column], index: int) -> Any:
    if len(output.parts) == 1:
        text = _part_text(output.parts[0], columns)
    else:
        text = tf.strings.join([_part_text(part, columns) for part in output.parts], JOINER)
    present = columns[output.parts[0].column].present
    for part in output.parts[1:]:
        present |= columns[part.column].present
    category = look_up(text, tf.boolean_mask(text, present), output, index)
    return tf.where(present, category, tf.zeros_like(category))


def _build_categories(output: Categories, columns: Mapping[str, Column], index: int) -> Any:
    pieces = tf.strings.split(columns[output.column].values, output.separator)
    pieces = tf.ragged.boolean_mask(pieces, tf.not_equal(pieces, ""))[:, : output.width]
    category = pieces.with_flat_values(look_up(pieces.flat_values, pieces.flat_values, output, index))
    padded = category.to_tensor(default_value=-1, shape=[None, output.width])  # [rows, width]
    empty = tf.constant([0] + [-1] * (output.width - 1), tf.int64)
    return tf.where(pieces.row_lengths()[:, tf.newaxis] > 0, padded, empty)


def _build_tokens(output: Tokens, column: Column, index: int) -> Any:
    tokens = split_tokens(column.values, output.tokenizer)
    kept, owners = first_tokens(tokens, output.width)
    return lay_out(look_up(kept, tokens.flat_values, output, index), owners, tokens.nrows(), output.width)


def _build_bag(output: Bag, column: Column, index: int) -> tuple[Any, Any]:
    tokens = split_tokens(column.values, output.tokenizer)
    if output.weigh == "counts":
        found, weigh = look_up(tokens.flat_values, distinct(tokens), output, index), None
    else:
        rows = tft.sum(tf.ones_like(column.present, tf.int64))
        rows = tf.identity(tf.cast(rows, tf.float64), statistics_name(index))
        found, weigh = look_up_weighed(tokens.flat_values, distinct(tokens), rows, output, index)
    return build_bag(tokens.with_flat_values(found), output.width, weigh)


def _part_text(part: Part, columns: Mapping[str, Column]) -> Any:
    """Return the text of a category's part, "" where missing."""
    column = columns[part.column]
    if column.values.dtype == tf.string:
        return column.values
    values = column.values
    numbers = tf.cast(values, tf.float32)
    # Rounded as `serving_raw` receives them: a code names the same category however a row arrives.
    values = _cut(numbers, tf.constant(part.bounds, tf.float32)) if part.bounds else whole_numbers(numbers)
    text = tf.strings.as_string(values)
    return tf.where(column.present, text, tf.zeros_like(text))


def _impute(output: Number, present: Any) -> Any:
    """Return what a missing value becomes, float32 `[]`."""
    if output.impute == "mean":
        return tf.cast(tft.mean(tf.cast(present, tf.float64)), tf.float32)
    if output.impute == "median":
        return tf.reshape(tft.quantiles(present, 2, epsilon=_MEDIAN_ERROR), [])
    return tf.constant(output.impute, tf.float32)


def _scale(scale: str, present: Any, impute: Any, mask: Any) -> tuple[Any, Any]:
    """Return what to subtract and what to divide by, float32 `[]` each.

    Args:
        scale: `zscore`, `minmax` or `none`.
        present: float32 `[m]`, the values that are present, after log and clip.
        impute: float32 `[]`, the imputed value after log and clip.
        mask: bool `[rows]`, which rows have a value.
    """
    if scale == "none":
        return tf.constant(0.0), tf.constant(1.0)
    missing = tf.cast(tft.sum(tf.cast(tf.logical_not(mask), tf.int64)), tf.float64)
    if scale == "minmax":
        low, high = tft.min(present), tft.max(present)
        low = tf.where(missing > 0, tf.minimum(low, impute), low)
        high = tf.where(missing > 0, tf.maximum(high, impute), high)
        return low, tf.where(high > low, high - low, tf.ones_like(high))
    rows = tf.cast(tft.sum(tf.cast(mask, tf.int64)), tf.float64)
    present, impute = tf.cast(present, tf.float64), tf.cast(impute, tf.float64)
    mean_present, var_present = tft.mean(present), tft.var(present)
    mean = (rows * mean_present + missing * impute) / (rows + missing)
    # The variance of the two groups together: within each, and of their means around the common one.
    within = rows * (var_present + (mean_present - mean) ** 2)
    std = tf.sqrt((within + missing * (impute - mean) ** 2) / (rows + missing))
    varies = (std > _CONSTANT * tf.abs(mean)) & (std > float(np.finfo(np.float32).tiny))
    return tf.cast(mean, tf.float32), tf.cast(tf.where(varies, std, tf.ones_like(std)), tf.float32)


def _shape(values: Any, log: bool, clip: tuple[float, float] | None) -> Any:
    """Apply log and clip, float32 in and out."""
    if log:
        # In float64, so that rounding to float32 hides how a library computes the logarithm.
        values = tf.cast(tf.math.log1p(tf.maximum(tf.cast(values, tf.float64), 0.0)), tf.float32)
    if clip is not None:
        values = tf.clip_by_value(values, np.float32(clip[0]), np.float32(clip[1]))
    return values


def _cut(values: Any, bounds: Any) -> Any:
    """Return how many of `bounds` each value has reached, int64."""
    return tf.searchsorted(bounds, values, side="right", out_type=tf.int64)
