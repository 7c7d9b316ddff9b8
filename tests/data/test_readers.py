"""Streams of typed rows, and errors that name the exact place."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.data.columns import RawColumn
from headrace.data.config import DataConfig
from headrace.data.errors import DataRejected
from headrace.data.readers import csv as csv_reader
from headrace.data.readers.rows import read_blocks
from headrace.data.readers.values import as_text

COLUMNS = (RawColumn("c", "string"), RawColumn("n", "float"), RawColumn("i", "int"))


def read(path, columns=COLUMNS, **values):
    data = DataConfig.model_validate({"path": str(path), "label": "y", **values})
    blocks = list(read_blocks([str(path)], data, columns))
    return pa.Table.from_batches([block.batch for block in blocks]), blocks


def test_types_and_missing_values(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('i,n,c,other\n1,0.5,x,z\n,NA,"",z\n3.0,nan,"a, ""b""\nc",z\n')
    table, _ = read(path)
    assert table.to_pydict() == {"c": ["x", None, 'a, "b"\nc'], "n": [0.5, None, None], "i": [1, None, 3]}
    assert table.schema.types == [pa.string(), pa.float64(), pa.int64()]


def test_tsv_gzip_and_encoding(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress("c\tn\ti\ncafé\t1\t2\n".encode("latin-1")))
    table, _ = read(path, csv={"encoding": "latin-1"})
    assert table.to_pylist() == [{"c": "café", "n": 1.0, "i": 2}]


def test_blocks_number_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1000)
    path = tmp_path / "a.csv"
    path.write_text("c,n,i\n" + "".join(f"v{i},{i}.5,{i}\n" for i in range(1, 501)))
    table, blocks = read(path)
    assert len(blocks) > 5
    assert [block.first_row for block in blocks] == [block.batch.column("i")[0].as_py() for block in blocks]
    assert table.column("i").to_pylist() == list(range(1, 501))
    assert blocks[3].place(0) == f"row {blocks[3].first_row}, line {blocks[3].first_row + 1} of {path}"


def test_csv_agrees_with_pandas(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "c": rng.choice(["a", "b c", 'd"e', None], 2000),
            "n": rng.normal(size=2000),
            "i": rng.integers(0, 9, 2000),
        }
    )
    frame.loc[::7, "n"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    expected = pd.read_csv(tmp_path / "a.csv")
    found = read(tmp_path / "a.csv")[0].to_pandas()
    pd.testing.assert_frame_equal(
        found.replace({None: np.nan}), expected.replace({None: np.nan}), check_dtype=False
    )


def test_parquet_agrees_with_csv(tmp_path):
    table = pa.table(
        {"i": [1, None, 3], "c": ["x", "", None], "n": [0.5, float("nan"), None], "extra": [1, 2, 3]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found, _ = read(tmp_path / "a.parquet")
    assert found.to_pydict() == {"c": ["x", None, None], "n": [0.5, None, None], "i": [1, None, 3]}


def test_parquet_types_become_text_and_numbers(tmp_path):
    table = pa.table(
        {
            "c": pa.array(["a", "b"]).dictionary_encode(),
            "n": pa.array([True, False]),
            "i": pa.array([1.0, 2.0], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0].to_pydict() == {"c": ["a", "b"], "n": [1.0, 0.0], "i": [1, 2]}


def test_numbers_as_text():
    assert as_text(pa.array([1.0, 1.5, None, float("nan"), -0.0])).to_pylist() == [
        "1",
        "1.5",
        None,
        None,
        "0",
    ]
    assert as_text(pa.array([1, None])).to_pylist() == ["1", None]
    assert as_text(pa.array([True, False])).to_pylist() == ["true", "false"]


BIG = "c,n,i\n" + "ok,1,1\n" * 3000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            BIG + "a,x1,2\n" + "ok,1,1\n" * 9,
            r"'n' is read as a number\. Received: 'x1' \(row 3001, line 3002 of",
        ),
        ('c,n,i\n"two\nlines",1,1\n\na,x1,2\n', r"Received: 'x1' \(row 2, line 5 of"),
        (
            BIG + "a,1\n" + BIG[6:],
            r"must have the 3 fields of the header\. Received: 2 \(row 3001, line 3002 of",
        ),
        (BIG + "a,1,2,3\n", r"Received: 4 \(row 3001, line 3002"),
        (BIG + "a,inf,2\n", r"must be finite in 32 bits\. Received: inf in column 'n' \(row 3001, line 3002"),
        (BIG + "a,-1e39,2\n", r"must be finite in 32 bits\. Received: -1e\+39 in column 'n' \(row 3001"),
        (
            BIG + "a,1,2.5\n",
            r"`int` column must hold whole.*Received: 2\.5 in column 'i' \(row 3001, line 3002",
        ),
        (BIG + "a,1,1e17\n", r"within ±2\^53\. Received: 1e\+17 in column 'i'"),
        (
            BIG.encode() + b"caf\xe9,1,1\n",
            r"must be utf-8\. Received: byte 0xe9 at byte offset 21009 \(line 3002",
        ),
        (BIG.encode() + b"a,1,\xff\n", r"Received: byte 0xff at byte offset 21010"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_content_is_rejected_with_its_place(tmp_path, content, message, packed):
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataRejected, match=message) as caught:
        read(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message


def test_bad_value_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1000)
    path = tmp_path / "a.csv"
    path.write_text(BIG + "a,?,1\n")
    with pytest.raises(DataRejected, match=r"Received: '\?' \(row 3001, line 3002") as caught:
        read(path)
    assert "null_values" in caught.value.hint
    path.write_text(BIG + "a,inf,1\n")
    with pytest.raises(DataRejected, match=r"Received: inf .*\(row 3001, line 3002"):
        read(path)


def test_undecodable_byte_after_a_cut_character(tmp_path, monkeypatch):
    from headrace.data.readers import csv_faults

    monkeypatch.setattr(csv_faults, "_CHUNK_BYTES", 4)
    path = tmp_path / "a.csv"
    path.write_bytes("c\naé\nüü\n".encode() + b"\xc3(\n")
    assert csv_faults.find_undecodable(str(path), "utf-8") == (11, 4, 0xC3)


def test_truncated_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(9000).hex().encode())[:-2000])
    with pytest.raises(DataRejected, match="must decompress"):
        read(path, [RawColumn("c", "string")])


def test_corrupt_parquet_page(tmp_path):
    path = tmp_path / "a.parquet"
    values = np.random.default_rng(0).normal(size=20_000)
    pq.write_table(pa.table({"c": ["a"] * 20_000, "n": values, "i": range(20_000)}), path, compression="gzip")
    raw = bytearray(path.read_bytes())
    raw[2000:60_000] = bytes(58_000)
    path.write_bytes(raw)
    with pytest.raises(DataRejected, match=r"Parquet file must be readable.*a\.parquet"):
        read(path)
