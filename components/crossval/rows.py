"""The rows that folds are cut from, and a fold written as the ingest node would have written it."""

import contextlib
import copy
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.components.evaluation.rows import ExampleFiles, column_texts
from headrace.components.ingest.tfrecord import frame_records
from headrace.data.config import DataConfig
from headrace.data.errors import DataRejected

from .config import CrossValidationConfig, order_column
from .folds import Fold

__all__ = ["Source", "fold_keys", "read_source", "write_fold"]

_GZIP = 31  # zlib's window bits for a gzip header
_ISO_DATE = re.compile(r"[+-]?\d{4,}-\d\d")


@dataclass(frozen=True)
class Source:
    """Ingested rows of one or more splits. They stay in their files; known here is what folds are cut by.

    Attributes:
        ingest: Content of ingest.json.
        files: The splits, in the order in which their rows follow each other.
        columns: Raw column -> Arrow array `[rows]`, null where missing; only what the method looks at.
        missing: Raw column -> whether the row has no value, bool `[rows]`.
        rows: Number of rows.
    """

    ingest: Mapping[str, Any]
    files: Sequence[ExampleFiles]
    columns: Mapping[str, pa.Array]
    missing: Mapping[str, np.ndarray]
    rows: int


def read_source(examples: str, config: CrossValidationConfig, data: DataConfig) -> Source:
    """Read the cached examples of `config.splits`; the source of the data is not read again.

    Args:
        examples: Folder of the examples artifact.
        config: Which splits, and what they are cut by.
        data: The `data` section.
    """
    with open(os.path.join(examples, "ingest.json"), encoding="utf-8") as stream:
        ingest = json.load(stream)
    types = {column["name"]: column["type"] for column in ingest["columns"]}
    files = [ExampleFiles(os.path.join(examples, f"Split-{split}"), types) for split in config.splits]
    wanted = _cut_by(config, data)
    kept: dict[str, list[pa.Array]] = {name: [] for name in wanted}
    missing: dict[str, list[np.ndarray]] = {name: [] for name in types}
    for part in files:
        for columns in part.columns(list(types)):
            for name, column in columns.items():
                missing[name].append(column.is_null().to_numpy(zero_copy_only=False))
            for name in wanted:
                kept[name].append(columns[name])
    masks = {name: np.concatenate(parts) for name, parts in missing.items()}
    rows = len(next(iter(masks.values())))
    return Source(ingest, files, {name: pa.concat_arrays(parts) for name, parts in kept.items()}, masks, rows)


def _cut_by(config: CrossValidationConfig, data: DataConfig) -> tuple[str, ...]:
    """Return the columns that the method looks at."""
    return {
        "kfold": (),
        "stratified": (data.label,),
        "grouped": config.group,
        "time": (order_column(config, data),),
    }[config.method]


def fold_keys(source: Source, config: CrossValidationConfig, data: DataConfig) -> np.ndarray:
    """Return what the method cuts by, one a row: label values, group codes or times.

    Raises:
        DataRejected: If a row has no time, or its time has no order.
    """
    if config.method == "stratified":
        label = source.columns[data.label]
        if data.task == "regression":
            return np.nan_to_num(label.to_numpy(zero_copy_only=False).astype(np.float64))
        return column_texts(source.columns, [data.label])[data.label].astype(str)
    if config.method == "grouped":
        texts = column_texts(source.columns, list(config.group))
        codes = [np.unique(values.astype(str), return_inverse=True)[1].ravel() for values in texts.values()]
        return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()
    if config.method == "time":
        return _times(source, str(order_column(config, data)))
    return np.zeros(source.rows, np.int64)


def write_fold(source: Source, fold: Fold, folder: Path, shards: int, seed: int) -> None:
    """Write an examples artifact: `train`, `eval`, and as `test` the rows held out.

    The last two are a file each, so that their order is the same to every reader.

    Args:
        source: The rows.
        fold: Which of them go where.
        folder: Where to; made here.
        shards: Files of the training split at most; which row is in which is random.
        seed: Of that.
    """
    parts = {"train": fold.train, "eval": fold.eval, "test": fold.held_out}
    for split in parts:
        (folder / f"Split-{split}").mkdir(parents=True)
    count = min(shards, len(fold.train))
    names = [
        *(f"Split-train/data_tfrecord-{index:05d}-of-{count:05d}.gz" for index in range(count)),
        "Split-eval/data_tfrecord-00000-of-00001.gz",
        "Split-test/data_tfrecord-00000-of-00001.gz",
    ]
    target = np.full(source.rows, -1)  # file of each row
    target[fold.train] = np.random.default_rng(seed).permutation(len(fold.train)) % count
    target[fold.eval], target[fold.held_out] = count, count + 1
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_record_writer(folder / name)) for name in names]
        start = 0
        for part in source.files:
            for records in part.batches():
                places = target[start : start + len(records)]
                for number, write in enumerate(writers):
                    write(records[places == number].tolist())
                start += len(records)
    (folder / "ingest.json").write_text(
        json.dumps(_fold_ingest(source, parts), ensure_ascii=False), encoding="utf-8"
    )


def _fold_ingest(source: Source, parts: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return ingest.json with the counts of this fold; what describes the whole source stays."""
    ingest = copy.deepcopy(dict(source.ingest))
    ingest["splits"] = {split: len(rows) for split, rows in parts.items()}
    ingest["rows"] = sum(ingest["splits"].values())
    for column in ingest["columns"]:
        missing = source.missing[column["name"]]
        column["missing"] = {split: int(missing[rows].sum()) for split, rows in parts.items()}
    ingest["label"]["counts"] = None
    return ingest


@contextlib.contextmanager
def _record_writer(path: Path) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """Give a function that appends serialized examples to a gzip TFRecord file."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    with open(path, "wb") as stream:

        def write(records: Sequence[bytes]) -> None:
            stream.write(packer.compress(frame_records(records)))

        yield write
        stream.write(packer.flush())


def _times(source: Source, name: str) -> np.ndarray:
    column = source.columns[name]
    if column.null_count:
        raise DataRejected(
            f"every row needs a time to be ordered by. Received: {column.null_count:,} rows without one "
            f"(cross_validation.order, column {name!r})"
        )
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    if values.dtype.kind != "O":
        return values
    odd = next((value for value in values if not _ISO_DATE.match(value)), None)
    if odd is not None:
        raise DataRejected(
            f"text that rows are ordered by must be ISO 8601 dates. Received: {odd!r} "
            f"(cross_validation.order, column {name!r})",
            f"if it is a number, declare it: `data.columns.{name}: float`",
        )
    return values.astype(str)
