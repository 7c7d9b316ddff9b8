"""TFRecords of tf.Example, written by TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from headrace.data.columns import RawColumn
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected
from headrace.data.readers import tfrecord
from headrace.data.readers.rows import read_blocks
from headrace.data.readers.tfrecord import check_examples, example_names


def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write(path, rows):
    options = tf.io.TFRecordOptions(compression_type="GZIP" if str(path).endswith(".gz") else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for row in rows:
            features = {name: feature(values) for name, values in row.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


ROWS = [
    {"n": [3], "x": [1.5], "c": ["é".encode()], "l": [1.0, float("nan")], "y": [b"u", b"v"]},
    {"n": [-(2**40)], "c": [b""], "l": [2.0], "y": [b"v"]},
    {"x": [float("nan")], "y": [b"w"]},
]


def section(path, **data):
    return DataConfig(path=str(path), label="y", task="multilabel", **data)


COLUMNS = [
    RawColumn("n", "int"), RawColumn("x", "float"), RawColumn("c", "string"), RawColumn("l", "floats"),
    RawColumn("y", "string"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
@pytest.mark.parametrize("batch", [2, 100])
def test_values_of_every_kind(tmp_path, monkeypatch, name, batch):
    monkeypatch.setattr(tfrecord, "_BATCH_ROWS", batch)
    path = tmp_path / name
    write(path, ROWS)
    blocks = list(read_blocks([str(path)], section(path), COLUMNS))
    found = [row for block in blocks for row in block.batch.to_pylist()]
    assert [block.first_row for block in blocks] == ([1, 3] if batch == 2 else [1])
    np.testing.assert_array_equal(found[0].pop("l"), [1.0, np.nan])
    assert found == [
        {"n": 3, "x": 1.5, "c": "é", "y": "u|v"},
        {"n": -(2**40), "x": None, "c": None, "l": [2.0], "y": "v"},
        {"n": None, "x": None, "c": None, "l": None, "y": "w"},
    ]
    assert example_names(str(path)) == ["c", "l", "n", "x", "y"]


def test_integers_may_be_read_as_text_numbers_or_lists(tmp_path):
    path = tmp_path / "a.tfrecord"
    write(path, [{"n": [7], "y": [b"u"]}])
    for kind, expected in (("string", "7"), ("float", 7.0), ("floats", [7.0])):
        (block,) = read_blocks([str(path)], section(path), [RawColumn("n", kind)])
        assert block.batch.column(0).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (RawColumn("l", "float"), r"column 'l' is read as float\. Received: several values in an example"),
        (RawColumn("c", "float"), r"column 'c' is read as float\. Received: bytes_list"),
        (RawColumn("n", "image"), r"column 'n' is read as image\. Received: int64 values"),
    ],
)
def test_wrong_types_are_found_by_the_first_records(tmp_path, column, message):
    path = tmp_path / "a.tfrecord"
    write(path, ROWS)
    with pytest.raises(ConfigError, match=message):
        check_examples(str(path), section(path), [column])


def damaged(path, how):
    write(path, ROWS)
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[-3:]
    elif how == "length":
        content[2] ^= 1
    else:
        content[20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"whole records\. Received: the file ends within it \(record 3 of"),
        ("length", r"a length that its checksum does not confirm \(record 1 of"),
        ("data", r"data that its checksum does not confirm \(record 1 of"),
    ],
)
def test_damaged_files(tmp_path, how, message):
    path = tmp_path / "a.tfrecord"
    damaged(path, how)
    with pytest.raises(DataRejected, match=message):
        list(read_blocks([str(path)], section(path), COLUMNS))
    with pytest.raises(ConfigError, match=message):
        example_names(str(path))


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ({"x": [1.0, 2.0]}, RawColumn("x", "float"), r"one value in an example\. Received: 2 \(row 301 of"),
        ({"x": [b"a"]}, RawColumn("x", "float"), r"records must be of tf\.Example\. Received"),
        ({"c": [b"\xff"]}, RawColumn("c", "string"), r"column 'c' must be UTF-8.*\(row 301 of"),
        (
            {"x": [float("inf")]},
            RawColumn("x", "float"),
            r"must be finite in 32 bits\. Received: inf .*row 301",
        ),
    ],
)
def test_content_that_does_not_fit(tmp_path, row, column, message):
    """Beyond the records that the first look sees."""
    path = tmp_path / "a.tfrecord"
    write(path, [{"x": [1.0], "c": [b"a"]}] * 300 + [row])
    with pytest.raises(DataRejected, match=message):
        list(read_blocks([str(path)], section(path), [column]))


def test_files_without_records_or_of_another_format(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"must have rows\. Received: no records"):
        example_names(str(path))
    write(tmp_path / "b.tfrecord.gz", ROWS)
    (tmp_path / "b.tfrecord.gz").rename(path)
    with pytest.raises(ConfigError, match="whole records") as caught:
        example_names(str(path))
    assert caught.value.hint == "it is compressed: its name must end in .gz"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xffno example")
    with pytest.raises(ConfigError, match=r"records must be of tf\.Example"):
        example_names(str(path))
