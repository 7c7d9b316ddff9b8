"""Test rows: the serialized examples of a split, batch by batch, and the columns inside them."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected

__all__ = [
    "BATCH_ROWS",
    "MISSING",
    "ExampleFiles",
    "Rows",
    "check_slices",
    "column_texts",
    "decode",
    "device_columns",
    "model_columns",
    "read_rows",
]

MISSING = "(missing)"
"""Text of a missing value in the key of a slice."""

BATCH_ROWS = 4096
"""Most rows decoded or predicted at once."""

_ARROW_TYPES = {
    "int": pa.int64(),
    "float": pa.float32(),
    "string": pa.large_string(),
    "floats": pa.large_list(pa.float32()),
    "image": pa.large_binary(),
}


@dataclass(frozen=True)
class ExampleFiles:
    """The gzip TFRecord files of one split; read anew each time, never held as a whole.

    Attributes:
        folder: Folder of the files.
        types: Raw column -> `int`, `float`, `string`, `floats` or `image`.
    """

    folder: str
    types: Mapping[str, str]

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[np.ndarray]:
        """Yield the records in the order of the files' names, at most `rows` at once.

        Yields:
            Object arrays `[<= rows]` of serialized `tf.Example`.
        """
        import tensorflow as tf

        files = sorted(glob.glob(os.path.join(glob.escape(self.folder), "*.gz")))
        dataset = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(rows)
        yield from dataset.as_numpy_iterator()

    def columns(self, names: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[dict[str, pa.Array]]:
        """Yield some columns, at most `rows` rows at once; see `decode`."""
        types = {name: self.types[name] for name in names}
        for batch in self.batches(rows):
            yield decode(batch, types)

    def pick(self, names: Sequence[str], rows: np.ndarray) -> dict[str, pa.Array]:
        """Return some columns of some rows.

        Args:
            names: Raw columns.
            rows: Row numbers, ascending.
        """
        parts: list[dict[str, pa.Array]] = []
        start = 0
        types = {name: self.types[name] for name in names}
        for batch in self.batches():
            inside = rows[(rows >= start) & (rows < start + len(batch))] - start
            if len(inside):
                parts.append(decode(batch[inside], types))
            start += len(batch)
        if not parts:
            return {name: pa.array([], _ARROW_TYPES[kind]) for name, kind in types.items()}
        return {name: pa.concat_arrays([part[name] for part in parts]) for name in names}


@dataclass(frozen=True)
class Rows:
    """One split, row by row in the order of its files.

    Attributes:
        files: Where the rows are.
        columns: Raw column -> Arrow array `[rows]`; null is missing. Those that were asked for.
        labels: Class index int64 `[rows]`; 0 or 1 int64 `[rows, K]` for multilabel; float64 `[rows]` for
            regression.
        weights: float64 `[rows]` >= 0, or None where the config names no weight column.
    """

    files: ExampleFiles
    columns: Mapping[str, pa.Array]
    labels: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)


def decode(serialized: np.ndarray, types: Mapping[str, str]) -> dict[str, pa.Array]:
    """Decode examples into one Arrow array a column.

    Args:
        serialized: Object array `[rows]` of serialized `tf.Example`.
        types: Raw column -> `int`, `float`, `string`, `floats` or `image`. A column that is in no example
            is all null.

    Returns:
        Column -> array `[rows]`: int64, float32, large_string, large_list of float32 or large_binary; the
        first value where an example holds several and the type is not `floats`.
    """
    from tfx_bsl.coders import example_coder

    batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch(serialized.tolist())
    return {name: _values(batch, name, _ARROW_TYPES[kind]) for name, kind in types.items()}


def _values(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """Return whole lists for a list type, else the first value of each row; null where there is none."""
    index = batch.schema.get_field_index(name)
    if index < 0 or pa.types.is_null(batch.schema.field(index).type):
        return pa.nulls(batch.num_rows, kind)
    lists = batch.column(index)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    if pa.types.is_large_list(kind):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        filled = pa.LargeListArray.from_arrays(pa.array(offsets), lists.flatten().cast(pa.float32()))
        return pc.if_else(pa.array(lengths > 0), filled, pa.nulls(len(filled), filled.type))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths
    return lists.flatten().take(pa.array(starts, pa.int64(), mask=lengths == 0)).cast(kind)


def read_rows(
    examples: str,
    split: str,
    ingest: Mapping[str, Any],
    data: DataConfig,
    columns: Sequence[str] | None = None,
) -> Rows:
    """Read a split with its labels and weights.

    Args:
        examples: Folder of the examples artifact.
        split: `train`, `eval` or `test`.
        ingest: Content of ingest.json.
        data: The `data` section.
        columns: Raw columns to hold in memory; None: all of them.

    Raises:
        DataRejected: If the split is empty, or a label is missing or not among the classes.
    """
    types = {column["name"]: column["type"] for column in ingest["columns"]}
    files = ExampleFiles(os.path.join(examples, f"Split-{split}"), types)
    wanted = list(types) if columns is None else [name for name in columns if name in types]
    held = list(dict.fromkeys([*wanted, data.label, *([data.weight] if data.weight else [])]))
    parts = list(files.columns(held))
    if not parts:
        raise DataRejected(f"the {split} split must hold rows. Received: 0 (data.split)")
    read = {name: pa.concat_arrays([part[name] for part in parts]) for name in held}
    labels = _labels(read[data.label], ingest["label"], split, data.label_separator)
    weights = None
    if data.weight is not None:
        weights = np.nan_to_num(read[data.weight].to_numpy(zero_copy_only=False).astype(np.float64))
    return Rows(files, {name: read[name] for name in wanted}, labels, weights)


def _labels(column: pa.Array, label: Mapping[str, Any], split: str, separator: str) -> np.ndarray:
    """Return labels as class indices, as 0 and 1 for multilabel, or as numbers for regression."""
    if label["task"] == "multilabel":
        return _label_sets(column, label, split, separator)
    if column.null_count:
        raise DataRejected(
            f"every row needs a label. Received: {column.null_count} rows without one "
            f"({split} split, column {label['name']})"
        )
    if label["task"] == "regression":
        return column.to_numpy(zero_copy_only=False).astype(np.float64)
    texts = _texts(column)
    return _indices(pa.array(texts, pa.large_string()), label, lambda place: f"row {place + 1} of {split}")


def _label_sets(column: pa.Array, label: Mapping[str, Any], split: str, separator: str) -> np.ndarray:
    """Return which labels each row has, int64 `[rows, K]`; an empty text has none."""
    parts = pc.split_pattern(pc.fill_null(column, ""), separator)
    rows = pc.list_parent_indices(parts).to_numpy(zero_copy_only=False)
    values = parts.flatten()
    named = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    rows = rows[named]
    found = _indices(values.filter(pa.array(named)), label, lambda place: f"row {rows[place] + 1} of {split}")
    sets = np.zeros((len(column), len(label["classes"])), np.int64)
    sets[rows, found] = 1
    return sets


def _indices(values: pa.Array, label: Mapping[str, Any], where: Callable[[int], str]) -> np.ndarray:
    """Return the class index of each text, int64; `where` names the place of one that is no class."""
    known = pa.array([str(name) for name in label["classes"]], pa.large_string())
    found = pc.index_in(values, value_set=known)
    if found.null_count:
        place = found.is_null().index(True).as_py()
        raise DataRejected(
            f"labels must be one of {', '.join(known.to_pylist())}. Received: {values[place].as_py()} "
            f"({where(place)}, column {label['name']})"
        )
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def check_slices(types: Mapping[str, str], names: Iterable[str]) -> None:
    """Check that slices can be made by some columns.

    Args:
        types: Raw column -> type.
        names: Columns of `evaluation.slices`.

    Raises:
        ConfigError: If a column is not among the examples, or holds lists or images.
    """
    for name in names:
        if name not in types:
            raise ConfigError(
                f"`evaluation.slices` must name columns of the examples: {', '.join(types)}. "
                f"Received: {name} (evaluation.slices)"
            )
        if types[name] in ("floats", "image"):
            raise ConfigError(
                "`evaluation.slices` must name columns with one number or text a row. "
                f"Received: {name}, of type {types[name]} (evaluation.slices)"
            )


def column_texts(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns as the text that slices are named by.

    Integers are decimal, floats the shortest text that gives the same float32, missing is `(missing)`.
    """
    return {name: _texts(columns[name]) for name in names}


def _texts(column: pa.Array) -> np.ndarray:
    """Return an object array `[rows]` of text."""
    distinct = column.dictionary_encode()
    values = distinct.dictionary
    if pa.types.is_floating(values.type):
        texts = [str(int(v)) if v == int(v) else str(v) for v in values.to_numpy(zero_copy_only=False)]
    else:
        texts = [str(value) for value in values.to_pylist()]
    codes = pc.fill_null(distinct.indices, len(texts)).to_numpy(zero_copy_only=False)
    return np.array([*texts, MISSING], object)[codes]


def model_columns(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns as the raw signature takes them.

    Returns:
        Column -> float32 `[rows]` with NaN where missing; object `[rows]` of text or bytes with "" where
        missing; for lists float32 `[rows, longest]`, NaN after the end.
    """
    out: dict[str, np.ndarray] = {}
    for name in names:
        column = columns[name]
        if pa.types.is_large_string(column.type):
            out[name] = np.array(pc.fill_null(column, "").to_pylist(), object)
        elif pa.types.is_large_binary(column.type):
            out[name] = np.array([*pc.fill_null(column, b"").to_pylist(), b""], object)[:-1]
        elif pa.types.is_large_list(column.type):
            out[name] = _padded(column)
        else:
            numbers = pc.fill_null(column.cast(pa.float64()), float("nan"))
            out[name] = numbers.to_numpy(zero_copy_only=False).astype(np.float32)
    return out


def _padded(column: pa.Array) -> np.ndarray:
    """Return lists of numbers as float32 `[rows, longest]` (at least 1 wide), NaN after the end."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    table = np.full((len(column), max(1, int(lengths.max(initial=0)))), np.nan, np.float32)
    table[np.arange(table.shape[1]) < lengths[:, None]] = column.flatten().to_numpy(zero_copy_only=False)
    return table


def device_columns(columns: Mapping[str, pa.Array], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return columns as the numpy sidecar takes them: exact integers, lists, bytes; None or NaN: missing."""
    return {
        name: columns[name].to_numpy(zero_copy_only=False)  # nulls become NaN
        if pa.types.is_floating(columns[name].type)
        else columns[name].to_pylist()
        for name in names
    }
