"""The split of a hash knows the rows alone: not the label, nor the config, nor the file's format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.components.ingest.run import run
from headrace.components.node import NodeContext
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError, DataRejected
from tests.components.test_ingest import read_back, usages

SPLITS = ("train", "eval", "test")
FEATURES = {"n": {"kind": "numeric"}, "c": {"kind": "categorical"}, "k": {"kind": "numeric"}}


def table(rows: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    return pd.DataFrame(
        {
            "n": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows).round(3)),
            "c": rng.choice(["a", "b", "é", None], rows),
            "k": rng.integers(0, 9, rows),
            "flag": rng.integers(0, 2, rows).astype(bool),
            "day": pd.date_range("2025-01-01", periods=rows, freq="h"),
            "w": rng.integers(1, 3, rows) / 2,
            "y": rng.integers(0, 2, rows),
        }
    )


def ingest(
    root: Path, path: Path, features: Any = None, slices: Any = (), **data: Any
) -> tuple[str, Any, str]:
    """Ingest into folders of its own; return the folder, ingest.json and the finding."""
    number = len(list(root.glob("out*")))
    out, temp = root / f"out{number}", root / f"temp{number}"
    out.mkdir()
    temp.mkdir()
    config = {
        "data": {"path": str(path), "label": "y", **data},
        "usages": usages(FEATURES if features is None else features),
        "evaluation.slices": list(slices),
        "seed": 1,
    }
    result = run(NodeContext("ingest", "run", {}, {"examples": str(out)}, config, str(temp)))
    return str(out), json.loads((out / "ingest.json").read_text()), result.finding


def written(root: Path, frame: pd.DataFrame, name: str = "data.csv") -> Path:
    path = root / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return path


def keys(folder: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(f"{folder}/keys/train.npy"), np.load(f"{folder}/keys/test.npy")


def same_rows(one: str, other: str) -> bool:
    """Tell whether two ingests have put the same rows into the same splits."""
    return all(np.array_equal(a, b) for a, b in zip(keys(one), keys(other), strict=True))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, str]:
    root = tmp_path_factory.mktemp("usual")
    return ingest(root, written(root, table()))


class TestWhatMovesNothing:
    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(table().assign(y=1 - table()["y"]), id="label"),
            pytest.param(table()[["y", "day", "k", "w", "flag", "c", "n"]], id="order of columns"),
            pytest.param(table().assign(k=table()["k"].astype(float)), id="whole numbers as decimals"),
        ],
    )
    def test_of_the_file(self, frame: pd.DataFrame, usual: Any, tmp_path: Path) -> None:
        assert same_rows(ingest(tmp_path, written(tmp_path, frame))[0], usual[0])

    def test_its_format(self, usual: Any, tmp_path: Path) -> None:
        assert same_rows(ingest(tmp_path, written(tmp_path, table(), "data.parquet"))[0], usual[0])

    @pytest.mark.parametrize(
        "config",
        [
            pytest.param({"features": {"c": {"kind": "categorical"}}}, id="fewer features"),
            pytest.param({"features": dict(reversed(FEATURES.items()))}, id="order of features"),
            pytest.param({"features": {**FEATURES, "k": {"kind": "categorical"}}}, id="kind of a feature"),
            pytest.param({"columns": {"k": "string"}, "features": {"k": {"kind": "categorical"}}}, id="type"),
            pytest.param({"slices": [["flag"], ["c", "k"]]}, id="slices"),
            pytest.param({"shards": 2}, id="shards"),
        ],
    )
    def test_of_the_config(self, config: Any, usual: Any, tmp_path: Path) -> None:
        assert same_rows(ingest(tmp_path, written(tmp_path, table()), **config)[0], usual[0])

    def test_a_new_column_where_the_key_is_written_out(self, tmp_path: Path) -> None:
        split = {"key": ["n", "c", "k", "flag", "day", "w"], "equal_keys": "spread"}
        old, new = table(), table().assign(extra=np.arange(1500))
        one, other = (
            ingest(tmp_path, written(tmp_path, frame, f"{number}.csv"), split=split)[0]
            for number, frame in enumerate((old, new))
        )
        assert same_rows(one, other)

    def test_the_weight(self, tmp_path: Path) -> None:
        one, other = (
            ingest(tmp_path, written(tmp_path, frame, f"{number}.csv"), weight="w")[0]
            for number, frame in enumerate((table(), table().assign(w=1.5)))
        )
        assert same_rows(one, other)


def test_the_seed_of_the_split_moves_rows_and_the_runs_seed_none(usual: Any, tmp_path: Path) -> None:
    other = ingest(tmp_path, written(tmp_path, table()), split={"seed": 1})
    assert not same_rows(other[0], usual[0])
    assert other[1]["split"]["seed"] == 1


def test_what_is_told_of_the_split(usual: Any) -> None:
    folder, told, _ = usual
    assert told["split"] == {
        "method": "hash",
        "key": ["c", "day", "flag", "k", "n", "w"],
        "seed": 0,
        "equal_keys": "spread",
        "ranked": {"all": False, "classes": []},
        "distinct": told["split"]["distinct"],
        "test_rows_seen": told["split"]["test_rows_seen"],
    }
    train, test = keys(folder)
    assert train.dtype == test.dtype == np.uint64
    assert (np.diff(train.astype(object)) > 0).all()
    assert len(train) == told["splits"]["train"]  # each row has its hour
    assert len(test) == told["splits"]["test"]
    assert not {*train.tolist()} & {*test.tolist()}


def test_the_splits_of_known_rows_are_pinned(usual: Any) -> None:
    """The rows of everybody's test split move when this changes."""
    assert usual[1]["splits"] == {"train": 1208, "eval": 166, "test": 126}
    assert keys(usual[0])[1][:3].tolist() == [6003200763962916232, 17467866138108957064, 2102516291873782530]


def test_keys_of_test_rows_stand_in_the_order_of_their_examples(tmp_path: Path) -> None:
    frame = pd.DataFrame({"k": np.random.default_rng(1).permutation(2000), "y": [0, 1] * 1000})
    folder, _, _ = ingest(
        tmp_path, written(tmp_path, frame), {"k": {"kind": "numeric"}}, columns={"k": "int"}
    )
    import pyarrow as pa

    from headrace.data.hashing import hash_rows

    found = read_back(folder, "test")["k"].astype(int).tolist()
    assert keys(folder)[1].tolist() == hash_rows({"k": pa.array(found)}).tolist()
    train = read_back(folder, "train")["k"].astype(int).tolist()
    assert keys(folder)[0].tolist() == sorted(hash_rows({"k": pa.array(train)}).tolist())


def test_a_survey_of_few_answers_is_judged_as_it_was_drawn(tmp_path: Path) -> None:
    """27 distinct feature rows: with the label in the hash, the test rows contradicted the training rows."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(27)
    answers = rng.integers(1, 4, (1200, 3))
    logit = (answers.sum(1) - 6) * 0.8
    frame = pd.DataFrame(answers, columns=["a", "b", "c"]).assign(
        y=(rng.random(1200) < 1 / (1 + np.exp(-logit))) * 1
    )
    folder, told, finding = ingest(
        tmp_path, written(tmp_path, frame), {name: {"kind": "categorical"} for name in "abc"}
    )
    parts = {split: read_back(folder, split) for split in SPLITS}
    means = parts["train"].assign(y=parts["train"]["y"].astype(int)).groupby(["a", "b", "c"])["y"].mean()
    scores = [means.get(tuple(row), 0.5) for row in parts["test"][["a", "b", "c"]].itertuples(index=False)]
    best = roc_auc_score(frame["y"], logit)
    assert roc_auc_score(parts["test"]["y"].astype(int), scores) == pytest.approx(best, abs=0.08)
    assert told["split"]["distinct"]["rows"] == 27
    test = told["splits"]["test"]
    assert told["split"]["test_rows_seen"] == test
    assert f"{test} of {test} test rows equal a training row in all that the model reads" in finding


def test_rows_seen_in_training_are_counted_by_what_the_model_reads(tmp_path: Path) -> None:
    frame = table(3000)
    folder, told, _ = ingest(
        tmp_path, written(tmp_path, frame), {"k": {"kind": "numeric"}, "c": {"kind": "categorical"}}
    )
    pairs = {
        split: [*zip(part["k"], part["c"].fillna(""), strict=True)]
        for split in SPLITS
        if (part := read_back(folder, split)) is not None
    }
    assert told["split"]["test_rows_seen"] == sum(pair in {*pairs["train"]} for pair in pairs["test"])
    assert told["split"]["distinct"]["test_rows"] == len({*pairs["test"]})


def test_few_rows_get_their_shares_and_say_that_they_may_move(tmp_path: Path) -> None:
    split = {"train": 0.6, "eval": 0.2, "test": 0.2}
    _, told, finding = ingest(tmp_path, written(tmp_path, table(178)), split=split)
    assert told["splits"] == {"train": 107, "eval": 36, "test": 35}
    assert told["split"]["ranked"] == {"all": True, "classes": []}
    assert "; with under 1,000 rows, some may change their split when rows are appended" in finding


def test_rare_classes_reach_every_split_and_are_named(tmp_path: Path) -> None:
    frame = table(2000).assign(y="usual")
    frame.loc[::3, "y"] = "other"
    frame.loc[[5, 50, 500], "y"] = "three"
    frame.loc[10:1000:100, "y"] = "ten"
    _, told, finding = ingest(tmp_path, written(tmp_path, frame), task="multiclass")
    assert told["split"]["ranked"] == {"all": False, "classes": ["three", "ten"]}
    assert all(told["label"]["counts"][split][name] >= 1 for split in SPLITS for name in ("three", "ten"))
    assert "2 classes have fewer than 30 rows" in finding


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": {"key": ["c"]}}, r"0 eval.*: 2 distinct keys \(c\) in 40 rows, and rows"),
        ({"split": {"column": "flag", "eval": ["maybe"], "train": ["True"], "test": ["False"]}},
         r"no row has 'maybe' in column 'flag'"),
        ({"split": {"column": "day", "eval_from": "2025-01-02", "test_from": "2026-01-02"}},
         r"no rows on or after test_from 2026-01-02; the latest in column 'day' is 2025-01-02"),
        ({"split": {"column": "day", "eval_from": "2024-01-02", "test_from": "2025-01-02"}},
         r"no rows before eval_from 2024-01-02; the earliest in column 'day' is 2025-01-01"),
        ({"split": {"column": "k", "eval_from": 100, "test_from": 200}},
         r"no rows from eval_from 100 to before test_from 200; times in column 'k' run from 0.0 to"),
    ],
)  # fmt: skip
def test_an_empty_split_names_its_cause(data: Any, message: str, tmp_path: Path) -> None:
    frame = table(40).assign(c=["a"] * 37 + ["b", "b", "b"], y=[0, 1] * 20)
    with pytest.raises(DataRejected, match=message):
        ingest(tmp_path, written(tmp_path, frame), **data)


@pytest.mark.parametrize(("name", "role"), [("y", "label"), ("w", "weight")])
def test_the_key_never_holds_label_or_weight(name: str, role: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`split\.key` must not hold the {role}. Received: column '{name}'"
    ):
        DataConfig(path="x.csv", label="y", weight="w", split={"key": ["n", name]})


def test_a_key_that_no_file_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'patient'.*data\.split\.key|data\.split\.key.*'patient'"):
        ingest(tmp_path, written(tmp_path, table(50)), split={"key": ["patient"]})


def test_rows_of_a_named_key_stay_together_unless_told(tmp_path: Path) -> None:
    path = written(tmp_path, table(2000).assign(who=np.arange(2000) // 4))
    features = {"who": {"kind": "numeric"}}
    together = ingest(tmp_path, path, features, split={"key": ["who"]})
    groups = [{*read_back(together[0], split)["who"]} for split in SPLITS]
    assert sum(map(len, groups)) == 500
    assert together[1]["split"]["equal_keys"] == "together"
    spread = ingest(tmp_path, path, features, split={"key": ["who"], "equal_keys": "spread"})
    assert sum(len({*read_back(spread[0], split)["who"]}) for split in SPLITS) > 500
