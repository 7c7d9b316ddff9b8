"""A config from the data: what is seen, chosen, left out, and said."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from headrace.components.features.columns import column_usages
from headrace.components.features.plan import plan_outputs
from headrace.data import inference
from headrace.data.columns import plan_columns
from headrace.data.errors import ConfigError
from headrace.data.inference import infer_config
from headrace.data.source import check_source
from headrace.pipeline.config import parse_config

ROWS = 4000


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(7)
    days = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(ROWS) // 40, unit="D")
    return pd.DataFrame(
        {
            "when": days.strftime("%Y-%m-%d"),
            "row_id": np.arange(ROWS) + 1,
            "token": [f"{v:016x}" for v in rng.integers(0, 2**63, ROWS)],
            "note": [" ".join(rng.choice(list("abcdefgh"), 15)) + f" item {i}" for i in range(ROWS)],
            "constant": "x",
            "empty": None,
            "amount": np.where(rng.random(ROWS) < 0.25, np.nan, rng.lognormal(3, 2, ROWS)),
            "level": rng.normal(size=ROWS).round(6),
            "rating": rng.integers(1, 6, ROWS),
            "shop": rng.choice(["north", "south"], ROWS),
            "dirty": rng.choice(["1.5", "2.5", "?"], ROWS, p=[0.5, 0.4, 0.1]),
            "bought": rng.choice(["no", "yes"], ROWS, p=[0.8, 0.2]),
        }
    )


def infer(path: Path, label: str) -> tuple[dict, str]:
    text = infer_config(str(path), label)
    return yaml.safe_load(text), text


@pytest.fixture(scope="module")
def inferred(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("inference") / "Shop visits.csv"
    frame.to_csv(path, index=False)
    return path, *infer(path, "bought")


def test_it_is_a_run_config_that_fits_its_data(inferred):
    path, raw, text = inferred
    config = parse_config(raw)
    assert config.name == "shop-visits"
    plan = plan_columns(config.data, column_usages(config.features), config.evaluation.slices)
    assert check_source(config.data, plan).paths == (str(path),)
    assert infer_config(str(path), "bought") == text


def test_kinds(inferred):
    _, raw, _ = inferred
    assert {name: feature["kind"] for name, feature in raw["features"].items()} == {
        "when": "date",
        "note": "text",
        "amount": "numeric",
        "level": "numeric",
        "rating": "categorical",
        "shop": "categorical",
        "dirty": "numeric",
    }
    assert raw["features"]["amount"] == {
        "kind": "numeric",
        "impute": "median",
        "missing_indicator": True,
        "log": True,
        "scale": "zscore",
    }
    assert raw["features"]["level"] == {"kind": "numeric", "scale": "zscore"}
    assert raw["evaluation"]["slices"] == [["shop"]]
    assert "?" in raw["data"]["csv"]["null_values"]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("row_id", "an id"),
        ("token", "an id"),
        ("constant", "one value"),
        ("empty", "no values"),
    ],
)
def test_useless_columns_are_left_out_with_a_reason(inferred, column, reason):
    _, _, text = inferred
    assert f"#   {column}: {reason}" in text


def test_comments_state_what_was_seen(inferred, frame):
    _, _, text = inferred
    assert "4,000 rows, 12 columns" in text
    assert f"{100 * frame.amount.isna().mean():.1f}% missing" in text
    assert "100 days from 2025-01-01 to 2025-04-10" in text
    positive = (frame.bought == "yes").mean()
    assert f"2 classes: no {100 * (1 - positive):.1f}%, yes {100 * positive:.1f}%" in text


def test_split_by_time_and_gates_on_what_is_judged(inferred, frame):
    _, raw, text = inferred
    split = raw["data"]["split"]
    # 100 days of 40 rows: the last 20 days are 20 % of the rows.
    assert split == {"method": "time", "column": "when", "eval_from": "2025-03-22", "test_from": "2025-04-01"}
    judged = frame[frame.when >= "2025-04-01"]
    majority = (judged.bought == "no").mean()
    gates = {gate["metric"]: gate["min"] for gate in raw["gates"]["quality"]}
    assert majority < gates["accuracy"] < majority + 0.003
    assert gates["auc"] == 0.6
    assert f"right for {100 * majority:.2f}% of the rows from 2025-04-01 on" in text


def test_parquet_gives_the_same_features(inferred, frame, tmp_path):
    _, raw, _ = inferred
    pq.write_table(pa.Table.from_pandas(frame.astype({"empty": "string"})), tmp_path / "visits.parquet")
    other, _ = infer(tmp_path / "visits.parquet", "bought")
    assert other["features"] == raw["features"]
    assert other["data"]["split"] == raw["data"]["split"]


@pytest.mark.parametrize(
    ("values", "task", "metric"),
    [
        ([0, 1] * 30, "binary", "auc"),
        (["a", "b", "c"] * 20, "multiclass", "accuracy"),
        ([0.5 * i for i in range(60)], "regression", "r2"),
        ([1.25, 2.5] * 30, "binary", "auc"),
        (list(range(60)), "regression", "r2"),
        (["0"] * 57 + ["1"] * 3, "binary", "pr_auc"),
    ],
)
def test_task(tmp_path, values, task, metric):
    pd.DataFrame({"x": np.sin(np.arange(60)), "y": values}).to_csv(tmp_path / "a.csv", index=False)
    raw, _ = infer(tmp_path / "a.csv", "y")
    config = parse_config(raw)
    assert config.data.task == task
    assert metric in {gate.metric for gate in config.gates.quality}
    assert config.data.split.method == "hash"


def test_other_delimiters_and_awkward_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "the x;no;1st: #\n" + "".join(f"{i % 7}.5;{'ab'[i % 2]};{'uvw'[i % 3]}\n" for i in range(60))
    )
    raw, _ = infer(path, "no")
    assert raw["data"]["csv"]["delimiter"] == ";"
    assert raw["data"]["label"] == "no"
    assert list(raw["features"]) == ["the x", "1st: #"]
    parse_config(raw)


def test_path_is_relative_to_the_config_only_inside_its_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.csv").write_text("x,y\n1,0\n2,1\n")
    path = str(tmp_path / "sub" / "a.csv")
    assert yaml.safe_load(infer_config(path, "y", config_folder=str(tmp_path)))["data"]["path"] == "sub/a.csv"
    assert yaml.safe_load(infer_config(path, "y", config_folder="/nowhere"))["data"]["path"] == path


@pytest.mark.parametrize(
    ("content", "label", "message"),
    [
        ("x,y\n1,0\n2,1\n", "z", r"label must be a column.*'z'"),
        ("x,y\n1,0\n2,0\n", "y", r"at least two values\. Received: '0' in every row"),
        ("x,y\n1,\n2,\n", "y", r"at least two values\. Received: no values"),
        ("x,y\n1,0\n1,1\n", "y", r"a column to learn from.*x: one value in every row"),
        ("x,x,y\n1,1,0\n1,1,1\n", "y", r"names must differ\. Received: 'x' twice"),
        (
            "x,y\n" + "".join(f"{i % 5},id{i}\n" for i in range(200)),
            "y",
            r"at most 100 values\. Received: 200",
        ),
    ],
)
def test_what_cannot_be_learnt_is_a_config_error(tmp_path, content, label, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        infer_config(str(tmp_path / "a.csv"), label)


def test_high_cardinality_is_bounded(tmp_path, monkeypatch):
    from headrace.data import profile

    monkeypatch.setattr(profile, "MAX_TRACKED", 100)
    keys = np.random.default_rng(0).integers(0, 150, 6000)
    pd.DataFrame({"key": [f"k{k}" for k in keys], "y": keys % 2}).to_csv(tmp_path / "a.csv", index=False)
    raw, text = infer(tmp_path / "a.csv", "y")
    assert raw["features"]["key"]["vocabulary"] == {"top_k": 1000, "min_count": 5, "oov_buckets": 16}
    assert "over 1" in text


def test_first_day_of_each_part_is_a_date(inferred):
    split = inferred[1]["data"]["split"]
    assert datetime.date.fromisoformat(split["eval_from"]) < datetime.date.fromisoformat(split["test_from"])


def test_large_whole_numbers_that_name_things_are_texts(tmp_path):
    """Two of them could be one in 32 bits, which is how numbers travel to a served model."""
    rng = np.random.default_rng(2)
    rows = 400
    pd.DataFrame(
        {
            "merchant": rng.choice(rng.integers(10**11, 10**12, 20), rows),  # all of one length
            "sensorId": rng.choice(rng.integers(1, 10**9, 20), rows),
            "population": rng.integers(1_000, 10**9, rows),
            "card": 10**15 + rng.permutation(10**6)[:rows],  # none twice
            "y": rng.integers(0, 2, rows),
        }
    ).to_csv(tmp_path / "a.csv", index=False)
    raw, text = infer(tmp_path / "a.csv", "y")
    kinds = {name: feature["kind"] for name, feature in raw["features"].items()}
    assert kinds == {"merchant": "categorical", "sensorId": "categorical", "population": "numeric"}
    assert "#   card: an id" in text
    config = parse_config(raw)
    plan = plan_columns(config.data, column_usages(config.features))
    assert plan.codes == ()
    assert {plan.type_of("merchant"), plan.type_of("sensorId")} == {"string"}


def test_features_have_names_that_meet_no_other(tmp_path):
    rng = np.random.default_rng(2)
    rows = 400
    table = {
        name: rng.normal(size=rows)
        for name in ("label", "weight", "age_missing", "Größe (µm)", "label_value")
    }
    table["age"] = np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows))
    table["y"] = rng.integers(0, 2, rows)
    pd.DataFrame(table).to_csv(tmp_path / "a.csv", index=False)
    raw, text = infer(tmp_path / "a.csv", "y")
    columns = {name: feature.get("column", name) for name, feature in raw["features"].items()}
    assert columns == {
        "label_value_value": "label",
        "weight_value": "weight",
        "age_missing": "age_missing",
        "Größe (µm)": "Größe (µm)",
        "label_value": "label_value",
        "age_value": "age",
    }
    config = parse_config(raw)
    types = dict.fromkeys(table, "float")
    outputs = plan_outputs(config.features, types)
    assert len({output.name for output in outputs}) == 7
    assert '"Größe (µm)":' in text


@pytest.mark.parametrize(("rows", "shares"), [(150, (0.6, 0.2, 0.2)), (2000, (0.8, 0.1, 0.1))])
def test_few_rows_are_trained_on_for_many_epochs_and_judged_with_patience(tmp_path, rows, shares):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"x": rng.normal(size=rows), "y": rng.integers(0, 2, rows)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    config = parse_config(infer(tmp_path / "a.csv", "y")[0])
    training, split = config.training, config.data.split
    assert (split.train, split.eval, split.test) == shares
    steps = training.epochs * shares[0] * rows / training.batch_size
    assert 800 < steps < 2500
    assert training.early_stopping.monitor == "val_loss"
    assert 1 < training.reduce_on_plateau.patience < training.early_stopping.patience <= training.epochs / 5
    # int8 may lose no row of so few: what is pushed is float32.
    assert (config.push.serving, config.push.lite) == ("float32", "tflite_float32")


def test_many_rows_are_trained_on_as_they_are(inferred, frame, tmp_path):
    pd.concat([frame, frame]).to_csv(tmp_path / "a.csv", index=False)
    config = parse_config(infer(tmp_path / "a.csv", "bought")[0])
    assert (config.training.epochs, config.training.batch_size) == (20, 32)
    assert config.push.lite == "tflite_int8"


def with_cells(frame: pd.DataFrame, folder: Path, cells: dict[str, dict[int, str]]) -> Path:
    """Write the frame with other texts in some cells."""
    changed = frame.astype(dict.fromkeys(cells, object))
    for name, texts in cells.items():
        for row, text in texts.items():
            changed.loc[row, name] = text
    path = folder / "odd.csv"
    changed.to_csv(path, index=False)
    return path


def test_a_few_bad_cells_change_no_kind_and_are_named(frame, inferred, tmp_path):
    path = with_cells(frame, tmp_path, {"level": {10: "1.2.3", 70: "1.2.3"}, "when": {5: "2025-02-30"}})
    found = inference.infer(str(path), "bought")
    raw = yaml.safe_load(found.text)
    assert raw["features"] == inferred[1]["features"]
    assert raw["data"]["split"]["method"] == "time"
    # The header is line 1, and so the frame's row 0 is line 2.
    assert found.notes == (
        "column 'when': ingest will refuse 1 value: '2025-02-30' (row 6, line 7 of odd.csv); correct the "
        'data, or, if it means missing, set `data.csv.null_values: ["", "NA", "NaN", "nan", "null", "NULL", '
        '"?", "2025-02-30"]` (the list replaces the default one)',
        "column 'level': ingest will refuse 2 values: '1.2.3' (2 times, first row 11, line 12 of odd.csv); "
        'correct the data, or, if it means missing, set `data.csv.null_values: ["", "NA", "NaN", "nan", '
        '"null", "NULL", "?", "1.2.3"]` (the list replaces the default one)',
    )
    assert found.before_run == "mend these cells or list them in `data.csv.null_values`"
    assert (
        "    # Ingest will refuse 2 values: '1.2.3' (2 times, first row 11, line 12 of odd.csv)."
        in found.text
    )


def test_numbers_with_a_decimal_comma_are_named_and_left_out(tmp_path):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "price": [f"{v:.2f}".replace(".", ",") for v in rng.uniform(1, 2000, 200)],
            "grade": rng.choice(["4,5", "3"], 200),
            "people": [f"{v},{v}" for v in rng.integers(100, 999, 200)],
            "spot": rng.choice(["a,b", "c,d"], 200),
            "late": rng.choice(["no", "yes"], 200),
        }
    )
    frame.loc[0, ["price", "grade"]] = "7"
    frame.loc[1, ["price", "grade"]] = ["1.269,59", "4,5"]
    path = tmp_path / "stays.csv"
    frame.to_csv(path, index=False, sep=";")
    found = inference.infer(str(path), "late")
    assert found.notes == (
        "price: numbers with a decimal comma are not read; write them with a point. "
        "Received: '1.269,59' (row 2, line 3 of stays.csv)",
        f"grade: numbers with a decimal comma are not read; write them with a point. "
        f"Received: '4,5' ({(frame.grade == '4,5').sum()} times, first row 2, line 3 of stays.csv)",
    )
    assert "  # price: numbers with a decimal comma are not read; write them with a point." in found.text
    assert ("price", "numbers with a decimal comma") in found.left_out
    # 123,456 may be thousands, and a,b is no number.
    assert "spot" in yaml.safe_load(found.text)["features"]
    assert found.before_run == "write the numbers with a point and `headrace init` again"
    with pytest.raises(ConfigError, match=r"the label must be numbers .* '1\.269,59' \(row 2, line 3 of "):
        inference.infer(str(path), "price")


def test_more_bad_cells_than_one_in_a_hundred_change_the_kind(frame, tmp_path):
    odd = dict.fromkeys(range(ROWS // 100 + 1), "bad")
    found = inference.infer(str(with_cells(frame, tmp_path, {"level": odd})), "bought")
    assert found.notes == ()
    assert yaml.safe_load(found.text)["features"].get("level", {"kind": ""})["kind"] != "numeric"


def test_a_class_that_is_rare_is_a_class(frame, tmp_path):
    found = inference.infer(str(with_cells(frame, tmp_path, {"rating": {3: "none at all"}})), "rating")
    assert found.notes == ()
    assert yaml.safe_load(found.text)["data"]["task"] == "multiclass"
    assert "6 classes" in found.text


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m-%d-%Y", "%d.%m.%Y %H:%M"])
def test_dates_in_another_form_are_dates(frame, tmp_path, form):
    path = tmp_path / "dates.csv"
    days = pd.to_datetime(frame["when"]).dt.strftime(form)
    frame.assign(when=days.where(frame.index != 9, "someday")).to_csv(path, index=False)
    found = inference.infer(str(path), "bought")
    raw = yaml.safe_load(found.text)
    assert raw["features"]["when"]["kind"] == "date"
    assert raw["features"]["when"]["format"] == form
    assert raw["data"]["split"]["method"] == "hash"
    assert f'holds dates, written "{form}" where a split by time needs ISO 8601' in found.notes[0]
    assert "'someday' (row 10, line 11 of dates.csv)" in found.notes[1]


def test_dates_that_are_missing_are_why_there_is_no_split_by_time(frame, tmp_path):
    path = with_cells(frame, tmp_path, {"when": {4: ""}})
    (note,) = inference.infer(str(path), "bought").notes
    assert note == (
        "column 'when' holds dates, but 1 rows lack one: the rows are split at random instead of by time"
    )


def test_the_path_stays_as_it_was_written(frame, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "project").mkdir()
    frame.to_csv(tmp_path / "data" / "a.csv", index=False)
    monkeypatch.chdir(tmp_path / "project")

    def written(path: str, folder: Path) -> str:
        return str(yaml.safe_load(infer_config(path, "bought", config_folder=str(folder)))["data"]["path"])

    assert written("../data/a.csv", tmp_path / "project") == "../data/a.csv"
    assert written("../data/a.csv", tmp_path) == "data/a.csv"
    assert written(str(tmp_path / "data/a.csv"), tmp_path) == "data/a.csv"
    assert written(str(tmp_path / "data/a.csv"), tmp_path / "project") == str(tmp_path / "data/a.csv")
