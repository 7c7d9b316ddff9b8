"""Rows in files, block by block: delimited text, Parquet, JSON lines."""

import csv
import difflib
import gzip
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from headrace.data.columns import nearest
from headrace.data.errors import ConfigError

from ..columns import InvalidRow
from .csv_form import CsvForm

__all__ = ["ReadOptions", "RowBlock", "read_blocks", "row_format"]

_FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv", ".parquet": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl", ".ndjson.gz": "jsonl",
}  # fmt: skip
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_MAX_FIELD = 1 << 28
_SHOWN = 80
_DELIMITERS = ",;\t|"
"""What else may stand between fields where a header seems to have one."""
_TOLD = "; over a URL, --labels tells the delimiter of the model's data"
_LIKE = 0.6
"""Likeness from which one name may be another's misspelling; `nearest` has the same."""


@dataclass(frozen=True)
class ReadOptions:
    """How rows are read.

    Attributes:
        block_rows: Rows of a block, >= 1.
        keep: Columns that are carried into the output.
        images: Columns of pictures whose texts are paths, besides those of kind `image`.
        ignore_unknown: Whether to pass over columns that the model does not read.
        note: Told what is passed over or taken as missing.
        csv: How delimited text is read.
    """

    block_rows: int = 8192
    keep: Sequence[str] = ()
    images: Collection[str] = ()
    ignore_unknown: bool = False
    note: Callable[[str], None] = lambda _: None
    csv: CsvForm = field(default_factory=CsvForm)


@dataclass(frozen=True)
class RowBlock:
    """Rows that stand together in a file.

    Attributes:
        rows: What a client's `predict` takes.
        count: How many.
        place: Row of the block, from 0 -> its name, such as "line 7 of rows.csv".
        kept: Column -> values that are carried into the output.
        total: Rows of the whole file, where that is known.
    """

    rows: Any
    count: int
    place: Callable[[int], str]
    kept: Mapping[str, Sequence[Any]]
    total: int | None = None


def row_format(path: str) -> str:
    """Return `csv`, `parquet` or `jsonl` by the extension of `path`; of `-` it is `jsonl`.

    Raises:
        ConfigError: If the extension is not known.
    """
    if path == "-":
        return "jsonl"
    found = [name for name in _FORMATS if path.lower().endswith(name)]
    if not found:
        raise ConfigError(f"rows must be a file of {', '.join(_FORMATS)}, or -. Received: {path}")
    return _FORMATS[found[0]]


def read_blocks(path: str, kinds: Mapping[str, str], options: ReadOptions) -> Iterator[RowBlock]:
    """Yield the rows of a file.

    Of files with a header, columns that the model does not read are passed over, unless a column that it
    reads is not there: then one is likely misspelt, and an error. A JSON object may leave columns out, but
    must name none that is not read.

    Args:
        path: The file; - for JSON lines on stdin.
        kinds: Column -> kind, as the model reads it.
        options: How they are read.

    Raises:
        ConfigError: If there is no such file.
        InvalidRow: If a line or a field cannot be read.
    """
    kind = row_format(path)
    read = {"csv": _read_csv, "parquet": _read_parquet, "jsonl": _read_jsonl}[kind]
    try:
        yield from read(path, kinds, options)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"rows must be a readable file. Received: {path} ({reason})") from error
    except UnicodeError as error:
        encoding = options.csv.encoding.upper() if kind == "csv" else "UTF-8"
        reason = getattr(error, "reason", None) or error
        raise ConfigError(f"text must be {encoding}. Received: {reason} ({path})") from error


@contextmanager
def _opened(path: str, encoding: str = "utf-8-sig") -> Iterator[IO[str]]:
    if path == "-":
        yield sys.stdin
        return
    if path.endswith(".gz"):
        with gzip.open(path, "rt", encoding=encoding, newline="") as stream:
            yield stream
    else:
        with open(path, encoding=encoding, newline="") as stream:
            yield stream


def _name(path: str) -> str:
    return "stdin" if path == "-" else Path(path).name


def _folder(path: str) -> Path:
    return Path() if path == "-" else Path(path).parent


def _read_jsonl(path: str, kinds: Mapping[str, str], options: ReadOptions) -> Iterator[RowBlock]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with _opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            rows.append(_object(line.strip(), number, path))
            lines.append(number)
            if len(rows) >= options.block_rows:
                yield _json_block(rows, lines, path, kinds, options)
                rows, lines = [], []
    if rows:
        yield _json_block(rows, lines, path, kinds, options)


def _object(line: str, number: int, path: str) -> dict[str, Any]:
    rule = f"each line must be a JSON object. Received: {line[:_SHOWN]}"
    place = f"line {number} of {_name(path)}"
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRow(f"{rule} ({error.msg} at character {error.colno})", place=place) from error
    if not isinstance(found, dict):
        raise InvalidRow(rule, place=place)
    return found


def _json_block(
    rows: list[dict[str, Any]],
    lines: list[int],
    path: str,
    kinds: Mapping[str, str],
    options: ReadOptions,
) -> RowBlock:
    kept = {name: [row.get(name) for row in rows] for name in options.keep}
    carried = [name for name in options.keep if name not in kinds]
    files = _pictures(kinds, options)
    for row in rows if carried or files else ():
        for name in carried:
            row.pop(name, None)
        for name in files:
            if isinstance(row.get(name), str) and row[name]:
                row[name] = _folder(path) / row[name]
    return RowBlock(rows, len(rows), lambda row: f"line {lines[row]} of {_name(path)}", kept)


def _read_csv(path: str, kinds: Mapping[str, str], options: ReadOptions) -> Iterator[RowBlock]:
    csv.field_size_limit(_MAX_FIELD)
    delimiter = options.csv.delimiter_of(path)
    with _opened(path, options.csv.codec) as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        header = next((fields for fields in reader if fields), [])
        _check_delimiter(header, kinds, delimiter, path)
        wanted = _check_header(header, kinds, options, path, delimiter)
        rows: list[list[str]] = []
        lines: list[int] = []
        try:
            for fields in reader:
                if not fields:
                    continue
                line = reader.line_num
                if len(fields) != len(header):
                    raise InvalidRow(
                        f"a line must have the {len(header)} fields of the header. Received: {len(fields)}",
                        place=f"line {line} of {_name(path)}",
                    )
                rows.append(fields)
                lines.append(line)
                if len(rows) >= options.block_rows:
                    yield _csv_block(rows, lines, header, wanted, path, kinds, options)
                    rows, lines = [], []
        except csv.Error as error:
            place = f"line {reader.line_num} of {_name(path)}"
            raise InvalidRow(f"a line must be delimited text. Received: {error}", place=place) from error
        if rows:
            yield _csv_block(rows, lines, header, wanted, path, kinds, options)


def _csv_block(
    rows: list[list[str]],
    lines: list[int],
    header: Sequence[str],
    wanted: Sequence[str],
    path: str,
    kinds: Mapping[str, str],
    options: ReadOptions,
) -> RowBlock:
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    files = _pictures(kinds, options)

    def place(row: int) -> str:
        return f"line {lines[row]} of {_name(path)}"

    found: dict[str, list[Any]] = {}
    for name in wanted:
        try:
            kind = "path" if name in files else kinds[name]
            found[name] = [
                None if text in options.csv.null_values else _field(text, kind, row, name)
                for row, text in enumerate(columns[name])
            ]
        except InvalidRow as error:
            raise error.moved(0, place) from error.__cause__
        if name in files:
            found[name] = [text and _folder(path) / text for text in found[name]]
    kept = {name: list(columns[name]) for name in options.keep}
    # A file may name none of the model's columns; then every value is missing, but there are rows.
    rows_given: Any = found or [{}] * len(rows)
    return RowBlock(rows_given, len(rows), place, kept)


def _field(text: str, kind: str, row: int, name: str) -> Any:
    """Return a field of delimited text as its column's kind."""
    if kind in ("string", "path"):
        return text
    if kind == "floats":
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            return found
        rule = "must be a JSON list of numbers"
    elif kind == "image":
        return {"b64": text}
    else:
        plain = text.strip()
        if _INTEGER.fullmatch(plain):
            return int(plain)
        try:
            number = float(plain) if "_" not in plain else math.nan
        except ValueError:
            number = math.nan
        if not math.isnan(number):
            return number
        rule = "must be a number"
    raise InvalidRow(f"a value of column {name!r} {rule}. Received: {text[:_SHOWN]!r}", row=row, column=name)


def _read_parquet(path: str, kinds: Mapping[str, str], options: ReadOptions) -> Iterator[RowBlock]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = _check_header(file.schema_arrow.names, kinds, options, path)
            total, first = file.metadata.num_rows, 1
            names = list(dict.fromkeys([*wanted, *options.keep]))
            for batch in file.iter_batches(batch_size=options.block_rows, columns=names):
                table = pa.table(batch.select(wanted)) if wanted else [{}] * batch.num_rows
                kept = {name: batch.column(name) for name in options.keep}
                start = first

                def place(row: int, start: int = start) -> str:
                    return f"row {start + row} of {_name(path)}"

                rows = _with_paths(table, _pictures(kinds, options), _folder(path)) if wanted else table
                yield RowBlock(rows, batch.num_rows, place, kept, total)
                first += batch.num_rows
    except pa.ArrowException as error:
        reason = str(error).split(". ")[0]
        raise ConfigError(f"rows must be a readable Parquet file. Received: {reason} ({path})") from error


def _with_paths(table: Any, files: Collection[str], folder: Path) -> Any:
    """Return the table, or its columns where pictures are given as paths."""
    import pyarrow as pa

    named = [
        name
        for name in files
        if name in table.schema.names and pa.types.is_string(table.schema.field(name).type)
    ]
    if not named:
        return table
    columns = {name: table.column(name) for name in table.schema.names}
    for name in named:
        columns[name] = [text and folder / text for text in table.column(name).to_pylist()]
    return columns


def _pictures(kinds: Mapping[str, str], options: ReadOptions) -> list[str]:
    """Return the columns whose texts are paths."""
    return [name for name, kind in kinds.items() if kind == "image" or name in options.images]


def _check_delimiter(header: Sequence[str], kinds: Mapping[str, str], delimiter: str, path: str) -> None:
    """Refuse a header that names columns of the model only if it is cut elsewhere."""
    if len(header) != 1 or header[0] in kinds:
        return
    for other in _DELIMITERS:
        if other in header[0] and not kinds.keys().isdisjoint(next(csv.reader(header, delimiter=other))):
            raise InvalidRow(
                f"fields must be separated by {delimiter!r}. Received: {header[0][:_SHOWN]!r}, which names "
                f"columns of the model where it is cut at {other!r} ({path})",
                f"write the file so{_TOLD}",
            )


def _check_header(
    header: Sequence[str], kinds: Mapping[str, str], options: ReadOptions, path: str, delimiter: str = ""
) -> list[str]:
    """Return the columns of a header that the model reads; `delimiter` is that of delimited text."""
    twice = [name for name in dict.fromkeys(header) if list(header).count(name) > 1]
    if twice:
        raise ConfigError(f"every column must have its own name. Received: {twice[0]!r} twice ({path})")
    for name in options.keep:
        if name not in header:
            raise ConfigError(
                f"a kept column must be in the file. Received: {name!r} ({path})", nearest(name, header)
            )
    wanted = [name for name in kinds if name in header]
    absent = [name for name in kinds if name not in header]
    unknown = [name for name in header if name not in kinds and name not in options.keep]
    if absent and unknown and not options.ignore_unknown:
        misspelt = _misspelt(unknown, absent)
        named = [misspelt] if misspelt else unknown
        hints = [nearest(misspelt, absent)] if misspelt else []
        if delimiter and len(header) == 1:
            hints.append(f"the delimiter may be another than {delimiter!r}{_TOLD}")
        else:
            hints.append(
                "--ignore-unknown passes over what the model does not read, --keep carries it to the output"
            )
        raise InvalidRow(
            "where a file lacks columns of the model, it must name no others. Received: "
            f"{', '.join(map(repr, named))}, and none for {', '.join(map(repr, absent))} ({path})",
            "; ".join(hints),
        )
    if unknown:
        options.note(f"passed over, since the model does not read them: {', '.join(unknown)}")
    if absent:
        options.note(f"not in {_name(path)}, so missing in every row: {', '.join(absent)}")
    return wanted


def _misspelt(unknown: Sequence[str], absent: Sequence[str]) -> str:
    """Return the name that is most like one that is absent; empty if none is like any."""
    likeness = {
        name: max(
            difflib.SequenceMatcher(None, name.casefold(), other.casefold()).ratio() for other in absent
        )
        for name in unknown
    }
    found = max(unknown, key=likeness.__getitem__)
    return found if likeness[found] >= _LIKE else ""
