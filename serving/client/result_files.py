"""Results in files: whole, or not there at all."""

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError, EnvironmentProblem

from .predictions import Predictions

__all__ = ["Write", "result_format", "written"]

Write = Callable[[Predictions, Mapping[str, Sequence[Any]]], None]
"""Takes the results of a block, and columns that are carried along."""

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_JOINER = "|"
_SPOOL_BYTES = 64 << 20


def result_format(path: str) -> str:
    """Return `csv`, `parquet` or `jsonl` by the extension of `path`; of `-` it is `jsonl`.

    Raises:
        ConfigError: If the extension is not known, or the folder is not there.
    """
    if path == "-":
        return "jsonl"
    if Path(path).suffix.lower() not in _FORMATS:
        raise ConfigError(f"results must be a file of {', '.join(_FORMATS)}, or -. Received: {path}")
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"results must go to a folder that is there. Received: {path}")
    return _FORMATS[Path(path).suffix.lower()]


@contextmanager
def written(path: str, digits: int | None = None) -> Iterator[Write]:
    """Open results for writing.

    What is written stays under a scratch name beside the file (of stdout: in memory and a temporary file)
    until the block ends well; after an error there is nothing.

    Args:
        path: A file of .parquet, .csv or .jsonl; - for JSON lines on stdout.
        digits: Decimal places of scores in JSON; None for all.

    Yields:
        What writes the results of a block.

    Raises:
        ConfigError: If the path is not valid.
        EnvironmentProblem: If it cannot be written.
    """
    kind = result_format(path)
    if path == "-":
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, "w+", encoding="utf-8", newline="") as held:
            yield _json_writer(held, digits)
            held.seek(0)
            shutil.copyfileobj(held, sys.stdout)
            sys.stdout.flush()
        return
    target = Path(path)
    try:
        handle, scratch = tempfile.mkstemp(target.suffix, f".{target.name}.", target.absolute().parent)
        os.close(handle)
    except OSError as error:
        raise EnvironmentProblem(f"results must be writable. Received: {error}") from error
    try:
        with _writer(kind, scratch, digits) as write:
            yield write
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, target)
    except OSError as error:
        raise EnvironmentProblem(f"results must be writable. Received: {error} ({path})") from error
    finally:
        Path(scratch).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _writer(kind: str, path: str, digits: int | None) -> Iterator[Write]:
    if kind == "parquet":
        with _parquet_writer(path) as write:
            yield write
        return
    with open(path, "w", encoding="utf-8", newline="") as stream:
        yield _json_writer(stream, digits) if kind == "jsonl" else _csv_writer(stream)


def _check_names(kept: Mapping[str, Any], results: Iterable[str]) -> None:
    twice = [name for name in results if name in kept]
    if twice:
        raise ConfigError(f"a kept column must not be named as a result is. Received: {twice[0]!r}")


def _json_writer(stream: Any, digits: int | None) -> Write:
    def write(found: Predictions, kept: Mapping[str, Sequence[Any]]) -> None:
        columns = {name: _plain(values) for name, values in kept.items()}
        results = found.to_dicts()
        _check_names(kept, results[0])
        for index, result in enumerate(results):
            if digits is not None and "scores" in result:
                result["scores"] = {name: round(score, digits) for name, score in result["scores"].items()}
            row = {name: values[index] for name, values in columns.items()}
            stream.write(json.dumps(row | result, ensure_ascii=False, default=str) + "\n")

    return write


def _csv_writer(stream: Any) -> Write:
    writer = csv.writer(stream, lineterminator="\n")
    is_first = True

    def write(found: Predictions, kept: Mapping[str, Sequence[Any]]) -> None:
        nonlocal is_first
        columns = {name: _plain(values) for name, values in kept.items()}
        results = found.to_columns()
        _check_names(kept, results)
        for name, values in results.items():
            if name == "classes":
                columns[name] = [_JOINER.join(names) for names in values]
            else:
                columns[name] = values if isinstance(values, list) else [str(value) for value in values]
        if is_first:
            writer.writerow(columns)
            is_first = False
        writer.writerows(zip(*columns.values(), strict=True))

    return write


@contextmanager
def _parquet_writer(path: str) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None

    def write(found: Predictions, kept: Mapping[str, Sequence[Any]]) -> None:
        nonlocal writer
        results = found.to_columns()
        _check_names(kept, results)
        table = pa.table({name: _array(values) for name, values in kept.items()} | results)
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema)
        writer.write_table(table.cast(writer.schema))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _array(values: Any) -> Any:
    """Return carried values as an Arrow array; of JSON, where types may change, as text where they must."""
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    if all(isinstance(value, str | type(None)) for value in values):
        return pa.array(values, pa.string())
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _plain(values: Any) -> Any:
    return values.to_pylist() if hasattr(values, "to_pylist") else values
