"""The header of delimited text, however wide it is and whatever line breaks its names hold."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ..errors import ConfigError

__all__ = ["LARGEST_HEADER_BYTES", "Header", "read_header"]

LARGEST_HEADER_BYTES = 8 << 20
"""Rows are parsed in blocks of this size, of which the header must leave some."""

_FIRST_BYTES = 1 << 18
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class Header:
    """What the first line that is not blank says.

    Attributes:
        names: Its fields.
        has_rows: Whether anything but blank lines follows.
    """

    names: list[str]
    has_rows: bool


def read_header(stream: IO[bytes], delimiter: str, encoding: str, path: str) -> Header:
    """Read a header to its end, and no more of the file than that needs.

    Args:
        stream: The file from its start.
        delimiter: Character between fields.
        encoding: Of the text, by its Python name.
        path: The file, for messages.

    Raises:
        UnicodeError: If the header is not text in `encoding`.
        ConfigError: If it does not end.
    """
    start, size = b"", _FIRST_BYTES
    while True:
        start += stream.read(size - len(start))
        whole = len(start) < size
        try:
            found = _first_record(_lines(start, encoding, whole), delimiter, whole)
            if found is not None and not found.has_rows and not whole:
                begun = start[max(start.rfind(b"\n"), start.rfind(b"\r")) + 1 :]
                return Header(found.names, bool(begun.strip()) or _goes_on(stream))
        except csv.Error as error:
            raise ConfigError(f"the first line must name the columns. Received: {error} ({path})") from error
        if found is not None:
            return found
        if whole or size >= LARGEST_HEADER_BYTES:
            raise _endless(whole, path)
        size *= 2


def _first_record(lines: Iterator[str], delimiter: str, whole: bool) -> Header | None:
    """Return the first record that is not blank; None if it does not end in `lines`."""
    ended = False

    def given() -> Iterator[str]:
        nonlocal ended
        yield from lines
        ended = True

    for fields in csv.reader(given(), delimiter=delimiter):
        # A record that ends in its last line is given before another line is asked for.
        if fields:
            return None if ended else Header(fields, _follows(lines))
    return Header([], False) if whole else None


def _follows(lines: Iterator[str]) -> bool:
    try:
        return any(line.strip() for line in lines)
    except UnicodeError:
        return True  # bytes of a row, which ingest judges


def _goes_on(stream: IO[bytes]) -> bool:
    return any(block.strip() for block in iter(lambda: stream.read(_FIRST_BYTES), b""))


def _lines(start: bytes, encoding: str, whole: bool) -> Iterator[str]:
    """Yield the lines at the start of a file, decoded one by one: bad bytes of rows are no matter."""
    plain = encoding.lower().replace("-", "").replace("_", "")
    if plain.startswith(("utf16", "utf32")):
        text = codecs.getincrementaldecoder(encoding)().decode(start, whole)
        lines = list(io.StringIO(text, newline=""))
        yield from lines if whole else lines[:-1]
        return
    if plain == "utf8":
        start = start.removeprefix(codecs.BOM_UTF8)
    for match in _LINE.finditer(start):
        if match[0].endswith((b"\r", b"\n")) or (whole and match[0]):
            yield match[0].decode(encoding)


def _endless(whole: bool, path: str) -> ConfigError:
    if whole:
        return ConfigError(
            f"a name in the header that begins with a quote must end with one. Received: none ({path})"
        )
    return ConfigError(
        f"the header must end within {LARGEST_HEADER_BYTES:,} bytes. Received: no end of it ({path})",
        'a name that begins with " goes on to the next "',
    )
