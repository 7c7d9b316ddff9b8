"""Packed columns: their names, and what they are made of."""

import numpy as np
import pandas as pd
import pytest

from headrace.data.columns import RawColumn, plan_columns
from headrace.data.config import DataConfig
from headrace.data.derived import expand_names
from headrace.data.errors import ConfigError
from headrace.data.readers.rows import read_blocks
from headrace.data.source import check_source


def test_ranges_of_columns():
    assert expand_names("p_{2..4}") == ("p_2", "p_3", "p_4")
    assert expand_names("r{0..1}c{08..10}") == ("r0c08", "r0c09", "r0c10", "r1c08", "r1c09", "r1c10")
    assert expand_names(["b", "a", "x{1..1}z"]) == ("b", "a", "x1z")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("p{3..1}", r"must run upwards.*Received: 'p\{3\.\.1\}'"),
        ("p{0..9999999}", r"at most 1,000,000 columns"),
        (["a", "b", "a"], r"take each column once\. Received: 'a' twice"),
        ([], r"made of columns\. Received: none"),
    ],
)
def test_ranges_that_are_wrong(names, message):
    with pytest.raises(ConfigError, match=message):
        expand_names(names)


@pytest.fixture
def wide(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 255, (50, 6)), columns=[f"p{i}" for i in range(6)]).astype(object)
    table.loc[3, "p4"] = None
    table.loc[7] = None
    table["y"] = ["a", "b"] * 25
    table.to_csv(tmp_path / "wide.csv", index=False)
    table.to_parquet(tmp_path / "wide.parquet")
    return tmp_path, table


def section(path, **data):
    return DataConfig.model_validate({"path": str(path), "label": "y", **data})


@pytest.mark.parametrize("name", ["wide.csv", "wide.parquet"])
def test_packed_values_in_their_order(wide, name):
    folder, table = wide
    data = section(folder / name, pack={"pixels": ["p{3..5}", "p0"]})
    plan = plan_columns(data, [("pixels", "image"), ("p3", "number")])
    source = check_source(data, plan)
    (block,) = read_blocks(source.paths, data, plan.read)
    assert plan.columns == (RawColumn("pixels", "floats"), RawColumn("p3", "float"), RawColumn("y", "string"))
    expected = table[["p3", "p4", "p5", "p0"]].to_numpy(float)
    found = block.batch.column(0).to_pylist()
    assert found[7] is None
    for index in range(50):
        if index != 7:
            np.testing.assert_array_equal(found[index], expected[index])
    assert block.batch.column(1).to_pylist()[:3] == table["p3"].tolist()[:3]


@pytest.mark.parametrize(
    ("data", "usages", "message"),
    [
        ({"pack": {"px": "p{0..6}"}}, [("px", "series")], r"no column 'p6' \(data\.pack\.px;"),
        (
            {"pack": {"px": ["p0", "p1"]}},
            [("px", "series"), ("p1", "category")],
            r"made of numbers\. Received: column 'p1' read as string \(data\.pack\.px\)",
        ),
        ({"pack": {"p1": ["p0", "p1"]}}, [("p1", "series")], r"a name of its own\. Received: 'p1'"),
        ({}, [("p0", "series")], r"no list columns\. Received: column 'p0' read as floats"),
    ],
)
def test_what_cannot_be_packed(wide, data, usages, message):
    folder, _ = wide
    data = section(folder / "wide.csv", **data)
    with pytest.raises(ConfigError, match=message):
        check_source(data, plan_columns(data, usages))
