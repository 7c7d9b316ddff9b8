"""Types and roles of raw columns."""

import pytest

from headrace.data.columns import nearest, plan_columns
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError


def data(**values: object) -> DataConfig:
    return DataConfig.model_validate({"path": "x.csv", "label": "y", **values})


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        (["number"], "float"),
        (["category"], "string"),
        (["date"], "string"),
        (["number", "category"], "int"),
        (["category", "number", "number"], "int"),
    ],
)
def test_type_follows_usage(usages, expected):
    plan = plan_columns(data(), [("a", usage) for usage in usages])
    assert plan.type_of("a") == expected
    assert plan.features == ("a",)


@pytest.mark.parametrize("declared", ["int", "float", "string"])
def test_declared_type_wins(declared):
    plan = plan_columns(data(columns={"a": declared}), [("a", "category")])
    assert plan.type_of("a") == declared


@pytest.mark.parametrize(("task", "expected"), [("binary", "string"), ("regression", "float")])
def test_label_type_follows_task(task, expected):
    assert plan_columns(data(task=task), [("a", "number")]).type_of("y") == expected


def test_written_and_extra_columns_are_told_apart():
    config = data(weight="w", split={"method": "column", "column": "k"})
    plan = plan_columns(config, [("a", "number"), ("b", "category")], [["s", "b"]])
    assert [column.name for column in plan.columns] == ["a", "b", "y", "w", "s"]
    assert [column.name for column in plan.extra] == ["k"]


def test_without_features_the_declared_columns_are_read():
    plan = plan_columns(data(columns={"a": "int", "b": "string", "y": "string"}), [])
    assert plan.features == ("a", "b")


@pytest.mark.parametrize(
    ("config", "usages", "message"),
    [
        ({}, [("y", "number")], r"the label must not be a feature.*'y'"),
        ({"weight": "a"}, [("a", "number")], r"the weight must not be a feature.*'a'"),
        ({"weight": "y"}, [("a", "number")], r"must not be the label"),
        ({}, [("a", "number"), ("a", "date")], r"both a number and a date.*'a'"),
        ({"columns": {"a": "string"}}, [("a", "number")], r"numeric feature needs.*data\.columns\.a"),
        ({"columns": {"a": "int"}}, [("a", "date")], r"date feature needs.*data\.columns\.a"),
        (
            {
                "split": {
                    "method": "time",
                    "column": "a",
                    "eval_from": "2026-01-01",
                    "test_from": "2026-02-01",
                }
            },
            [("a", "number")],
            r"must be numbers.*data\.split\.eval_from",
        ),
    ],
)
def test_contradictions_are_config_errors(config, usages, message):
    with pytest.raises(ConfigError, match=message):
        plan_columns(data(**config), usages)


def test_nearest_name_ignores_case():
    assert nearest("CARIER", ["origin", "carrier"]) == "did you mean 'carrier'?"
    assert nearest("zzz", ["a", "b"]) == "it has 'a', 'b'"
    assert nearest("nope", ["age", "income"]) == "it has 'age', 'income'"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": [0, 1, 2]}, "two values"),
        ({"classes": ["a", "a"]}, "must differ"),
        ({"classes": [0, 1], "task": "regression"}, "must be empty"),
    ],
)
def test_classes_must_fit_the_task(values, message):
    with pytest.raises(ValueError, match=message):
        data(**values)


def test_unquoted_yaml_dates_are_read():
    import datetime

    split = {
        "method": "time",
        "column": "d",
        "eval_from": datetime.date(2026, 1, 1),
        "test_from": "2026-02-01",
    }
    assert data(split=split).split.eval_from == "2026-01-01"
