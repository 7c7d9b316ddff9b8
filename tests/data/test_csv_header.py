"""The header of delimited text: read to its end, whatever its width and its names."""

import csv
import gzip
import io
from pathlib import Path

import pytest

from headrace.data.columns import plan_columns
from headrace.data.config import CsvOptions, DataConfig
from headrace.data.errors import ConfigError
from headrace.data.readers.csv_header import LARGEST_HEADER_BYTES, read_header
from headrace.data.readers.files import open_bytes
from headrace.data.source import check_source, column_names

WIDE = [f"a rather long name of a column, number {number:06}" for number in range(60_000)]
"""About 2.6 MB."""


def text(*rows: list[str], end: str = "\r\n") -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator=end).writerows(rows)
    return written.getvalue()


def names(content: bytes, encoding: str = "utf-8", delimiter: str = ",") -> list[str]:
    return read_header(io.BytesIO(content), delimiter, encoding, "x.csv").names


def test_a_header_of_megabytes_is_read_to_its_end() -> None:
    content = text([*WIDE, "late"], ["1"] * 60_001).encode()
    assert len(content) > 2_500_000
    assert names(content) == [*WIDE, "late"]


@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 1 << 21])
@pytest.mark.parametrize("over", range(-3, 4))
def test_a_header_that_ends_near_the_end_of_a_block(size: int, over: int) -> None:
    first = "é" * 30_000  # csv takes 131,072 characters a field
    fill = size + over - len(f"{first},\n".encode())
    wide = [first, *("x" * 99_999 for _ in range(fill // 100_000)), "y" * (fill % 100_000)]
    content = (",".join(wide) + "\n").encode()
    assert names(content + b"1\n") == wide == names(content)
    assert read_header(io.BytesIO(content), ",", "utf-8", "x").has_rows is False
    assert read_header(io.BytesIO(content + b"1\n"), ",", "utf-8", "x").has_rows is True


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "shift-jis"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_breaks_and_quotes_in_names(encoding: str, end: str) -> None:
    header = ["a", f"two{end}lines, and a comma", 'a "quote"', f"{end}{end}", 'size 5" pipe', "late"]
    content = text(header, ["1"] * 6, end=end).encode(encoding)
    assert names(content, "utf-8" if encoding == "utf-8-sig" else encoding) == header


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_wide_header_in_wide_characters(encoding: str) -> None:
    header = [*WIDE[:9000], "late"]
    content = text(header, ["1"] * 9001).encode(encoding)
    assert names(content, encoding) == header
    assert names(content[: len(text(header, end="").encode(encoding))], encoding) == header


@pytest.mark.parametrize("blank", ["", "\n", "\r\n\r\n", "\n" * 300_000])
def test_blank_lines_before_the_header(blank: str) -> None:
    found = read_header(io.BytesIO(f"{blank}a,late\n1,2\n".encode()), ",", "utf-8", "x.csv")
    assert (found.names, found.has_rows) == (["a", "late"], True)


def test_a_stray_quote_within_a_name_opens_nothing() -> None:
    assert names(b'5" pipe,late\n1,2\n3,4\n') == ['5" pipe', "late"]


def test_bytes_of_rows_are_not_judged() -> None:
    assert names(b"a,late\n\xff\xfe,1\n") == ["a", "late"]
    with pytest.raises(UnicodeDecodeError):
        names(b"a\xff,late\n1,1\n")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b", False),
        (b"a,b\n", False),
        (b'"a\nb",c\n', False),
        (b"a,b\n\n \r\n", False),
        (b"\n\na,b\n1,2", True),
        (b"a,b\n\n1,2", True),
        (b"\xef\xbb\xbfa,b\n", False),
        (b"", False),
    ],
)
def test_whether_rows_follow(content: bytes, rows: bool) -> None:
    assert read_header(io.BytesIO(content), ",", "utf-8", "x.csv").has_rows is rows


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"begins with a quote must end with one. Received: none \(x.csv\)"):
        names(b'a,"late\n1,2\n3,4\n')
    with pytest.raises(
        ConfigError, match=rf"must end within {LARGEST_HEADER_BYTES:,} bytes. Received: no end of it"
    ):
        names((b'a,"",' + b"x" * 99_999) * (LARGEST_HEADER_BYTES // 100_000 + 2))
    limit = csv.field_size_limit(131_072)  # one for the whole process, which others raise
    try:
        with pytest.raises(
            ConfigError, match=r"must name the columns. Received: field larger than field limit"
        ):
            names(b'a,"late\n' + b"1,2\n" * 100_000)
    finally:
        csv.field_size_limit(limit)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_validate_finds_a_label_at_the_end_of_a_wide_header(name: str, tmp_path: Path) -> None:
    content = text([*WIDE, "late"], *(["1.5"] * 60_000 + [label] for label in "01")).encode()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    data = DataConfig(path=str(tmp_path / name), label="late")
    plan = plan_columns(data, [(WIDE[0], "number")])
    assert len(check_source(data, plan).names) == 60_001
    with open_bytes(str(tmp_path / name)) as stream:
        assert read_header(stream, ",", "utf-8", name).has_rows


def test_texts_in_a_column_of_numbers_are_found_behind_a_wide_header(tmp_path: Path) -> None:
    content = text([*WIDE, "late"], *(["word"] + ["1.5"] * 59_999 + [label] for label in "01"))
    (tmp_path / "rows.csv").write_text(content)
    data = DataConfig(path=str(tmp_path / "rows.csv"), label="late")
    plan = plan_columns(data, [(WIDE[0], "number")])
    with pytest.raises(ConfigError, match=r"is read as a number. Received: 'word'"):
        check_source(data, plan)


def test_a_header_of_two_lines_without_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('"a\nb",late\n')
    data = DataConfig(path=str(tmp_path / "rows.csv"), label="late", csv=CsvOptions())
    with pytest.raises(ConfigError, match=r"must have rows. Received: a header and no rows"):
        column_names(data.path, data)
