"""Framing and fingerprints, each against an independent source."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from headrace.components.ingest import fingerprint as fp
from headrace.components.ingest.shuffle import Spill, bucket_count
from headrace.components.ingest.tfrecord import encode_examples, frame_records, write_shards
from headrace.data.errors import EnvironmentProblem


def test_framing_is_what_tensorflow_writes(tmp_path):
    records = [b"", b"a", b"x" * 5000, "é".encode()]
    path = str(tmp_path / "theirs")
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    with open(path, "rb") as stream:
        assert stream.read() == frame_records(records)


def test_examples_decode_to_the_same_values():
    batch = pa.RecordBatch.from_pydict(
        {"i": pa.array([1, None, -3]), "f": pa.array([None, 0.5, 2.0]), "s": pa.array(["", "b", None])}
    )
    decoded = ExamplesToRecordBatchDecoder().DecodeBatch(encode_examples(batch)).to_pydict()
    assert decoded == {"f": [None, [0.5], [2.0]], "i": [[1], None, [-3]], "s": [[b""], [b"b"], None]}


def test_shards_are_even_and_in_order(tmp_path):
    rows = 10_007
    batches = [
        pa.RecordBatch.from_pydict({"i": list(range(a, min(a + 1111, rows)))}) for a in range(0, rows, 1111)
    ]
    names = write_shards(str(tmp_path), batches, rows, 3)
    assert names == [f"data_tfrecord-0000{index}-of-00003.gz" for index in range(3)]
    found, sizes = [], []
    for name in names:
        records = list(tf.data.TFRecordDataset(str(tmp_path / name), "GZIP").as_numpy_iterator())
        sizes.append(len(records))
        found += [
            tf.train.Example.FromString(record).features.feature["i"].int64_list.value[0]
            for record in records
        ]
    assert found == list(range(rows))
    assert max(sizes) - min(sizes) <= 1


def test_spill_returns_every_row_of_its_split(tmp_path):
    rows = 5000
    splits = np.random.default_rng(0).integers(0, 3, rows).astype(np.uint8)
    batch = pa.RecordBatch.from_pydict({"i": np.arange(rows)})
    with Spill(str(tmp_path), batch.schema, 5, seed=-1) as spill:
        for start in range(0, rows, 700):
            parts = spill.add(batch.slice(start, 700), splits[start : start + 700])
            assert [len(part) for part in parts] == np.bincount(
                splits[start : start + 700], minlength=3
            ).tolist()
    found = {
        name: pa.Table.from_batches(spill.read(name))["i"].to_numpy() for name in ("train", "eval", "test")
    }
    assert sorted(found["train"]) == np.flatnonzero(splits == 0).tolist()
    assert found["eval"].tolist() == np.flatnonzero(splits == 1).tolist()
    assert found["test"].tolist() == np.flatnonzero(splits == 2).tolist()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([("a.csv", 1)], 1),
        ([("a.csv", 33 << 20)], 2),
        ([("a.csv.gz", 32 << 20)], 8),
        ([("a.csv", 1 << 50)], 256),
    ],
)
def test_bucket_count_bounds_memory(files, expected):
    assert bucket_count(files) == expected


def test_fingerprint_is_of_content_and_names(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    paths = {}
    for folder in ("one", "two"):
        for name in ("b.csv", "a.csv"):
            (tmp_path / folder / name).write_text(f"content of {name}")
            os.utime(tmp_path / folder / name, (1, len(paths)))
        paths[folder] = [str(tmp_path / folder / name) for name in ("b.csv", "a.csv")]
    expected = hashlib.sha256()
    for name in ("a.csv", "b.csv"):
        expected.update(f"{name}\0{hashlib.sha256(f'content of {name}'.encode()).hexdigest()}\n".encode())
    assert fp.content_fingerprint(paths["one"]) == expected.hexdigest()
    assert fp.content_fingerprint(paths["two"][::-1]) == expected.hexdigest()
    os.rename(paths["one"][0], tmp_path / "one" / "c.csv")
    assert fp.content_fingerprint([str(tmp_path / "one" / "c.csv"), paths["one"][1]]) != expected.hexdigest()


def test_fingerprint_cache_is_used_and_distrusts_change(tmp_path):
    path, cache = str(tmp_path / "a.csv"), str(tmp_path / "store" / "prints.json")
    with open(path, "w") as stream:
        stream.write("one")
    os.utime(path, (10, 10))
    first = fp.content_fingerprint([path], cache)
    entries = json.loads((tmp_path / "store" / "prints.json").read_text())
    assert list(entries) == [path]
    # A forged entry shows that the cache is what answers.
    entries[path][3] = "0" * 64
    (tmp_path / "store" / "prints.json").write_text(json.dumps(entries))
    assert fp.content_fingerprint([path], cache) == fp.combine_digests([fp.FileDigest("a.csv", 3, "0" * 64)])
    # Same size and time, other inode: read again.
    with open(str(tmp_path / "new"), "w") as stream:
        stream.write("one")
    os.utime(tmp_path / "new", (10, 10))
    os.replace(tmp_path / "new", path)
    assert fp.content_fingerprint([path], cache) == first


def test_a_file_written_just_now_is_not_remembered(tmp_path):
    path, cache = str(tmp_path / "a.csv"), str(tmp_path / "prints.json")
    with open(path, "w") as stream:
        stream.write("one")
    fp.content_fingerprint([path], cache)
    assert not os.path.exists(cache)


@pytest.mark.parametrize("content", ["", "[]", "{broken"])
def test_a_broken_cache_is_no_error(tmp_path, content):
    path, cache = tmp_path / "a.csv", tmp_path / "prints.json"
    path.write_text("one")
    os.utime(path, (10, 10))
    cache.write_text(content)
    assert fp.content_fingerprint([str(path)], str(cache)) == fp.content_fingerprint([str(path)])


def test_unreadable_file(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"must be readable\. Received: No such file"):
        fp.content_fingerprint([str(tmp_path / "absent")])
