"""The `data` section: where the rows are, what the columns are, and how they are split."""

import datetime
import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .local_path import LocalPath
from .section import Section

__all__ = [
    "ColumnSplit",
    "CsvOptions",
    "DataConfig",
    "HashSplit",
    "RawType",
    "Split",
    "Task",
    "TimeSplit",
    "Windows",
]

RawType = Literal["int", "float", "string", "floats", "image"]
"""Type of a raw column. Missing is null in files, NaN in float32 tensors, "" in string tensors.

`floats` is a list of numbers, whose length may differ from row to row; `image` the bytes of a JPEG or PNG
file (in delimited text: its path, relative to the text file).
"""

Task = Literal["binary", "multiclass", "multilabel", "regression"]

SPLITS = ("train", "eval", "test")


class CsvOptions(Section):
    """How to read delimited text (RFC 4180 quoting).

    Attributes:
        delimiter: Character between values; files that end in .tsv use a tab.
        encoding: Encoding of the text, by its Python name.
        null_values: Texts that mean a missing value.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("", "NA", "NaN", "nan", "null", "NULL")

    def nulls_with(self, texts: Iterable[str]) -> str:
        """Return what to write so that `texts` mean missing too: a list in the file replaces the default."""
        wanted = dict.fromkeys((*self.null_values, *texts))
        listed = ", ".join(json.dumps(text, ensure_ascii=not text.isprintable()) for text in wanted)
        return f"`data.csv.null_values: [{listed}]` (the list replaces the default one)"


class HashSplit(Section):
    """Assign each row by a hash of key columns, so that a row keeps its split when others come.

    Values are hashed in a canonical form (1, 1.0 and the text "1" are one), whatever features read them as.
    Under 1,000 rows, and for classes of fewer than 30 rows, splits are cut by the rank of the hashes, so that
    shares come out as asked and rare classes reach every split; such rows may move when rows are appended.

    Attributes:
        key: Columns whose values are hashed, in any order; never the label or the weight. Empty: all other
            columns of the files (of TFRecord those that features read, of `format: images` the picture).
        equal_keys: What becomes of rows whose keys are equal. `spread`: they are numbered in the order of
            the files and dealt out one by one, as draws from a few answers are. `together`: they share a
            split, as the visits of one patient must. Default: `together` where `key` is named, else
            `spread`.
        seed: Of the hash, >= 0; another one deals the rows anew. Not the run's `seed`.
        train: Share of rows for training, in (0, 1).
        eval: Share for model selection, thresholds and early stopping, in (0, 1).
        test: Share that gates and reports are judged on, in (0, 1). The three sum to 1.
    """

    method: Literal["hash"] = "hash"
    key: tuple[str, ...] = ()
    equal_keys: Literal["spread", "together"] = "spread"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    train: Annotated[float, Field(gt=0, lt=1)] = 0.8
    eval: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="before")
    @classmethod
    def _named_keys_stay_together(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("key") and "equal_keys" not in value:
            return {**value, "equal_keys": "together"}
        return value

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the splits, in the order of `SPLITS`."""
        return self.train, self.eval, self.test

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> "HashSplit":
        total = self.train + self.eval + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"`train`, `eval` and `test` must sum to 1. Received: {total:g}")
        return self


class ColumnSplit(Section):
    """Assign each row by the value of a column. Rows with other values are an error.

    Attributes:
        column: Column that tells the split.
        train: Values that mean training.
        eval: Values that mean model selection.
        test: Values that mean the test split.
    """

    method: Literal["column"] = "column"
    column: str
    train: tuple[str, ...] = ("train",)
    eval: tuple[str, ...] = ("eval",)
    test: tuple[str, ...] = ("test",)


class TimeSplit(Section):
    """Assign each row by time: train before `eval_from`, test from `test_from` on.

    Attributes:
        column: A column of ISO 8601 dates or date-times (sorts as text), or of numbers.
        eval_from: First time of the eval split, inclusive.
        test_from: First time of the test split, inclusive; after `eval_from`.
    """

    method: Literal["time"] = "time"
    column: str
    eval_from: str | int | float
    test_from: str | int | float

    @field_validator("eval_from", "test_from", mode="before")
    @classmethod
    def _dates_as_text(cls, value: object) -> object:
        # YAML reads an unquoted 2026-01-31 as a date.
        return value.isoformat() if isinstance(value, datetime.date) else value

    @model_validator(mode="after")
    def _in_order(self) -> "TimeSplit":
        if isinstance(self.eval_from, str) != isinstance(self.test_from, str):
            raise ValueError("`eval_from` and `test_from` must both be dates or both be numbers")
        if not self.eval_from < self.test_from:  # type: ignore[operator]
            raise ValueError(
                f"`eval_from` must be before `test_from`. Received: {self.eval_from} and {self.test_from}"
            )
        return self


Split = Annotated[HashSplit | ColumnSplit | TimeSplit, Field(discriminator="method")]


class Windows(Section):
    """Cut long series into windows: one row a window, its columns lists of the last `length` values.

    A row belongs to the split that the time of its label falls in, so no label of a later split is ever
    trained on; the values before it may reach back into an earlier split, as they would in use. A window
    whose label is missing is left out. A split by a hash of `group` columns keeps each series whole. The
    rows of one series are in memory at a time, so without `group` all rows are.

    Attributes:
        order: Column that orders the rows of a series: numbers, or ISO 8601 dates.
        columns: Columns that become lists of `length` numbers, under their own names; or a mapping of
            new names to them, as `{recent: sales}` where `sales` itself is the label. Other columns that
            features read are those of a window's last row.
        length: Rows a window, >= 1.
        horizon: Rows from a window's last row to the one whose label it gets, >= 0.
        stride: Rows from one window to the next, >= 1.
        group: Columns that tell series apart; empty: one series. No window spans two series.
    """

    order: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | Annotated[dict[str, str], Field(min_length=1)]
    length: Annotated[int, Field(ge=1, le=100_000)]
    horizon: Annotated[int, Field(ge=0)] = 1
    stride: Annotated[int, Field(ge=1)] = 1
    group: tuple[str, ...] = ()

    @property
    def sources(self) -> dict[str, str]:
        """Name of each list -> the column that it is made of."""
        return self.columns if isinstance(self.columns, dict) else {name: name for name in self.columns}


class DataConfig(Section):
    """Rows, columns and splits.

    Attributes:
        path: A file, a folder or a glob; relative paths start at the config file's folder. Of a path with
            {YYYY}, {MM} and {DD}, or with {SPAN}, the newest is taken; with a {VERSION} its newest version.
        format: File format; `auto` decides by extension (.csv, .tsv, .csv.gz, .parquet, .tfrecord,
            .tfrecord.gz). `images`: `path` is a folder with a folder of JPEG and PNG files for each
            class; its columns are `image`, `path` (below that folder) and the label.
        csv: Options for delimited text.
        columns: Declared types of raw columns. A column that is not declared is what its features
            need: `float` where only numbers are read from it, `image` or `floats` for features of
            kind image and series, and `string` otherwise.
        pack: Name of a new `floats` column -> the numeric columns that it is made of, in order; a
            range is written as `pixel_{0..783}`.
        windows: Cut long series into windows.
        label: Name of the label column.
        task: What is predicted. `binary` wants two label values, `multilabel` any number of values
            in one text (or none), `regression` a number.
        label_separator: With `multilabel`: the text between values, as in "drama|crime".
        max_corrupt_share: Largest share of images that cannot be decoded, in [0, 1]. They are left
            out and listed by name; more of them fail the data gate.
        classes: Label values in output order, as text. Empty: found during ingest, sorted
            (as numbers where all are numbers). For `binary` the last one is the positive class.
        weight: Name of a column of example weights (>= 0), used in training, metrics and gates.
        split: How rows are divided.
        shards: TFRecord files per split, >= 1.
    """

    path: LocalPath
    format: Literal["auto", "csv", "parquet", "tfrecord", "images"] = "auto"
    csv: CsvOptions = CsvOptions()
    columns: dict[str, RawType] = {}  # noqa: RUF012 - pydantic copies it
    pack: dict[str, str | tuple[str, ...]] = {}  # noqa: RUF012 - pydantic copies it
    windows: Windows | None = None
    label: str
    task: Task = "binary"
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    max_corrupt_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    classes: tuple[str, ...] = ()
    weight: str | None = None
    split: Split = HashSplit()
    shards: Annotated[int, Field(ge=1, le=1024)] = 4

    @model_validator(mode="after")
    def _key_is_known_beforehand(self) -> "DataConfig":
        # A row to predict has no label yet; and rows that differ in it alone must not part by it.
        for name, role in ((self.label, "label"), (self.weight, "weight")):
            if isinstance(self.split, HashSplit) and name in self.split.key:
                raise ValueError(
                    f"`split.key` must not hold the {role}. Received: column {name!r}; take it out of "
                    "`data.split.key`"
                )
        return self

    @model_validator(mode="after")
    def _windows_fit_split(self) -> "DataConfig":
        # Windows share rows, so that dealing them out one by one would show training the test rows.
        if self.windows is not None and isinstance(self.split, HashSplit):
            key = self.split.key
            if not key or not {*key} <= {*self.windows.group}:
                raise ValueError(
                    "with `windows` the split must be by time, by a column, or by a hash of columns in "
                    f"`windows.group`. Received: a hash split with key {list(key)}"
                )
            if self.split.equal_keys != "together":
                raise ValueError(
                    "with `windows` a hash split must have `equal_keys: together`: windows of a series share "
                    f"rows. Received: {self.split.equal_keys} (`data.split`)"
                )
        return self

    @field_validator("split", mode="before")
    @classmethod
    def _split_method(cls, value: object) -> object:
        # What a split names tells its method, where that is not said.
        if isinstance(value, dict) and "method" not in value:
            times = {"eval_from", "test_from"} & value.keys()
            return {"method": "time" if times else "column" if "column" in value else "hash", **value}
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_as_text(cls, value: object) -> object:
        # YAML reads 0 and 1 as numbers; label values are compared as text.
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _classes_fit_task(self) -> "DataConfig":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"`classes` must differ. Received: {list(self.classes)}")
        if self.classes and self.task == "regression":
            raise ValueError("`classes` must be empty for `task: regression`")
        if len(self.classes) == 1 or (self.task == "binary" and len(self.classes) > 2):
            wanted = "two values" if self.task == "binary" else "at least two values"
            raise ValueError(f"`classes` must be empty or hold {wanted}. Received: {list(self.classes)}")
        return self
