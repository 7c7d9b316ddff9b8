"""The run config: what it accepts, and what it says where it does not."""
# ruff: noqa: E501 - one case a line reads best

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from headrace.data.errors import ConfigError
from headrace.pipeline.config import RunConfig, load_config, parse_config
from headrace.pipeline.reference import json_schema

GOOD: dict[str, Any] = {
    "schema_version": 1,
    "name": "demo",
    "data": {"path": "rows.csv", "label": "late"},
    "features": {"distance": {"kind": "numeric"}, "carrier": {"kind": "categorical"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(GOOD))
    *parents, last = path.split(".")
    target = raw
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    return raw


def write(folder: Path, raw: Any) -> Path:
    file = folder / "demo.yaml"
    file.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainig", {}, "unknown key `trainig`.*Nearest valid key: `training`"),
        ("training.epoch", 3, "unknown key `training.epoch`.*Nearest valid key: `epochs`"),
        ("model", {"famly": "mlp"}, r"unknown key `model.famly` .* Nearest valid key: `family` \(`model.family`\)\."),
        ("features.distance.scal", "zscore", "unknown key `features.distance.scal`.*Nearest valid key: `scale`"),
        ("data.split.ky", ["a"], "unknown key `data.split.ky`.*Nearest valid key: `key`"),
        ("training.epochs", 0, r"`training.epochs` must be greater than or equal to 1. Received: 0"),
        ("training.epochs", "many", r"`training.epochs` must be a whole number.*Received: \"many\""),
        ("evaluation.threshold", 1.5, "evaluation.threshold.*Received: 1.5"),
        ("features.distance.clip", [3, 1], r"`clip` must be \[low, high\].*features.distance in"),
        ("features.carrier.kind", "sound", "`features.carrier.kind` must be one of 'numeric', .*Received: 'sound'"),
        ("features.carrier", {}, "`features.carrier.kind` is required"),
        ("training.early_stopping", {"monitor": "val_rmsle"}, "must be auto or one of .*Received: val_rmsle"),
        ("tuning", {"enabled": True, "search": {"model.dropot": {"float": [0, 0.5]}}}, "dropot.*dropout"),
        ("tuning", {"enabled": True, "objective": "val_mae", "search": {"model.dropout": {"float": [0, 0.5]}}}, "objective.*val_mae"),
        ("gates.quality", [{"metric": "rmse", "max": 3}], "`gates.quality.0.metric` must be a metric of the task binary: accuracy, .*Received: rmse"),
        ("gates.variant.metric", "macro_f1", "`gates.variant.metric` must be a metric of the task binary.*Received: macro_f1"),
        ("gates.quality", [{"metric": "cost", "max": 3}], "`gates.quality.0.metric: cost` needs `evaluation.costs`. Received: no costs"),
        ("evaluation.threshold", "min_cost", "`threshold: min_cost` needs `costs`. Received: no costs"),
        ("schema_version", 2, "`schema_version` must be 1. Received: 2"),
        ("features", {}, "`features` must name at least one feature"),
        ("features.late", {"kind": "categorical"}, "the label must not be a feature"),
        ("data.weight", "distance", "the weight must not be a feature"),
        ("push.lite", "tflite_int9", "push.lite.*Received"),
        ("variants.build", ["float32"], "`push.serving` must be one of `variants.build` .*Received: int8_weights"),
        ("gates.cost", [{"variant": "tflite_int8"}], "a cost gate must set at least one bound"),
        ("gates.quality", [{"metric": "auc", "min": 0.5, "slice": {"tail": "x"}}], "`gates.quality.0.slice`.*tail"),
        ("data.split", {"method": "time", "eval_from": "2013-01-01", "test_from": "2013-02-01"}, "`data.split.column` is required"),
        ("data.split", {"method": "hash", "train": 0.9}, "`train`, `eval` and `test` must sum to 1. Received: 1.1"),
        ("evaluation.slices", [["carrier", "carrier"]], "must name distinct columns"),
    ],
)  # fmt: skip
def test_names_rule_value_and_place(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(changed(path, value), place="demo.yaml")


@pytest.mark.parametrize("missing", ["schema_version", "name", "data"])
def test_names_a_missing_key(missing: str) -> None:
    raw = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ConfigError, match=f"`{missing}` is required"):
        parse_config(raw)


def test_lists_every_error_at_once() -> None:
    raw = changed("training.epochs", 0)
    raw["model"] = {"dropout": 2}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert len(caught.value.message.splitlines()) == 2


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD) + "name: again\n"
    with pytest.raises(ConfigError, match=r"a key must be given once.*`name` again on line"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: [",
            r"valid YAML. Received: expected the node content.* on line 1 \(line 1, column 5 of .*yaml\)",
        ),
        ("a: 1\nb: c: d\n", r"not allowed here \(line 2, column 5 of .*yaml\)\n  b: c: d\n      \^"),
        ("a: \x07\n", r"the character U\+0007 at position 4 \("),
        ("- 1", "must be a mapping of keys to values. Received: a list"),
        ("", "must be a mapping of keys to values. Received: nothing: the file is empty"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"family": "wide_depe"}}, r"`model.family` must be .*'wide_depe' .* Nearest: `wide_deep`"),
        ({"features": {"a": {"kind": "numeri"}}}, r"`features.a.kind` must be .* Nearest: `numeric`"),
        ({"gates": {"quality": [{"metric": "acuracy"}]}}, r"`gates.quality.0.metric` .* Nearest: `accuracy`"),
        ({"training": {"optimizer": "adm"}}, r"`training.optimizer` must be .* Nearest: `adam`"),
    ],
)
def test_a_misspelt_choice_is_told_the_nearest(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**GOOD, **changed})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be an existing file\. Received: .*nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")


def test_overrides_are_yaml_and_applied_in_order(tmp_path: Path) -> None:
    file = write(tmp_path, changed("gates.quality", [{"metric": "auc", "min": 0.5}]))
    config = load_config(
        file, ["training.epochs=2", "training.epochs=3", "model.hidden=[8, 4]", "gates.quality.0.min=0.7"]
    )
    assert (config.training.epochs, config.model.hidden, config.gates.quality[0].min) == (3, (8, 4), 0.7)


@pytest.mark.parametrize("override", ["epochs", "=3", "name.a.b=1", "gates.quality.5.min=1"])
def test_an_override_must_name_a_path(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, changed("gates.quality", [])), [override])


def test_paths_start_at_the_config_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, changed("data.path", "../data/rows.csv")))
    assert config.data.path == str(tmp_path.parent / "data" / "rows.csv")
    assert config.validation.schema_path == str(tmp_path / "demo.schema.pbtxt")


def test_the_config_survives_json() -> None:
    raw = changed(
        "features.cross", {"kind": "cross", "of": ["carrier", {"column": "distance", "bounds": [1.0]}]}
    )
    config = parse_config(raw)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_is_frozen() -> None:
    config = parse_config(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_the_json_schema_is_valid_and_agrees_with_the_parser() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors(GOOD))
    for path, value in [("trainig", {}), ("training.epochs", 0), ("schema_version", 2)]:
        assert list(validator.iter_errors(changed(path, value)))


def test_reading_a_config_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from headrace.pipeline.config import load_config; load_config(sys.argv[1]); "
        "print(sorted({'tensorflow', 'tfx', 'keras', 'apache_beam', 'kfp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(write(tmp_path, GOOD))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("task", "evaluation", "message"),
    [
        (
            "multilabel",
            {"costs": {"a": {"b": 2}}},
            "`evaluation.costs` needs the task binary or multiclass. Received: multilabel",
        ),
        (
            "multiclass",
            {"threshold": "min_cost", "costs": {"a": {"b": 2}}},
            "`evaluation.threshold: min_cost` needs the task binary. Received: multiclass",
        ),
    ],
)
def test_costs_fit_the_task(task: str, evaluation: dict[str, Any], message: str) -> None:
    raw = changed("data.task", task) | {"evaluation": evaluation}
    with pytest.raises(ConfigError, match=message):
        parse_config(raw)


def test_class_names_of_costs_are_text() -> None:
    raw = changed("evaluation.costs", {0: {1: 2}})
    assert parse_config(raw).evaluation.costs == {"0": {"1": 2.0}}
