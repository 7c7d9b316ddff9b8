"""The slow second look at a text file that Arrow could not read: what is wrong, and where exactly."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import IO

from ..columns import RawColumn
from ..config import DataConfig
from ..errors import DataRejected, HeadraceError
from .files import READ_ERRORS, delimiter_of, open_bytes

__all__ = ["explain", "find_undecodable", "line_of_row"]

_CHUNK_BYTES = 1 << 20
_MAX_FIELD = 1 << 24
# What Arrow's float parser takes, so that the look finds the value that Arrow stopped at.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)


def explain(error: Exception, path: str, data: DataConfig, columns: Sequence[RawColumn]) -> HeadraceError:
    """Return the error that names rule, value and place of what made `error`.

    Args:
        error: What Arrow, the decoder or the decompressor raised.
        path: The file.
        data: The `data` section.
        columns: The columns that were read.
    """
    encoding = data.csv.encoding
    try:
        if (found := find_undecodable(path, encoding)) is not None:
            offset, line, byte = found
            return DataRejected(
                f"text must be {encoding}. Received: byte 0x{byte:02x} at byte offset {offset} "
                f"(line {line} of {path})",
                "save the file as UTF-8, or set `data.csv.encoding` (latin-1, cp1252, ...)",
            )
        return _look_at_rows(path, data, columns) or _unknown(error, path)
    except (*READ_ERRORS, csv.Error, UnicodeError) as second:
        return _unknown(second, path)


def find_undecodable(path: str, encoding: str) -> tuple[int, int, int] | None:
    """Find the first byte that is not text.

    Returns:
        Its offset from 0 in the (decompressed) file, its line from 1 and its value; None if all is text.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = line = 0
    with open_bytes(path) as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                # The decoder prepends the bytes of a character that the last chunk cut.
                at = error.start - pending
                return offset + at, line + chunk.count(b"\n", 0, max(at, 0)) + 1, error.object[error.start]
            if not chunk:
                return None
            offset += len(chunk)
            line += chunk.count(b"\n")


def line_of_row(path: str, delimiter: str, encoding: str, row: int) -> int | None:
    """Return the line, from 1, on which row `row` (from 1 after the header) ends, or None if not found."""
    try:
        for number, line, _ in _rows(path, delimiter, encoding):
            if number == row:
                return line
    except (*READ_ERRORS, csv.Error, UnicodeError):
        pass
    return None


def _look_at_rows(path: str, data: DataConfig, columns: Sequence[RawColumn]) -> HeadraceError | None:
    names: list[str] = []
    numeric = {column.name for column in columns if column.type in ("int", "float")}
    nulls = set(data.csv.null_values)
    places: list[tuple[int, str]] = []
    for number, line, fields in _rows(path, delimiter_of(path, data), data.csv.encoding):
        if number == 0:
            names = fields
            places = [(index, name) for index, name in enumerate(names) if name in numeric]
            continue
        place = f"row {number}, line {line} of {path}"
        if len(fields) != len(names):
            return DataRejected(
                f"every row must have the {len(names)} fields of the header. Received: {len(fields)} "
                f"({place})",
                "quote fields that hold the delimiter, or set `data.csv.delimiter`",
            )
        for index, name in places:
            value = fields[index]
            if value not in nulls and not _NUMBER.fullmatch(value.strip(" \t")):
                return DataRejected(
                    f"column {name!r} is read as a number. Received: {value[:80]!r} ({place})",
                    f"correct the value, set {data.csv.nulls_with([value[:80]])} if it means missing, or set "
                    f"`data.columns.{name}` to string",
                )
    return None


def _rows(path: str, delimiter: str, encoding: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (row, line, fields) of every line that is not blank; the header is row 0."""
    csv.field_size_limit(_MAX_FIELD)
    number = 0
    with open_bytes(path) as stream:
        reader = csv.reader(_text(stream, encoding), delimiter=delimiter)
        for fields in reader:
            if fields:
                yield number, reader.line_num, fields
                number += 1


def _text(stream: IO[bytes], encoding: str) -> io.TextIOWrapper:
    name = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    return io.TextIOWrapper(stream, encoding=name, errors="replace", newline="")


def _unknown(error: Exception, path: str) -> HeadraceError:
    if isinstance(error, READ_ERRORS) and getattr(error, "errno", None) is None:
        return DataRejected(f"a .gz file must decompress. Received: {error} ({path})")
    if "straddling" in str(error):
        return DataRejected(
            f"a row must be shorter than 8 MiB. Received: a longer one, or a quote that never closes ({path})"
        )
    return DataRejected(f"the file must be delimited text. Received: {error} ({path})")
