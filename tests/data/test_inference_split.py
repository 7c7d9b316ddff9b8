"""The split that `init` writes: its key, what keeps rows together, and that ingest takes it."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from headrace.components.ingest.run import run as ingest
from headrace.components.node import NodeContext
from headrace.data.config import HashSplit
from headrace.data.group_guess import guess_group
from headrace.data.inference import Inferred, infer
from headrace.data.profile import ColumnProfile
from headrace.data.row_keys import hashed_columns
from headrace.data.source import check_source
from headrace.data.yaml_text import listed
from headrace.pipeline.config import column_plan, load_config, parse_config
from headrace.pipeline.graph import node
from headrace.pipeline.identity import node_config
from headrace.pipeline.validate import validate

ROWS = 240
RNG = np.random.default_rng(11)
LABELS = RNG.choice(["no", "yes"], ROWS)


def inferred(path: Path, label: str = "y") -> Inferred:
    return infer(str(path), label, config_folder=str(path.parent))


def split_of(found: Inferred) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(found.text)["data"]["split"]
    return written


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "y": LABELS})


def test_the_key_is_all_columns_but_the_label_whatever_becomes_a_feature(tmp_path: Path) -> None:
    frame = table(row_id=np.arange(ROWS), b=RNG.normal(size=ROWS), one="x", a=RNG.choice(list("uv"), ROWS))
    frame.to_csv(tmp_path / "a.csv", index=False)
    found = inferred(tmp_path / "a.csv")
    assert split_of(found) == {
        "method": "hash", "key": ["row_id", "b", "one", "a"], "equal_keys": "spread", "seed": 0,
        "train": 0.6, "eval": 0.2, "test": 0.2,
    }  # fmt: skip
    assert {*yaml.safe_load(found.text)["features"]} == {"b", "a"}
    for word in (
        "hash of these columns, which never hold the label",
        "moves a row",
        "`equal_keys: together`",
    ):
        assert word in found.text.replace("\n  # ", " ")


def test_a_long_key_is_read_in_lines(tmp_path: Path) -> None:
    names = [f"measure {n} of many" if n % 3 else f"m{n}" for n in range(40)]
    table(**{name: RNG.normal(size=ROWS) for name in names}).to_csv(tmp_path / "a.csv", index=False)
    found = inferred(tmp_path / "a.csv")
    assert split_of(found)["key"] == names
    key = found.text[found.text.index("    key: [") : found.text.index("    equal_keys:")].splitlines()
    assert len(key) > 5
    assert all(60 < len(line) <= 100 for line in key[:-1])
    assert all(line.startswith(" " * 10) and line[10] != " " for line in key[1:])


@pytest.mark.parametrize("width", range(1, 130, 7))
def test_lines_of_a_list_are_as_full_as_a_hundred_characters_allow(width: int) -> None:
    names = [
        letter * (width - place % 5) for place, letter in enumerate("abcdefghijklmnopqr") if place % 5 < width
    ]
    lines = listed("key: ", names)
    assert yaml.safe_load("\n".join(lines)) == {"key": names}
    assert lines[-1][-2:-1].isalpha()
    for line, after in itertools.pairwise(lines):
        assert len(line) <= 100 or line.count(",") == 1
        first = after.strip().split(",")[0].rstrip("]")
        assert len(f"{line} {first},") > 100


def people(ids: int, rows: int = ROWS, **columns: Any) -> dict[str, Any]:
    return {"patient_id": [f"P{n % ids:03}" for n in range(rows)], **columns}


def test_an_id_that_repeats_keeps_its_rows_together_and_is_no_feature(tmp_path: Path) -> None:
    frame = table(age=RNG.integers(20, 90, ROWS), **people(60), visit_id=RNG.integers(0, 200, ROWS))
    frame.to_csv(tmp_path / "a.csv", index=False)
    found = inferred(tmp_path / "a.csv")
    split = split_of(found)
    assert (split["key"], split["equal_keys"], split["seed"]) == (["patient_id"], "together", 0)
    assert "patient_id" not in yaml.safe_load(found.text)["features"]
    assert found.left_out == (("patient_id", "tells which rows belong together"),)
    assert "#   patient_id: tells which rows belong together: 60 different values in 240 rows;" in found.text
    said = found.text.replace("\n  # ", " ")
    assert "by a hash of patient_id (60 different values in 240 rows), so that all rows of one share" in said
    assert "with `equal_keys: spread`. What looks like an id and repeats, too: visit_id.\n" in said
    # Every patient lies in one split.
    (tmp_path / "a.yaml").write_text(found.text)
    folder = ingested(tmp_path / "a.yaml") / "keys"
    keys = {name: np.load(folder / f"{name}.npy") for name in ("train", "test")}
    assert not np.isin(keys["test"], keys["train"]).any()
    assert len(keys["train"]) == 36


def test_with_a_split_by_time_an_id_that_repeats_is_told(tmp_path: Path) -> None:
    days = (pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(ROWS) // 4, unit="D")).strftime("%Y-%m-%d")
    table(day=days, **people(60)).to_csv(tmp_path / "a.csv", index=False)
    found = inferred(tmp_path / "a.csv")
    assert split_of(found)["method"] == "time"
    assert "patient_id" in yaml.safe_load(found.text)["features"]
    (note,) = found.notes
    assert note.startswith(
        "column 'patient_id' looks like an id and repeats (60 different values in 240 rows)"
    )
    assert "`data.split: {method: hash, key: [patient_id]}`" in note
    assert "looks like an id and repeats" in found.text


def profiled(name: str, values: list[str | None]) -> ColumnProfile:
    profile = ColumnProfile(name)
    profile.add(pa.array(values, pa.string()))
    profile.settle()
    return profile


def repeated(distinct: int, rows: int, prefix: str = "k") -> list[str | None]:
    return [f"{prefix}{n % distinct}" for n in range(rows)]


@pytest.mark.parametrize(
    "name",
    ["patient_id", "PatientID", "patientId", "patient", "User", "user_id", "userid", "customer no", "cust_nr",
     "Customer-Number", "hospital.patient_id", "id", "ID", "session_id", "orderId", "store_uuid", "UserKey"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["k", ""])
def test_names_of_ids(name: str, prefix: str) -> None:
    group = guess_group([profiled("other", repeated(60, 200)), profiled(name, repeated(60, 200, prefix))])
    assert group is not None
    assert (group.column, group.others) == (name, ())
    assert group.values == "60 different values in 200 rows"


@pytest.mark.parametrize(
    "name", ["paid", "grid", "humid", "zip", "zip_code", "month_no", "accident", "patients_seen", "userscore",
             "username length", "key", "code", "Covid", "idle", "customer_age"]
)  # fmt: skip
def test_names_of_no_ids(name: str) -> None:
    assert guess_group([profiled(name, repeated(60, 200))]) is None


@pytest.mark.parametrize(
    ("name", "values", "is_group"),
    [
        ("patient_id", repeated(10, 10_000), True),
        ("patient_id", repeated(10, 10_001), False),  # over a thousand rows each
        ("patient_id", repeated(9, 100), False),  # too few to deal out
        ("ward_id", repeated(50, 2500), True),
        ("ward_id", repeated(50, 2501), False),  # over fifty rows each
        ("ward_id", repeated(49, 200), False),
        ("patient_id", repeated(200, 200), False),  # none twice
        ("patient_id", repeated(199, 200), True),
        ("patient_id", [*repeated(60, 198), None, None], True),
        ("patient_id", [*repeated(60, 197), None, None, None], False),
        ("patient_id", [f"{n % 60}.5" for n in range(200)], False),
        ("patient_id", [f"2025-01-{1 + n % 30:02}" for n in range(200)], False),
        ("subject", [f"{n % 30}" for n in range(200)], True),
        ("subject", [f"S{n % 10}" if n % 20 < 11 else "abcdefghi"[n % 9] for n in range(200)], True),
        ("subject", [f"S{n % 10}" if n % 20 < 10 else "abcdefghij"[n % 10] for n in range(200)], False),
        ("subject_id", ["abcdefghijkl"[n % 12] for n in range(200)], True),
        ("subject", [f"about number {n % 60}" for n in range(200)], False),
    ],
)
def test_what_ids_hold(name: str, values: list[str | None], is_group: bool) -> None:
    assert (guess_group([profiled(name, values)]) is not None) == is_group


def test_of_several_ids_that_of_a_person_is_chosen_then_the_most_varied() -> None:
    visits, wards = profiled("visit_id", repeated(300, 600)), profiled("ward_id", repeated(60, 600))
    group = guess_group([wards, visits])
    assert group is not None
    assert (group.column, group.others) == ("visit_id", ("ward_id",))
    group = guess_group([visits, profiled("patient_id", [*repeated(80, 599), None]), wards])
    assert group is not None
    assert (group.column, group.others) == ("patient_id", ("visit_id", "ward_id"))
    assert group.values == "80 different values in 600 rows, 0.167% missing"


def test_more_ids_than_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.data.profile.MAX_TRACKED", 100)
    profile = ColumnProfile("user_id")
    for _ in range(3):
        profile.add(pa.array(repeated(120, 240), pa.string()))
    profile.settle()
    group = guess_group([profile])
    assert group is not None
    assert group.values == "over 119 different values in 720 rows"


# --- every kind of file


def ingested(config: Path) -> Path:
    folder = config.parent / f"{config.stem} out"
    (folder / "temp").mkdir(parents=True)
    loaded = load_config(str(config))
    section = node_config(loaded, node("ingest"))
    section["data"]["path"] = loaded.data.path
    ingest(NodeContext("ingest", "run", {}, {"examples": str(folder)}, section, str(folder / "temp")))
    return folder


def pictures(folder: Path) -> list[str]:
    folder.mkdir()
    for n in range(ROWS):
        pixels = np.random.default_rng(n).integers(0, 255, (6, 6), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return [f"{folder.name}/{n}.png" for n in range(ROWS)]


def write_csv(folder: Path) -> Path:
    table(**{"shop: no": RNG.choice(list("uvw"), ROWS), "no": RNG.normal(size=ROWS)}).to_csv(
        folder / "a.csv", index=False, sep=";"
    )
    return folder / "a.csv"


def write_parquet(folder: Path) -> Path:
    steps = [RNG.normal(size=3).tolist() for _ in range(ROWS)]
    parts = [{"floor": int(n), "zip": str(n)} for n in range(ROWS)]
    frame = {"n": RNG.integers(0, 99, ROWS), "parts": parts, "steps": steps, "y": LABELS.tolist()}
    pq.write_table(pa.table(frame), folder / "a.parquet")
    return folder / "a.parquet"


def write_wide(folder: Path) -> Path:
    pixels = {f"px{n}": column for n, column in enumerate(RNG.integers(0, 17, (64, ROWS)))}
    table(before=RNG.normal(size=ROWS), **pixels).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_paths(folder: Path) -> Path:
    table(file=pictures(folder / "p"), size=RNG.normal(size=ROWS)).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_folders(folder: Path) -> Path:
    paths = pictures(folder / "all")
    for path, label in zip(paths, LABELS, strict=True):
        target = folder / "photos" / label / path.split("/")[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / path).rename(target)
    return folder / "photos"


def write_examples(folder: Path) -> Path:
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for n, label in enumerate(LABELS):
            row = {"x": [n / 7], "s": [1.0] * (1 + n % 3), "one": [1.0]}
            features = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=value))
                for name, value in row.items()
            }
            features["y"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[label.encode()]))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return folder / "a.tfrecord"


@pytest.mark.parametrize(
    ("write", "key", "equal_keys"),
    [
        (write_csv, ["shop: no", "no"], "spread"),
        (write_parquet, ["n", "steps"], "spread"),
        (write_wide, ["before", "px"], "spread"),
        (write_paths, ["file", "size"], "spread"),
        (write_folders, ["image"], "together"),
        (write_examples, ["x", "s"], "spread"),
    ],
)
def test_what_is_written_validates_and_is_ingested(
    tmp_path: Path, write: Any, key: list[str], equal_keys: str
) -> None:
    path = write(tmp_path)
    found = inferred(path)
    config = parse_config(yaml.safe_load(found.text))
    assert isinstance(config.data.split, HashSplit)
    assert ([*config.data.split.key], config.data.split.equal_keys) == (key, equal_keys)
    written = tmp_path / "config.yaml"
    written.write_text(found.text, encoding="utf-8")
    assert "all 240 rows can be ingested" in validate(str(written))[0]
    told = json.loads((ingested(written) / "ingest.json").read_text())
    assert told["splits"] == {"train": 144, "eval": 48, "test": 48}
    assert (told["split"]["equal_keys"], told["split"]["seed"]) == (equal_keys, 0)
    # It is the rule that holds where no key is named, but for what headrace cannot read.
    loaded = load_config(str(written))
    plan = column_plan(loaded)
    source = check_source(loaded.data, plan)
    bare = loaded.data.model_copy(update={"split": HashSplit()})
    usual = hashed_columns(bare, plan, source.names, source.paths).key
    assert {*told["split"]["key"]} == {*usual} - {"parts"}
