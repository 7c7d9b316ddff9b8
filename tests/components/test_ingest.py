"""From files to split, shuffled TFRecord shards, or to nothing at all."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from headrace.components.features.columns import column_usages
from headrace.components.features.config import FeaturesConfig
from headrace.components.ingest import shuffle
from headrace.components.ingest.dates import DateTally
from headrace.components.ingest.run import run
from headrace.components.node import NodeContext
from headrace.data.columns import plan_columns
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected, EnvironmentProblem
from headrace.data.readers import csv as csv_reader
from headrace.data.readers.block import Block

FEATURES = {
    "n": {"kind": "numeric"},
    "c": {"kind": "categorical"},
    "k": {"kind": "numeric"},
    "k_c": {"kind": "cross", "of": ["k", "c"]},
}
ROWS = 3000


def frame(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "n": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows).round(4)),
            "c": rng.choice(["a", "b", "é", None], rows),
            "k": rng.integers(0, 50, rows),
            "s": rng.choice(["x", "y"], rows),
            "w": rng.integers(0, 3, rows) / 2,
            "day": np.sort(rng.choice(pd.date_range("2025-01-01", periods=100).strftime("%Y-%m-%d"), rows)),
            "part": rng.choice(["train", "dev", "test"], rows, p=[0.8, 0.1, 0.1]),
            "y": rng.integers(0, 2, rows),
        }
    )


def usages(features: dict) -> list[tuple[str, str]]:
    """Return (column, usage) of a feature spec."""
    return column_usages(TypeAdapter(FeaturesConfig).validate_python(features))


def context(
    root: Path, path: object, seed: int = 1, features: dict | None = None, **data: object
) -> NodeContext:
    """Return the context of a run in its own empty folders below `root`."""
    number = len(list(root.glob("out*")))
    out, temp = root / f"out{number}", root / f"temp{number}"
    out.mkdir()
    temp.mkdir()
    config = {
        "data": {"path": str(path), "label": "y", "split": {"method": "hash", "key": ["id"]}, **data},
        "usages": usages(FEATURES if features is None else features),
        "evaluation.slices": [["s"]],
        "seed": seed,
    }
    return NodeContext("ingest", "run", {}, {"examples": str(out)}, config, str(temp))


def read_back(folder: str, split: str) -> pd.DataFrame:
    """Read a split with TensorFlow: the parser, the checksums and the framing are not ours."""
    files = sorted(tf.io.gfile.glob(f"{folder}/Split-{split}/data_tfrecord-*-of-*.gz"))
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        row = {}
        for name, feature in sorted(tf.train.Example.FromString(record).features.feature.items()):
            kind = feature.WhichOneof("kind")
            (value,) = getattr(feature, kind).value if kind else (None,)
            row[name] = value.decode() if isinstance(value, bytes) else value
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("ingest") / "rows.csv"
    frame().to_csv(path, index=False)
    return path


# The id is a feature here, so that each row can be told apart when read back.
WITH_ID = {**FEATURES, "id": {"kind": "numeric"}}
TYPED = {"columns": {"id": "int"}, "weight": "w"}


def test_every_row_arrives_once_with_its_values(csv_path, tmp_path):
    ctx = context(tmp_path, csv_path, features=WITH_ID, **TYPED)
    result = run(ctx)
    out = ctx.outputs["examples"]
    found = pd.concat([read_back(out, split) for split in ("train", "eval", "test")]).sort_values("id")
    expected = frame().astype({"y": str, "n": np.float32, "w": np.float32})[
        ["n", "c", "k", "id", "y", "w", "s"]
    ]
    pd.testing.assert_frame_equal(
        found[expected.columns].reset_index(drop=True).replace({None: np.nan}),
        expected.replace({None: np.nan}),
        check_dtype=False,
    )
    assert os.listdir(ctx.temp_dir) == []
    assert sorted(os.listdir(out)) == ["Split-eval", "Split-test", "Split-train", "ingest.json", "keys"]
    assert result.finding.startswith("3,000 rows: ")


def test_ingest_json_holds_what_pandas_counts(csv_path, tmp_path):
    import hashlib

    ctx = context(tmp_path, csv_path, features=WITH_ID, **TYPED)
    run(ctx)
    out = ctx.outputs["examples"]
    summary = json.loads(Path(out, "ingest.json").read_text())
    source = csv_path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    assert summary["files"] == [{"path": "rows.csv", "size_bytes": len(source), "sha256": digest}]
    assert summary["sha256"] == hashlib.sha256(f"rows.csv\0{digest}\n".encode()).hexdigest()
    assert summary["features"] == ["n", "c", "k", "id"]
    assert summary["weight"] == "w"
    assert {column["name"]: column["type"] for column in summary["columns"]} == {
        "n": "float", "c": "string", "k": "int", "id": "int", "y": "string", "w": "float", "s": "string",
    }  # fmt: skip
    assert summary["label"]["classes"] == ["0", "1"]
    table = frame().set_index("id")
    for split, rows in summary["splits"].items():
        part = table.loc[read_back(out, split)["id"]]
        assert rows == len(part)
        assert summary["label"]["counts"][split] == {"0": (part.y == 0).sum(), "1": (part.y == 1).sum()}
        missing = {column["name"]: column["missing"][split] for column in summary["columns"]}
        assert missing == part.reset_index()[list(missing)].isna().sum().to_dict()
    assert summary["rows"] == ROWS


def test_hash_split_has_the_shares_and_follows_the_key(csv_path, tmp_path):
    ctx = context(tmp_path, csv_path, features=WITH_ID, split={"method": "hash", "key": ["k"]}, **TYPED)
    run(ctx)
    keys = {split: set(read_back(ctx.outputs["examples"], split)["k"]) for split in ("train", "eval", "test")}
    assert not keys["train"] & keys["eval"]
    assert not keys["train"] & keys["test"]
    assert set.union(*keys.values()) == set(range(50))
    ctx = context(tmp_path, csv_path, split={"method": "hash", "key": ["id"]})
    run(ctx)
    rows = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())["splits"]
    # Five standard deviations of a binomial with 3,000 rows: 5 * sqrt(3000 * 0.8 * 0.2) = 110.
    assert abs(rows["train"] - 2400) < 110
    assert abs(rows["eval"] - 300) < 83


def test_a_row_keeps_its_split_when_others_come_and_go(csv_path, tmp_path):
    part = tmp_path / "part.csv"
    frame().iloc[::-3].to_csv(part, index=False)
    whole_ctx, part_ctx = (
        context(tmp_path, path, s, WITH_ID, **TYPED) for path, s in ((csv_path, 1), (part, 2))
    )
    run(whole_ctx)
    run(part_ctx)
    for split in ("train", "eval", "test"):
        whole = set(read_back(whole_ctx.outputs["examples"], split)["id"])
        assert set(read_back(part_ctx.outputs["examples"], split)["id"]) <= whole


def test_split_by_column(csv_path, tmp_path):
    split = {"method": "column", "column": "part", "eval": ["dev"]}
    ctx = context(tmp_path, csv_path, features=WITH_ID, split=split, **TYPED)
    run(ctx)
    table = frame().set_index("id")
    for name, value in (("train", "train"), ("eval", "dev"), ("test", "test")):
        found = read_back(ctx.outputs["examples"], name)
        assert sorted(found["id"]) == table.index[table.part == value].tolist()
        assert "part" not in found


def test_split_by_time(csv_path, tmp_path):
    split = {"method": "time", "column": "day", "eval_from": "2025-03-01", "test_from": "2025-03-20"}
    ctx = context(tmp_path, csv_path, features=WITH_ID, split=split, **TYPED)
    run(ctx)
    day = frame().day
    expected = {"train": day < "2025-03-01", "eval": (day >= "2025-03-01") & (day < "2025-03-20")}
    expected["test"] = day >= "2025-03-20"
    for name, mask in expected.items():
        assert sorted(read_back(ctx.outputs["examples"], name)["id"]) == np.flatnonzero(mask).tolist()


def test_equal_seed_gives_equal_records_whatever_the_blocks(csv_path, tmp_path, monkeypatch):
    # Records are compared parsed: protobuf leaves the order of a map's bytes open.
    first, again, other = (context(tmp_path, csv_path, seed, WITH_ID, **TYPED) for seed in (1, 1, 2))
    run(first)
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 4000)
    run(again)
    run(other)
    for split in ("train", "eval", "test"):
        a, b, c = (read_back(ctx.outputs["examples"], split) for ctx in (first, again, other))
        pd.testing.assert_frame_equal(a, b[a.columns])
        assert sorted(a["id"]) == sorted(c["id"])
        assert (a["id"].tolist() == c["id"].tolist()) == (split != "train")
    summaries = [Path(ctx.outputs["examples"], "ingest.json").read_text() for ctx in (first, again, other)]
    assert summaries[0] == summaries[1] == summaries[2]


@pytest.mark.parametrize("buckets", [1, 7])
def test_training_rows_are_shuffled_globally(csv_path, tmp_path, monkeypatch, buckets):
    monkeypatch.setattr(shuffle, "_BUCKET_BYTES", -(-csv_path.stat().st_size // buckets))
    ctx = context(tmp_path, csv_path, features=WITH_ID, **TYPED)
    run(ctx)
    order = read_back(ctx.outputs["examples"], "train")["id"].to_numpy()
    # For a uniform order the rank correlation has a standard deviation of 1/sqrt(n) = 0.02, and a
    # row's mean shift is a third of all rows.
    ranks = np.argsort(np.argsort(order))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.08
    assert abs(np.abs(ranks - np.arange(len(ranks))).mean() / len(ranks) - 1 / 3) < 0.02
    held_out = read_back(ctx.outputs["examples"], "test")["id"].to_numpy()
    assert (np.diff(held_out) > 0).all()


def test_a_folder_of_mixed_files_equals_one_file(csv_path, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    table = frame()
    table.iloc[:1000].to_csv(folder / "a.csv", index=False)
    table.iloc[1000:2000].to_csv(folder / "b.csv.gz", index=False)
    pq.write_table(pa.Table.from_pandas(table.iloc[2000:]), folder / "c.parquet")
    one, many = (context(tmp_path, path, features=WITH_ID, **TYPED) for path in (csv_path, folder))
    run(one)
    run(many)
    for split in ("train", "eval", "test"):
        left, right = (read_back(ctx.outputs["examples"], split).sort_values("id") for ctx in (one, many))
        pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True)[left.columns])


def test_regression_label_is_a_number(csv_path, tmp_path):
    features = {"c": {"kind": "categorical"}}
    ctx = context(tmp_path, csv_path, features=features, task="regression", label="k")
    run(ctx)
    summary = json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())
    assert summary["label"] == {"name": "k", "task": "regression", "classes": None, "counts": None}
    assert read_back(ctx.outputs["examples"], "eval")["k"].dtype == float


def test_classes_are_ordered_as_numbers_or_as_declared(tmp_path):
    path = tmp_path / "rows.csv"
    frame(600).assign(y=[10, 9, 100] * 200).to_csv(path, index=False)
    for declared, expected in ([], ["9", "10", "100"]), ([100, 9, 10], ["100", "9", "10"]):
        ctx = context(tmp_path, path, task="multiclass", classes=declared)
        run(ctx)
        assert (
            json.loads(Path(ctx.outputs["examples"], "ingest.json").read_text())["label"]["classes"]
            == expected
        )


def test_fewer_rows_than_shards_leave_no_empty_file(tmp_path):
    path = tmp_path / "rows.csv"
    frame(40).assign(y=[0, 1] * 20).to_csv(path, index=False)
    ctx = context(tmp_path, path, shards=16)
    run(ctx)
    out = ctx.outputs["examples"]
    rows = json.loads(Path(out, "ingest.json").read_text())["splits"]
    for split, count in rows.items():
        assert len(os.listdir(f"{out}/Split-{split}")) == min(16, count)
        assert len(read_back(out, split)) == count


def spoil(column: str, row: int, value: object) -> pd.DataFrame:
    table = frame().astype({column: object})
    table.loc[row - 1, column] = value
    return table


BY_PART = {"split": {"method": "column", "column": "part", "eval": ["dev"]}}
BY_DAY = {"split": {"method": "time", "column": "day", "eval_from": "2025-03-01", "test_from": "2025-03-20"}}


@pytest.mark.parametrize(
    ("table", "data", "message"),
    [
        (
            spoil("n", 1500, "abc"),
            {},
            r"'n' is read as a number\. Received: 'abc' \(row 1500, line 1501 of .*rows\.csv",
        ),
        (spoil("n", 1500, "inf"), {}, r"must be finite.*Received: inf in column 'n' \(row 1500"),
        (spoil("k", 1500, 1.5), {}, r"whole numbers.*Received: 1\.5 in column 'k' \(row 1500"),
        (spoil("k", 1500, 2**24 + 1), {}, r"within ±2\^24.*Received: 16777217 in column 'k' \(row 1500"),
        (spoil("k", 1500, -(2**24) - 1), {}, r"within ±2\^24.*Received: -16777217 in column 'k'"),
        (
            spoil("y", 1500, None),
            {},
            r"must have a label\. Received: 1 rows without 'y', the first at row 1500, line 1501",
        ),
        (spoil("y", 1500, 2), {}, r"binary label must have two classes\. Received: 3, '0', '1', '2'"),
        (spoil("y", 1500, 2), {"classes": [0, 1]}, r"must be one of '0', '1' .*Received: '2' \(row 1500"),
        (frame().assign(y=1), {}, r"at least two classes\. Received: '1' in every row"),
        (frame().assign(y=1), {"task": "regression"}, r"must vary\. Received: 1\.0 in every row"),
        (
            spoil("w", 1500, -0.5),
            {"weight": "w"},
            r"weights must be >= 0\. Received: -0\.5 in column 'w' \(row 1500",
        ),
        (spoil("w", 1500, None), {"weight": "w"}, r"weights must be >= 0\. Received: no value"),
        (spoil("part", 1500, "odd"), BY_PART, r"must hold one of .*'dev'.*Received: 'odd' \(row 1500"),
        (spoil("part", 1500, None), BY_PART, r"'part' must not be missing.*row 1500"),
        (spoil("day", 1500, "1/2/25"), BY_DAY, r"ISO 8601.*Received: '1/2/25' \(row 1500"),
        (frame()[lambda t: t.part != "dev"], BY_PART, r"every split must have rows\. Received: .* 0 eval"),
        (
            frame().assign(y=lambda t: np.where((t.part == "test") & (t.index % 2 == 0), "new", t.y)),
            {**BY_PART, "task": "multiclass"},
            r"must occur in the training split\. Received: class 'new' with 0 train, 0 eval, \d+ test rows",
        ),
        (frame(), {"task": "multiclass", "classes": [0, 1, 2]}, r"class '2' with 0 train, 0 eval, 0 test"),
    ],
)
def test_bad_content_is_rejected_and_nothing_is_left(tmp_path, table, data, message):
    path = tmp_path / "rows.csv"
    table.to_csv(path, index=False)
    ctx = context(tmp_path, path, **data)
    with pytest.raises(DataRejected, match=message) as caught:
        run(ctx)
    assert caught.value.exit_code == 4
    assert os.listdir(ctx.outputs["examples"]) == []
    assert os.listdir(ctx.temp_dir) == []


@pytest.mark.parametrize(
    ("declared", "features"),
    [
        ("int", {"k": {"kind": "categorical"}}),  # up to 2**24 all are float32
        ("string", {"k": {"kind": "categorical"}}),
        ("int", {"k": {"kind": "numeric"}}),  # rounded alike wherever a model answers
    ],
)
def test_large_codes_are_kept_apart_or_are_text_or_amounts(tmp_path, declared, features):
    exact = declared == "int" and features["k"]["kind"] == "categorical"
    values = [2**24, -(2**24)] if exact else [2**24 + 1, -(2**40) - 1]
    path = tmp_path / "rows.csv"
    frame(200).assign(k=np.resize(values, 200)).to_csv(path, index=False)
    ctx = context(tmp_path, path, features=features, columns={"k": declared})
    run(ctx)
    found = {
        value for split in ("train", "eval", "test") for value in read_back(ctx.outputs["examples"], split).k
    }
    assert found == ({str(value) for value in values} if declared == "string" else set(values))


def test_bad_header_is_a_config_error(tmp_path):
    path = tmp_path / "rows.csv"
    frame().drop(columns="c").to_csv(path, index=False)
    ctx = context(tmp_path, path)
    with pytest.raises(ConfigError, match="no column 'c'"):
        run(ctx)
    assert os.listdir(ctx.outputs["examples"]) == []


def test_unwritable_output_is_the_environments_fault(csv_path, tmp_path):
    ctx = context(tmp_path, csv_path)
    out = ctx.outputs["examples"]
    os.rmdir(out)
    Path(out).write_text("a file in the way")
    with pytest.raises(
        EnvironmentProblem, match=r"examples must be writable\. Received: Not a directory"
    ) as caught:
        run(ctx)
    assert caught.value.exit_code == 1
    assert os.listdir(ctx.temp_dir) == []


def test_disk_full_leaves_nothing(csv_path, tmp_path, monkeypatch):
    """The writes fail as they do on a full disk: the kernel's own error, from /dev/full."""
    from headrace.components.ingest import tfrecord

    opened: list[str] = []

    def on_full_disk(path, mode="r", **options):
        opened.append(path)
        return open("/dev/full", mode, **options)

    monkeypatch.setattr(tfrecord, "open", on_full_disk, raising=False)
    ctx = context(tmp_path, csv_path)
    with pytest.raises(EnvironmentProblem, match="No space left on device") as caught:
        run(ctx)
    assert opened
    assert "free disk space" in caught.value.hint
    assert os.listdir(ctx.outputs["examples"]) == []
    assert os.listdir(ctx.temp_dir) == []


def dated(path: Path, texts: list[str], **feature: str) -> dict:
    """Write rows with these dates, and return a config of a feature that reads them."""
    rows = frame(len(texts))
    rows["when"] = texts
    rows.to_csv(path, index=False)
    return {"features": {"n": {"kind": "numeric"}, "when": {"kind": "date", **feature}}}


def test_texts_that_are_no_dates_are_refused_and_counted(tmp_path, monkeypatch):
    # Small blocks: the count is of all of them.
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 2000)
    texts = ["2024-12-31"] * 500
    texts[7] = texts[8] = texts[490] = "31/12/2024"
    features = dated(tmp_path / "a.csv", texts)
    ctx = context(tmp_path, tmp_path / "a.csv", **features)
    message = (
        r"column 'when' is read as a date, written in ISO 8601, as 2024-12-31 or 2024-12-31T23:59. "
        r"Received: '31/12/2024' and 2 more texts \(row 8, line 9 of .*a.csv\)"
    )
    with pytest.raises(DataRejected, match=message) as caught:
        run(ctx)
    assert 'say `format: "%d/%m/%Y"` in the feature' in caught.value.hint
    assert os.listdir(ctx.outputs["examples"]) == []


def test_dates_are_taken_in_the_form_that_the_feature_names(tmp_path):
    texts = [f"{1 + day % 28}/12/2024" for day in range(500)]
    features = dated(tmp_path / "a.csv", texts, format="%d/%m/%Y")
    assert run(context(tmp_path, tmp_path / "a.csv", **features)).finding.startswith("500 rows: ")
    features = dated(tmp_path / "b.csv", [*texts[:-1], "2024-12-31"], format="%d/%m/%Y")
    with pytest.raises(DataRejected, match=r"written as '%d/%m/%Y'. Received: '2024-12-31' \(row 500, "):
        run(context(tmp_path, tmp_path / "b.csv", **features))


def test_dates_are_counted_across_stretches_of_the_data(csv_path):
    plan = plan_columns(DataConfig(path=str(csv_path), label="y"), [("day", "date")])
    tallies = []
    for first_row, texts in ((1, ["2024-12-31", "x"]), (3, ["y", "2024-02-30", None])):
        tallies.append(DateTally())
        batch = pa.record_batch({"day": pa.array(texts, pa.string())})
        tallies[-1].add(Block("a.csv", first_row, batch), plan)
    tallies[0].merge(tallies[1])
    with pytest.raises(DataRejected, match=r"Received: 'x' and 2 more texts \(row 2 of a.csv\)"):
        tallies[0].check()
