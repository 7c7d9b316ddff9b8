"""What can be told of a data set in under a second: files, headers, columns, types of the first rows."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as arrow_csv

from .columns import ColumnPlan, RawColumn, nearest
from .config import DataConfig, HashSplit
from .derived import packed_columns, unpacked, unwindowed
from .errors import ConfigError, HeadraceError
from .readers.csv import BLOCK_BYTES, parse_options
from .readers.csv_faults import explain
from .readers.csv_header import read_header
from .readers.files import READ_ERRORS, data_path, delimiter_of, find_files, format_of, open_bytes
from .readers.folder import IMAGE, PATH, class_of
from .readers.parquet import check_types, read_schema
from .readers.tfrecord import check_examples, example_names
from .readers.values import first_true, unfit_for_number

__all__ = ["Source", "check_source", "column_names"]

_HEAD_BYTES = 1 << 18
_WIDE_BYTES = 2 * BLOCK_BYTES  # of which a header may take half
_MAX_PEEKED = 64
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)")


@dataclass(frozen=True)
class Source:
    """A data set whose files and columns fit the config.

    Attributes:
        paths: Its files, sorted.
        size_bytes: Of all files, as they lie on disk.
        names: Columns of all files: those of the first, then what others have beyond.
    """

    paths: tuple[str, ...]
    size_bytes: int
    names: tuple[str, ...]


def check_source(data: DataConfig, plan: ColumnPlan, folder: str = "") -> Source:
    """Check files, headers and columns against the config, reading only the start of each file.

    Args:
        data: The `data` section.
        plan: The columns that the config uses.
        folder: Where a relative `data.path` starts; by default the working folder.

    Raises:
        ConfigError: If a file is missing, empty, has no rows or is not of its format; if a header
            names a column twice or lacks one that the config uses; or if a number is asked of a
            column whose first rows are mostly text.
    """
    columns = unpacked(data, unwindowed(data, plan.read))
    paths = find_files(data, folder)
    if data.format == "images":
        return _check_folder(data_path(data, folder), paths, data, plan)
    names: list[str] = []
    for path in paths:
        found = column_names(path, data)
        _check_names(path, found, data, plan)
        names += [name for name in found if name not in names] if names else found
        kind = format_of(path, data)
        if kind == "parquet":
            check_types(path, read_schema(path)[0], data, columns)
        elif kind == "tfrecord":
            check_examples(path, data, columns)
    for path in paths[:_MAX_PEEKED]:
        if format_of(path, data) == "csv":
            _check_first_rows(path, data, columns)
    return Source(tuple(paths), sum(os.path.getsize(path) for path in paths), tuple(names))


def _check_folder(root: str, paths: Sequence[str], data: DataConfig, plan: ColumnPlan) -> Source:
    """Check a folder of class folders."""
    names = (IMAGE, PATH, data.label)
    _check_names(root, names, data, plan)
    for column in plan.read:
        wanted = "image" if column.name == IMAGE else "string"
        if column.type != wanted:
            what = "is a label of its own: the class folder" if column.name == data.label else f"is {wanted}"
            raise ConfigError(
                f"with `format: images` column {column.name!r} {what}. Received: {column.type} "
                f"({'data.task' if column.name == data.label else 'features'})"
            )
    classes = sorted({class_of(root, path) for path in paths})
    if len(classes) < 2:
        raise ConfigError(
            f"there must be a folder of pictures for each of two classes or more. Received: {len(classes)}, "
            f"{classes[0]!r} ({root})"
        )
    return Source(tuple(paths), sum(os.path.getsize(path) for path in paths), names)


def column_names(path: str, data: DataConfig) -> list[str]:
    """Return the column names of one file.

    Raises:
        ConfigError: If the file is empty, has no rows, or is not of its format.
    """
    if os.path.getsize(path) == 0:
        raise ConfigError(f"a data file must not be empty. Received: 0 bytes ({path})")
    if format_of(path, data) == "parquet":
        schema, rows = read_schema(path)
        if rows == 0:
            raise ConfigError(f"a data file must have rows. Received: a schema and no rows ({path})")
        return list(schema.names)
    if format_of(path, data) == "tfrecord":
        return example_names(path)
    try:
        with open_bytes(path) as stream:
            head = stream.read(_HEAD_BYTES)
            _check_is_text(head, path, data)
            stream.seek(0)
            header = read_header(stream, delimiter_of(path, data), data.csv.encoding, path)
    except UnicodeError as error:
        # The same words as for a bad byte further down, but it is the header that is at fault.
        raise ConfigError(*_words(explain(error, path, data, ()))) from error
    except LookupError as error:
        raise ConfigError(
            f"`data.csv.encoding` must be an encoding that Python knows. Received: {data.csv.encoding}"
        ) from error
    except READ_ERRORS as error:
        raise ConfigError(f"a .gz file must decompress. Received: {error} ({path})") from error
    if not any(name.strip() for name in header.names):
        raise ConfigError(f"the first line must name the columns. Received: a blank header ({path})")
    if not header.has_rows:
        raise ConfigError(f"a data file must have rows. Received: a header and no rows ({path})")
    return header.names


def _check_is_text(head: bytes, path: str, data: DataConfig) -> None:
    if data.csv.encoding.lower().startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigError(
            f"text must be {data.csv.encoding}. Received: UTF-16 ({path})", "set `data.csv.encoding: utf-16`"
        )
    if (at := head.find(b"\0")) >= 0:
        kind = "Parquet" if head[:4] == b"PAR1" else "binary data"
        raise ConfigError(
            f"the file must be delimited text. Received: {kind}, a zero byte at byte offset {at} ({path})",
            "set `data.format: parquet`" if kind == "Parquet" else "",
        )


def _words(error: HeadraceError) -> tuple[str, str]:
    return error.message, error.hint


def _check_names(path: str, names: Sequence[str], data: DataConfig, plan: ColumnPlan) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise ConfigError(
                f"column names must differ. Received: {name!r} twice, as columns {names.index(name) + 1} and "
                f"{index + 1} ({path})"
            )
        seen.add(name)
    hint = _delimiter_hint(names)
    for name, place in _wanted(data, plan):
        if name not in seen:
            what = "label column" if place == "data.label" else "column"
            raise ConfigError(
                f"the data must have every column that the config names. Received: no {what} {name!r} "
                f"({place}; {path})",
                hint or nearest(name, names),
            )


def _wanted(data: DataConfig, plan: ColumnPlan) -> Iterable[tuple[str, str]]:
    """Yield (column, the config path that names it)."""
    packed = packed_columns(data)
    listed = data.windows.sources if data.windows else {}
    yield data.label, "data.label"
    if data.weight is not None:
        yield data.weight, "data.weight"
    for name, parts in packed.items():
        yield from ((part, f"data.pack.{name}") for part in parts)
    if data.windows is not None:
        yield data.windows.order, "data.windows.order"
        yield from ((name, "data.windows.columns") for name in listed.values())
        yield from ((name, "data.windows.group") for name in data.windows.group)
    made = packed.keys() | listed.keys()
    for name in plan.features:
        if name not in made:
            yield name, "features"
    for name in data.split.key if isinstance(data.split, HashSplit) else ():
        if name not in made:
            yield name, "data.split.key"
    for column in plan.extra:
        yield column.name, "data.split"
    for name in data.columns:
        if name not in made:
            yield name, "data.columns"
    for column in plan.columns:
        if column.name not in made:
            yield column.name, "evaluation.slices"


def _delimiter_hint(names: Sequence[str]) -> str:
    """Suspect the delimiter where all names came out as one."""
    if len(names) == 1:
        for delimiter, word in ((";", "';'"), ("\t", "a tab"), ("|", "'|'"), (",", "','")):
            if delimiter in names[0]:
                return f"the header looks delimited by {word}: set `data.csv.delimiter`"
    return ""


def _check_first_rows(path: str, data: DataConfig, columns: Sequence[RawColumn]) -> None:
    """Check that columns to be read as numbers are not text throughout.

    A single bad value is content, left to ingest; a column that is mostly text was declared wrongly.
    """
    for column in columns:
        if column.type == "floats":
            raise ConfigError(
                f"delimited text has no list columns. Received: column {column.name!r} read as floats "
                f"({path})",
                f"make it of columns of numbers: `data.pack.{column.name}`",
            )
    numeric = [column.name for column in columns if column.type in ("int", "float")]
    if not numeric:
        return
    table = _first_rows(path, data, numeric)
    if table is None:
        return
    for name in numeric:
        values = table.column(name).combine_chunks()
        bad = unfit_for_number(values)
        count, known = bad.sum().as_py() or 0, len(values) - values.null_count
        at = first_true(bad)
        if at is not None and count * 2 > known:
            raise ConfigError(
                f"column {name!r} is read as a number. Received: {values[at].as_py()[:80]!r} and "
                f"{count - 1} more texts in the first {len(values)} rows (row {at + 1} of {path})",
                f"make its feature `kind: {'date' if _DATE.match(values[at].as_py()) else 'categorical'}`, "
                f"or correct `data.columns.{name}`",
            )


def _first_rows(path: str, data: DataConfig, names: Sequence[str]) -> pa.Table | None:
    """Return columns of the first rows as text, or None where the start cannot be read as rows."""
    for size in (_HEAD_BYTES, _WIDE_BYTES):
        with open_bytes(path) as stream:
            head = stream.read(size)
        whole = len(head) < size
        table = _parsed_rows(head if whole else head[: head.rfind(b"\n") + 1], path, data, names)
        if whole or (table is not None and table.num_rows):
            return table
    return None


def _parsed_rows(head: bytes, path: str, data: DataConfig, names: Sequence[str]) -> pa.Table | None:
    parse = parse_options(delimiter_of(path, data))
    parse.invalid_row_handler = lambda row: "skip"
    options = arrow_csv.ConvertOptions(
        include_columns=list(names),
        column_types={name: pa.string() for name in names},
        null_values=list(data.csv.null_values),
        strings_can_be_null=True,
    )
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(head),
            read_options=arrow_csv.ReadOptions(
                encoding=data.csv.encoding, use_threads=False, block_size=_WIDE_BYTES
            ),
            parse_options=parse,
            convert_options=options,
        )
    except (pa.ArrowException, UnicodeError, KeyError):
        return None  # bad content; ingest names the exact place
