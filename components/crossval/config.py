"""The `cross_validation` section: how the rows are cut into folds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headrace.data.config import DataConfig, TimeSplit
from headrace.data.errors import ConfigError
from headrace.data.section import Section

__all__ = ["CrossValidationConfig", "extra_columns", "order_column"]


class CrossValidationConfig(Section):
    """Train and judge the chosen settings on several cuts of the rows, to see how much they vary.

    The test split is never touched, and no fold's model is pushed. Each fold fits the feature transform on
    its own training rows alone.

    Attributes:
        enabled: Whether to cross-validate at all; every fold costs a transform and a training.
        method: `kfold` cuts at random; `stratified` keeps the share of every label value (regression: its
            distribution); `grouped` keeps rows of equal `group` together; `time` trains on all rows before
            those that it judges (expanding window).
        folds: Parts to judge on, 2 to 100.
        repeats: Times to cut anew, each with a seed of its own; 1 for `time`.
        group: Columns that tell groups apart, for `grouped`. A missing value counts as a value.
        order: Column that orders the rows, for `time`: ISO 8601 dates, or numbers where `data.columns`
            declares it as `int` or `float`. null: the column of a time split.
        splits: Splits whose rows are used.
        eval_share: Share of a fold's training rows, in (0, 0.5], that chooses the epoch and stops the
            training, cut off by the same method (`time`: the latest); the judged rows play no part in it.
        epochs: Most epochs of each training; null: `training.epochs`.
    """

    enabled: bool = False
    method: Literal["kfold", "stratified", "grouped", "time"] = "kfold"
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    group: tuple[str, ...] = ()
    order: str | None = None
    splits: Annotated[tuple[Literal["train", "eval"], ...], Field(min_length=1)] = ("train", "eval")
    eval_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    epochs: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _fits_method(self) -> "CrossValidationConfig":
        if (self.method == "grouped") != bool(self.group):
            raise ValueError(
                "`group` must name columns for `method: grouped`, and for no other. "
                f"Received: {list(self.group)} with {self.method}"
            )
        if self.order is not None and self.method != "time":
            raise ValueError(f"`order` is for `method: time`. Received: {self.order} with {self.method}")
        if self.repeats > 1 and self.method == "time":
            raise ValueError(
                f"`repeats` must be 1 for `method: time`, whose cuts are fixed. Received: {self.repeats}"
            )
        if len(set(self.splits)) != len(self.splits):
            raise ValueError(f"`splits` must differ. Received: {list(self.splits)}")
        return self


def order_column(config: CrossValidationConfig, data: DataConfig) -> str:
    """Return the column that `method: time` orders rows by, "" for other methods.

    Raises:
        ConfigError: If none is named and the split is not by time.
    """
    if config.method != "time":
        return ""
    if config.order is not None:
        return config.order
    if not isinstance(data.split, TimeSplit):
        raise ConfigError(
            "`cross_validation.order` must name a column for `method: time`, unless `data.split` is by time. "
            f"Received: null with a split by {data.split.method}"
        )
    return data.split.column


def extra_columns(config: CrossValidationConfig, data: DataConfig) -> tuple[str, ...]:
    """Return the raw columns that folds are cut by: the ingest must keep them.

    Raises:
        ConfigError: If the label is among them, or nothing tells what orders the rows.
    """
    if not config.enabled:
        return ()
    names = tuple(name for name in (*config.group, order_column(config, data)) if name)
    if data.label in names:
        raise ConfigError(
            f"rows must not be cut by the label. Received: {data.label} (cross_validation)",
            "for equal shares of its values in every fold, set `method: stratified`",
        )
    return names
