import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2

from headrace.components.node import NodeContext
from headrace.components.validation import statistics
from headrace.data.errors import DataRejected
from tests.components.validation_room import (
    Room,
    feature_stats,
    make_rows,
    usual,
    write_split,
)


def test_statistics_agree_with_stock_tfdv(tmp_path: Path) -> None:
    rows = make_rows(3000, 7)
    paths = write_split(tmp_path / "Split-train", rows, shards=3)
    # Batches far smaller than the data, so that accumulators are merged and compacted on the way.
    ours = statistics.compute_statistics(statistics.read_record_batches(paths, batch_rows=128))
    stock = tfdv.generate_statistics_from_tfrecord(
        str(tmp_path / "Split-train" / "*.gz"),
        pipeline_options=_fn_api_runner(),
    )
    (mine,), (theirs,) = ours.datasets, stock.datasets
    assert mine.num_examples == theirs.num_examples == 3000
    assert {tuple(f.path.step) for f in mine.features} == {tuple(f.path.step) for f in theirs.features}
    for name in rows[0]:
        a, b = feature_stats(ours, name), feature_stats(stock, name)
        assert a.type == b.type
        kind = a.WhichOneof("stats")
        assert kind == b.WhichOneof("stats")
        a, b = getattr(a, kind), getattr(b, kind)
        assert a.common_stats.num_non_missing == b.common_stats.num_non_missing
        assert a.common_stats.num_missing == b.common_stats.num_missing
        assert a.common_stats.min_num_values == b.common_stats.min_num_values
        if kind == "num_stats":
            for field in ("mean", "std_dev", "min", "max", "num_zeros"):
                assert getattr(a, field) == pytest.approx(getattr(b, field), rel=1e-9)
            # TFDV's quantile sketch promises ranks within 1 %; both estimates may be off.
            values = np.sort([row[name] for row in rows])
            assert np.searchsorted(values, a.median) / 3000 == pytest.approx(
                0.5, abs=0.1 if name == "month" else 0.01
            )
            spread = float(values[-1] - values[0])
            assert a.median == pytest.approx(b.median, abs=0.02 * spread)
        else:
            assert a.unique == b.unique == len({row[name] for row in rows} - {None})
            assert [(v.value, v.frequency) for v in a.top_values] == [
                (v.value, v.frequency) for v in b.top_values
            ]


def _fn_api_runner() -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"])


def test_the_statistics_node_writes_stock_files(tmp_path: Path) -> None:
    results, base = Room(tmp_path).run(usual())
    assert results["statistics"].finding == "6 columns; rows: eval 200, test 200, train 600"
    for split, count in (("train", 600), ("eval", 200), ("test", 200)):
        message = tfdv.load_stats_binary(str(base / f"statistics/Split-{split}/FeatureStats.pb"))
        assert message.datasets[0].num_examples == count
        assert feature_stats(message, "tail").string_stats.common_stats.num_missing == count // 10


def test_statistics_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    _, first = Room(tmp_path).run(usual(), "a")
    _, second = Room(tmp_path).run(usual(), "b")
    path = "statistics/Split-train/FeatureStats.pb"
    assert (first / path).read_bytes() == (second / path).read_bytes()


def test_weighted_statistics(tmp_path: Path) -> None:
    paths = write_split(
        tmp_path, make_rows(100, 0, w=lambda i: 2.0 if i < 50 else 0.0, month=lambda i: int(i < 50))
    )
    message = statistics.compute_statistics(statistics.read_record_batches(paths), "w")
    stats = feature_stats(message, "month").num_stats
    assert stats.mean == pytest.approx(0.5)
    assert stats.weighted_numeric_stats.mean == pytest.approx(1.0)


def test_an_empty_split_has_empty_statistics() -> None:
    message = statistics.compute_statistics([])
    assert message.datasets[0].num_examples == 0
    assert isinstance(message, statistics_pb2.DatasetFeatureStatisticsList)


@pytest.mark.parametrize("damage", ["flipped", "not gzip", "not an example"])
def test_a_damaged_shard_is_rejected_by_name(tmp_path: Path, damage: str) -> None:
    good, bad = write_split(tmp_path, make_rows(200, 0))
    content = bad.read_bytes()
    if damage == "flipped":
        plain = bytearray(gzip.decompress(content))
        plain[40] ^= 255
        bad.write_bytes(gzip.compress(bytes(plain)))
    elif damage == "not gzip":
        bad.write_bytes(b"plain text, and long enough to be read as a header of a record")
    else:
        with tf.io.TFRecordWriter(str(bad), "GZIP") as writer:
            writer.write(b"\xff\xff not a proto")
    with pytest.raises(DataRejected, match=rf"must be whole TFRecord files.*{re.escape(bad.name)}"):
        list(statistics.read_record_batches([good, bad]))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.9])
def test_a_shard_cut_short_is_rejected(tmp_path: Path, kept: float) -> None:
    room = Room(tmp_path)
    _, base = room.run(usual())
    shard = base / "examples/Split-eval/data_tfrecord-00000-of-00002.gz"
    content = shard.read_bytes()
    # Where the cut falls between two records TensorFlow sees no damage; the count of rows does.
    shard.write_bytes(content[: int(kept * len(content))])
    ctx = NodeContext(
        "statistics", "r", {"examples": [str(base / "examples")]}, {"statistics": str(base / "again")}, {}, ""
    )
    with pytest.raises(
        DataRejected, match=r"must be whole TFRecord files|must hold every row.*: 200\. Received: 1"
    ):
        statistics.run(ctx)
