"""What is refused before anything starts: exit 2, with rule, fact and place."""

import gzip
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.data.columns import plan_columns
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError
from headrace.data.source import check_source

USAGES = [("n", "number"), ("c", "category")]
GOOD = b"n,c,y\n1,a,0\n2,b,1\n"


def check(path, **values):
    data = DataConfig.model_validate({"path": str(path), "label": "y", **values})
    return check_source(data, plan_columns(data, USAGES))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must not be empty\. Received: 0 bytes"),
        (b"n,c,y\n", r"must have rows\. Received: a header and no rows"),
        (b"n,c,y\r\n\r\n", r"must have rows"),
        (b"\n\n", r"blank header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", r"delimited text\. Received: binary data.*byte offset 8"),
        (b"PAR1\x00\x00", r"Received: Parquet"),
        ("n,c,y\n1,a,0\n".encode("utf-16"), r"Received: UTF-16"),
        (b"n,caf\xe9,y\n1,a,0\n", r"must be utf-8\. Received: byte 0xe9 at byte offset 5 \(line 1 "),
        (b"n,c,y,n\n1,a,0,2\n", r"names must differ\. Received: 'n' twice, as columns 1 and 4"),
        (b"n,c,Y\n1,a,0\n", r"no label column 'y' \(data\.label"),
        (b"N1,c,y\n1,a,0\n", r"no column 'n' \(features"),
        (b"n,c,y\nx,a,0\ny,b,1\nz,b,0\n", r"'n' is read as a number\. Received: 'x' and 2 more .*\(row 1 of"),
    ],
)
def test_bad_text_files(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        check(path)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", r"must exist\. Received: .*missing\.csv"),
        ("*.nothing", r"glob must match a file"),
        ("notes.txt", r"must be one of \.csv"),
        ("folder", r"folder must hold .* files"),
    ],
)
def test_bad_paths(tmp_path, name, message):
    (tmp_path / "notes.txt").write_bytes(GOOD)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=message):
        check(tmp_path / name)


def test_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "flights.csv").write_bytes(GOOD)
    with pytest.raises(ConfigError) as caught:
        check(tmp_path / "flihgts.csv")
    assert caught.value.hint == "did you mean 'flights.csv'?"


def test_a_sample_that_is_missing_can_be_fetched(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flights.csv").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check(tmp_path / "data" / "taxi.csv")
    assert caught.value.hint == "a sample; to fetch it: headrace data fetch taxi data"


def test_absent_column_names_the_nearest(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"n,c,yy\n1,a,0\n")
    with pytest.raises(ConfigError) as caught:
        check(tmp_path / "rows.csv")
    assert caught.value.hint == "did you mean 'yy'?"


def test_wrong_delimiter_is_suspected(tmp_path):
    (tmp_path / "rows.csv").write_bytes(GOOD.replace(b",", b";"))
    with pytest.raises(ConfigError) as caught:
        check(tmp_path / "rows.csv")
    assert "data.csv.delimiter" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (GOOD, {}),
        (b"\xef\xbb\xbf" + GOOD, {}),
        (b"\n" + GOOD.replace(b"\n", b"\r\n"), {}),
        (b'"n","c","y","a ""quoted"", name\nin two lines"\n1,a,0,x\n', {}),
        (b"n,c,y\n1,a,0\nx,b,1\n3,b,1\n", {}),
        (
            GOOD.replace(b"c,", b"caf\xe9,c,").replace(b",a", b",,a").replace(b",b", b",,b"),
            {"encoding": "latin-1"},
        ),
    ],
)
def test_sound_text_files(tmp_path, content, options):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    source = check(path, csv=options)
    assert source.paths == (str(path),)
    assert source.size_bytes == len(content)


def test_folder_glob_and_compression_find_the_same_files(tmp_path):
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(GOOD))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    expected = (str(tmp_path / "a.csv"), str(tmp_path / "b.csv.gz"))
    assert check(tmp_path).paths == expected
    assert check(tmp_path / "*.csv*").paths == expected


def test_every_file_of_a_folder_is_checked(tmp_path):
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "b.csv").write_bytes(b"n,c\n1,a\n")
    with pytest.raises(ConfigError, match=r"no label column 'y'.*b\.csv"):
        check(tmp_path)


def test_broken_gzip(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"\x1f\x8b\x08\x00junk that is no deflate stream")
    with pytest.raises(ConfigError, match="must decompress"):
        check(tmp_path / "a.csv.gz")


def test_unknown_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes(GOOD)
    with pytest.raises(ConfigError, match=r"`data\.csv\.encoding` must be .*utf-9"):
        check(tmp_path / "a.csv", csv={"encoding": "utf-9"})


def test_parquet_schema_is_checked(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["x"], "c": ["a"], "y": [1]}), path)
    with pytest.raises(ConfigError, match=r"'n' is read as float\. Received: Parquet type string"):
        check(path)
    pq.write_table(pa.table({"n": [1], "c": [[1]], "y": [1]}), path)
    with pytest.raises(ConfigError, match=r"'c' is read as string\. Received: Parquet type list"):
        check(path)
    pq.write_table(pa.table({"n": pa.array([], pa.int8()), "c": pa.array([], pa.string()), "y": []}), path)
    with pytest.raises(ConfigError, match="a schema and no rows"):
        check(path)
    with open(path, "wb") as stream:
        stream.write(os.urandom(64))
    with pytest.raises(ConfigError, match="must be Parquet"):
        check(path)


def test_a_large_file_is_checked_by_its_start(tmp_path):
    path = tmp_path / "rows.csv"
    with open(path, "wb") as stream:
        stream.write(b"n,c,y\n")
        stream.writelines([b"1,a,0\n" * 1000] * 8000)  # 48 MB
    start = time.process_time()
    check(path)
    assert time.process_time() - start < 0.5
