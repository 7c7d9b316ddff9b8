"""The newest of dated and numbered files."""

import os

import pytest

from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError
from headrace.data.readers.files import find_files
from headrace.data.readers.spans import newest_span


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x,y\n1,0\n")


FILES = {
    "day-{YYYY}-{MM}-{DD}.csv": (
        ["day-2024-12-31.csv", "day-2025-01-09.csv", "day-2025-01-10.csv", "day-2025-13-40.csv"],
        "day-2025-01-10.csv",
        20098,  # days from 1970-01-01: datetime.date(2025, 1, 10).toordinal() - 719163
        None,
    ),
    "{YYYY}/{MM}/{DD}/*.csv": (["2025/02/01/a.csv", "2025/01/31/b.csv"], "2025/02/01/*.csv", 20120, None),
    "span-{SPAN}/data.csv": (["span-9/data.csv", "span-010/data.csv"], "span-010/data.csv", 10, None),
    "{SPAN:3}-v{VERSION}.csv": (
        ["007-v2.csv", "007-v10.csv", "006-v99.csv", "1000-v1.csv"],
        "007-v10.csv",
        7,
        10,
    ),
    "{YYYY}{MM}{DD}/part-{YYYY}{MM}{DD}-?.csv": (
        ["20250101/part-20250101-a.csv", "20250102/part-20250101-a.csv"],
        "20250101/part-20250101-?.csv",
        20089,
        None,
    ),
}


@pytest.mark.parametrize("pattern", FILES)
def test_the_newest_is_taken(tmp_path, pattern):
    names, newest, number, version = FILES[pattern]
    touch(tmp_path, *names)
    found = newest_span(str(tmp_path / pattern))
    assert (os.path.relpath(found.path, tmp_path), found.number, found.version) == (newest, number, version)


@pytest.mark.parametrize(
    "pattern", ["day-{YYYY}-{MM}-{DD}.csv", "span-{SPAN:2}.csv", "span-{SPAN:2}/v{VERSION:1}/*.csv"]
)
def test_tfx_finds_the_same_span(tmp_path, pattern):
    """Held to TFX's own search."""
    from tfx.components.example_gen import utils
    from tfx.proto import example_gen_pb2

    touch(tmp_path, "day-2025-01-09.csv", "day-2024-11-30.csv", "span-07.csv", "span-11.csv")
    touch(tmp_path, "span-04/v1/a.csv", "span-04/v3/a.csv", "span-03/v7/a.csv")
    split = example_gen_pb2.Input.Split(name="all", pattern=pattern)
    _, number, version = utils.calculate_splits_fingerprint_span_and_version(str(tmp_path), [split], None)
    found = newest_span(str(tmp_path / pattern))
    assert (found.number, found.version) == (number, version)
    assert os.path.relpath(found.path, tmp_path) == split.pattern


def test_files_of_the_newest_folder(tmp_path):
    touch(tmp_path, "2025-01-01/a.csv", "2025-01-02/b.csv", "2025-01-02/c.csv", "2025-01-02/notes.txt")
    found = find_files(DataConfig(path=str(tmp_path / "{YYYY}-{MM}-{DD}"), label="y"))
    assert [os.path.relpath(path, tmp_path) for path in found] == ["2025-01-02/b.csv", "2025-01-02/c.csv"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{YYYY}-{MM}.csv", r"\{YYYY\}, \{MM\} and \{DD\} together, or \{SPAN\}\. Received: \{YYYY\} \{MM\}"),
        ("{VERSION}.csv", r"together, or \{SPAN\}\. Received: \{VERSION\}"),
        ("{SPAN}-{YYYY}{MM}{DD}.csv", r"together, or \{SPAN\}\. Received: \{SPAN\} \{YYYY\} \{MM\} \{DD\}"),
        ("{SPAN}.parquet", r"with \{SPAN\} must match a file or folder\. Received: .*\{SPAN\}\.parquet"),
    ],
)
def test_paths_without_a_newest(tmp_path, pattern, message):
    touch(tmp_path, "1.csv")
    with pytest.raises(ConfigError, match=message):
        find_files(DataConfig(path=str(tmp_path / pattern), label="y"))
