"""Nodes handed over to Beam write what they write in their own process; here on Beam's in-process runner."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from headrace.components.beam_job import beam_job
from headrace.components.evaluation.tfma import write_tfma
from headrace.components.evaluation.tfma_beam import BeamSide
from headrace.components.features.run import run as transform
from headrace.components.ingest import shuffle
from headrace.components.ingest.run import kept_here
from headrace.components.ingest.run import run as ingest
from headrace.components.node import NodeContext
from headrace.components.validation import statistics
from headrace.components.validation.distributions import read_distributions
from headrace.data.config import DataConfig
from headrace.data.errors import DataRejected, EnvironmentProblem
from tests.components.test_evaluation_tfma import ROWS, SPECS, loaded, make_judge
from tests.components.test_ingest import context, frame
from tests.components.transformed import BEAM_ARGS, FEATURES, fitted_tabular
from tests.components.validation_room import Room, usual

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


def on_beam(ctx: NodeContext) -> NodeContext:
    """Return the context as the launcher gives it where `beam.runner` is not direct."""
    return replace(ctx, beam_args=BEAM_ARGS, beam_runner="prism")


def files(folder: Path) -> dict[str, Any]:
    """Return every file below a folder by relative path: examples of record files, bytes of others."""
    return {
        str(path.relative_to(folder)): examples(path) if path.suffix == ".gz" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def examples(path: Path) -> list[bytes]:
    """Return the examples of a file in order; the order of columns in one has no meaning, and varies."""
    records = tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()
    return [tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in records]


def write_parts(folder: Path, table: pd.DataFrame, sizes: list[int]) -> Path:
    folder.mkdir()
    ends = np.cumsum(sizes)
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        table.iloc[start:end].to_csv(folder / f"part-{number}.csv", index=False)
    return folder


class TestIngest:
    def test_rows_and_their_order_are_those_of_one_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shuffle, "_BUCKET_BYTES", 20_000)  # several buckets
        path = write_parts(tmp_path / "data", frame(), [1700, 1, 1299])
        here = context(tmp_path, path, weight="w", shards=3)
        there = on_beam(context(tmp_path, path, weight="w", shards=3))
        alone, spread = ingest(here), ingest(there)
        expected = files(Path(here.outputs["examples"]))
        assert files(Path(there.outputs["examples"])) == expected
        assert len(expected) == 12
        assert alone.properties["examples"]["beam_runner"] == "direct"
        assert spread.properties["examples"]["beam_runner"] == "prism"
        assert spread.finding == alone.finding.replace(" test;", " test, by Beam on prism;", 1)

    @pytest.mark.parametrize(
        ("rows", "split"),
        [
            (1500, {"method": "hash"}),
            (1500, {"method": "hash", "key": ["k"], "seed": 3}),
            (300, {"method": "hash", "key": ["k"]}),
            (300, {"method": "hash", "train": 0.6, "eval": 0.2, "test": 0.2}),
            (1500, {"method": "time", "column": "day", "eval_from": "2025-02-20", "test_from": "2025-03-10"}),
        ],
    )
    def test_splits_are_those_of_one_process(self, tmp_path: Path, rows: int, split: dict[str, Any]) -> None:
        table = frame(rows).drop(columns=["id", "n", "day", "part"])
        table["day"] = frame(rows)["day"] if split["method"] == "time" else "2025-01-01"
        table["y"] = ["rare", "rarer", "a"] * 3 + ["a", "b"] * ((rows - 9) // 2) + ["b"] * ((rows - 9) % 2)
        table["k"] %= 17
        path = write_parts(tmp_path / "data", table, [rows // 3, rows - rows // 3])
        features = {"c": {"kind": "categorical"}, "k": {"kind": "numeric"}}
        here = context(tmp_path, path, features=features, task="multiclass", split=split)
        there = on_beam(context(tmp_path, path, features=features, task="multiclass", split=split))
        ingest(here)
        ingest(there)
        expected = files(Path(here.outputs["examples"]))
        assert files(Path(there.outputs["examples"])) == expected
        assert {"keys/train.npy", "keys/test.npy"} < expected.keys()

    def test_the_first_bad_file_is_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        table = frame(300).assign(w=1.0)
        table.loc[150, "w"] = -1
        table.loc[250, "w"] = -2
        there = on_beam(context(tmp_path, write_parts(tmp_path / "data", table, [100, 100, 100]), weight="w"))
        with pytest.raises(DataRejected, match=r"weights must be >= 0\. Received: -1.*row 51, .*part-1\.csv"):
            ingest(there)
        assert not files(Path(there.outputs["examples"]))

    def test_labels_are_judged_over_all_files(self, tmp_path: Path) -> None:
        table = frame(300).assign(y=[0] * 200 + [1] * 50 + [2] * 50)
        there = on_beam(context(tmp_path, write_parts(tmp_path / "data", table, [100, 100, 100])))
        with pytest.raises(DataRejected, match=r"binary label must have two classes\. Received: 3"):
            ingest(there)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({}, ""),
            ({"format": "images"}, "a folder of images is one listing"),
            (
                {
                    "windows": {"columns": ["n"], "length": 3, "order": "day", "group": ["s"]},
                    "split": {"method": "hash", "key": ["s"]},
                },
                "windows are cut across rows",
            ),
        ],
    )
    def test_what_needs_one_process_is_known(self, changes: dict[str, Any], reason: str) -> None:
        assert kept_here(DataConfig.model_validate({"path": "x", "label": "y", **changes})) == reason


def test_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    _, base = Room(tmp_path).run(usual())
    there = NodeContext(
        "statistics", "r", {"examples": [str(base / "examples")]},
        {"statistics": str(base / "spread")}, {}, "",
    )  # fmt: skip
    result = statistics.run(on_beam(there))
    assert result.finding == "6 columns; rows: eval 200, test 200, train 600, by Beam on prism"
    assert result.properties == {"statistics": {"beam_runner": "prism"}}
    for split in ("train", "eval", "test"):
        one, many = (
            tfdv.load_stats_binary(str(base / f"{name}/Split-{split}/FeatureStats.pb")).datasets[0]
            for name in ("statistics", "spread")
        )
        by_name = {tuple(feature.path.step): feature for feature in one.features}
        assert [tuple(feature.path.step) for feature in many.features] == sorted(by_name)
        for feature in many.features:
            same_statistics(by_name[tuple(feature.path.step)], feature)
    assert read_distributions(base / "spread") == read_distributions(base / "statistics")


def same_statistics(one: Any, many: Any) -> None:
    """Hold two columns' statistics to each other: counts exactly, sums to rounding."""
    kind = one.WhichOneof("stats")
    assert kind == many.WhichOneof("stats")
    one, many = getattr(one, kind), getattr(many, kind)
    for field in ("num_non_missing", "num_missing", "min_num_values", "max_num_values"):
        assert getattr(one.common_stats, field) == getattr(many.common_stats, field)
    if kind == "num_stats":
        for field in ("mean", "std_dev", "min", "max", "num_zeros"):
            assert getattr(one, field) == pytest.approx(getattr(many, field), rel=1e-9)
    else:
        assert one.unique == many.unique
        assert one.rank_histogram == many.rank_histogram
        assert list(one.top_values) == list(many.top_values)


def test_the_transform_is_that_of_one_process(tmp_path: Path) -> None:
    done = fitted_tabular()
    folders = {name: tmp_path / name for name in ("graph", "transformed", "temp")}
    for folder in folders.values():
        folder.mkdir()
    outputs = {
        "transform_graph": str(folders["graph"]),
        "transformed_examples": str(folders["transformed"]),
    }
    config = {"data": {}, "features": FEATURES, "preprocessing_fn": None}
    inputs = {"examples": [str(done.folder / "examples")], "schema": []}
    result = transform(on_beam(NodeContext("transform", "r", inputs, outputs, config, str(folders["temp"]))))
    assert result.properties["transform_graph"]["beam_runner"] == "prism"
    expected, found = files(done.folder / "transformed"), files(folders["transformed"])
    assert found == expected
    for name in ("features.json", "preprocessing.json", "golden.json"):
        mine, theirs = (
            json.loads((root / "headrace" / name).read_text())
            for root in (folders["graph"], done.folder / "graph")
        )
        assert mine == theirs
    assert files(folders["graph"] / "transform_fn/assets") == files(done.folder / "graph/transform_fn/assets")


@pytest.mark.parametrize(
    ("task", "weighted"), [("binary", True), ("multiclass", False), ("regression", True)]
)
def test_tfma_sees_all_rows_and_slices(task: str, weighted: bool, tmp_path: Path) -> None:
    judge, predictions, texts = make_judge(task, weighted=weighted)
    results = [{"name": "float32", **judge.judge(predictions, None)}]
    given = (judge, SPECS, results, {"float32": predictions}, ("examples", str))
    side = BeamSide(texts, str(tmp_path / "temp"), "prism", BEAM_ARGS)
    outcome = write_tfma(str(tmp_path / "spread"), *given, weighted=weighted, side=side)
    assert (outcome["state"], outcome["rows"], outcome["slices"]) == ("PASS", ROWS, 11), outcome
    assert write_tfma(str(tmp_path / "alone"), *given, weighted=weighted)["state"] == "PASS"
    expected, found = loaded(tmp_path / "alone/float32"), loaded(tmp_path / "spread/float32")
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True), key


SERVER = [sys.executable, "-m", "headrace.components.beam_server"]


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class TestJobServer:
    def test_it_has_a_session_of_its_own_and_hears_interrupts(self) -> None:
        command = [*SERVER, "sh", "-c", "echo $$; exec sleep 60"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=ignore_interrupts
        ) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid == os.getsid(process.pid)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(10) == -signal.SIGINT

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of a parent's death")
    def test_it_ends_with_who_started_it(self) -> None:
        program = (
            "import subprocess, sys\n"
            "started = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
            "print(started.stdout.readline().decode(), flush=True)\n"
        )
        command = [sys.executable, "-c", program, *SERVER, "sh", "-c", "echo $$; exec sleep 60"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        number = int(done.stdout)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and alive(number):
            time.sleep(0.05)
        assert not alive(number)


def alive(number: int) -> bool:
    try:
        status = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def reject(value: int) -> int:
    raise DataRejected(f"a value must be small. Received: {value} (row 3)")


def divide(value: int) -> float:
    return value / 0


class TestErrors:
    def test_an_error_of_ours_keeps_its_kind(self) -> None:
        with (
            pytest.raises(DataRejected, match=r"^a value must be small\. Received: 7 \(row 3\)"),
            beam_job(BEAM_ARGS, "prism") as pipeline,
        ):
            _ = pipeline | beam.Create([7]) | beam.Map(reject)

    def test_another_error_names_the_engine(self) -> None:
        with (
            pytest.raises(EnvironmentProblem, match=r"must end well on prism\. Received: .*division by zero"),
            beam_job(BEAM_ARGS, "prism") as pipeline,
        ):
            _ = pipeline | beam.Create([7]) | beam.Map(divide)
