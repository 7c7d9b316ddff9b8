"""Own code that does not work is refused by validate and at the start of a run, before anything is trained."""
# ruff: noqa: E501 - one case a line reads best

import subprocess
import sys
from typing import Any

import pytest

from headrace.components.trial import trial_output, try_features
from headrace.data.errors import ConfigError
from headrace.pipeline import own_code_trial
from headrace.pipeline.config import RunConfig, column_plan, load_config, parse_config
from headrace.pipeline.own_code import check_own_code, own_names
from headrace.pipeline.runs import run
from headrace.pipeline.validate import validate
from tests.e2e.project import CONFIG, Project
from tests.pipeline.test_config import GOOD, changed

MINE = """
import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from headrace.components.models.inputs import read_inputs


def squared(labels, outputs, power=2):
    return tf.reduce_sum(tf.abs(labels - tf.sigmoid(outputs)) ** power, axis=1)

def one_number(labels, outputs):
    return tf.reduce_mean(labels - outputs)

def no_slope(labels, outputs):
    return tf.reduce_sum(tf.round(outputs) * 0 + labels, axis=1)

def by_numpy(labels, outputs):
    return np.square(labels.numpy() - outputs.numpy()).sum(axis=1)

def infinite(labels, outputs):
    return tf.reduce_sum(labels / (outputs * 0), axis=1)

def breaks(labels, outputs):
    return labels @ outputs

number = 3


class Calm(keras.callbacks.Callback):
    def __init__(self, patience=1):
        super().__init__()
        if patience < 0:
            raise ValueError("patience of less than nothing")

class Stranger:
    pass


def build(features, options, output, seed, precision):
    inputs = read_inputs(features).tensors
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(keras.ops.cast(i, "float32")) for i in inputs.values()])
    return keras.Model(inputs, keras.layers.Dense(output.logits + options.get("more", 0))(flat))

def build_nothing(features, options, output, seed, precision):
    return None


def prepare(inputs):
    given = tf.sparse.to_dense(inputs["distance"])[:, 0]
    carrier = tft.compute_and_apply_vocabulary(tf.sparse.to_dense(inputs["carrier"], default_value="")[:, 0], num_oov_buckets=1)
    return {"distance": tft.scale_to_z_score(given), "carrier": carrier}

def prepare_text(inputs):
    return {"carrier": tf.sparse.to_dense(inputs["carrier"], default_value="")[:, 0]}

def prepare_nothing(inputs):
    return {}

def prepare_more(inputs):
    return {"x": inputs["nowhere"]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(tmp_path_factory.mktemp("own"), rows=60)
    (made.folder / "mine.py").write_text(MINE)
    (made.folder / "broken.py").write_text("def f(:\n")
    (made.folder / "raises.py").write_text("raise RuntimeError('not today')\n")
    (made.folder / "leaves.py").write_text("import os\nos._exit(7)\n")
    return made


def config_with(project: Project, **sections: Any) -> RunConfig:
    raw = {**CONFIG, **sections}
    return parse_config(
        {**raw, "data": {**raw["data"], "path": str(project.folder / CONFIG["data"]["path"])}}
    )


LOSS: dict[str, Any] = {"kind": "custom"}


def trained(**parts: Any) -> dict[str, Any]:
    return {"training": {**CONFIG.get("training", {}), **parts}}


def custom(function: str, **options: Any) -> dict[str, Any]:
    return {"model": {"family": "custom", "function": function, "options": options}}


def user_fn(function: str) -> dict[str, Any]:
    columns = {"distance": "float", "carrier": "string"}
    push = {**CONFIG.get("push", {}), "lite": None}
    return {
        "preprocessing_fn": function,
        "features": {},
        "push": push,
        "data": {**CONFIG["data"], "columns": columns},
    }


CASES: list[tuple[dict[str, Any], str]] = [
    (trained(loss=LOSS | {"use": "nowhere:nothing"}), r"`training.loss.use` must name an importable function. Received: 'nowhere:nothing': No module named 'nowhere'"),
    (trained(loss=LOSS | {"use": "mine:cubed"}), r"Received: 'mine:cubed': module 'mine' has no attribute 'cubed'"),
    (trained(loss=LOSS | {"use": "broken:f"}), r"Received: 'broken:f': SyntaxError"),
    (trained(loss=LOSS | {"use": "raises:f"}), r"Received: 'raises:f': RuntimeError: not today \(training.loss.use\)"),
    (trained(loss=LOSS | {"use": "mine:number"}), r"`training.loss.use` must be a function. Received: 3"),
    (trained(loss=LOSS | {"use": "mine:squared", "options": {"powr": 2}}), r"`training.loss.use` must run on .*powr.*mine:squared"),
    (trained(loss=LOSS | {"use": "mine:one_number"}), r"a loss must give one number a row. Received: shape \(\)"),
    (trained(loss=LOSS | {"use": "mine:no_slope"}), r"a loss must follow the outputs, or nothing is learnt. Received: no gradient"),
    (trained(loss=LOSS | {"use": "mine:by_numpy"}), r"`training.loss.use` must run on .*numpy"),
    (trained(loss=LOSS | {"use": "mine:infinite"}), r"a loss must be finite, its gradient too. Received: NaN or infinity"),
    (trained(loss=LOSS | {"use": "mine:breaks"}), r"`training.loss.use` must run on"),
    (trained(callbacks=[{"use": "mine:Calmer"}]), r"`training.callbacks.0.use` must name an importable .*Calmer"),
    (trained(callbacks=[{"use": "mine:Calm"}, {"use": "mine:Stranger"}]), r"`training.callbacks.1.use` must name a subclass of keras.callbacks.Callback"),
    (trained(callbacks=[{"use": "mine:Calm", "options": {"patiance": 3}}]), r"`training.callbacks.0.options` must be arguments of mine:Calm. Received: patiance \(TypeError"),
    (trained(callbacks=[{"use": "mine:Calm", "options": {"patience": -1}}]), r"Received: patience \(ValueError: patience of less than nothing\)"),
    (trained(callbacks=[{"use": "keras.callbacks:EarlyStopping", "options": {"monitor": "val_rmse"}}]), r"`training.callbacks.0.options.monitor` must be auto or one of val_loss.* for binary tasks. Received: val_rmse"),
    (custom("mine:build_all"), r"`model.function` must name an importable function.*build_all"),
    (custom("mine:build_nothing"), r"`model.function` must return a functional keras.Model"),
    (custom("mine:build", more=2), r"a custom model must answer logits, float32 \[rows, 1\]. Received: float32 \[None, 3\]"),
    (custom("mine:build", more="x"), r"`model.function` must build a model. Received: TypeError"),
    (user_fn("mine:prepare_all"), r"`preprocessing_fn` must name an importable function.*prepare_all"),
    (user_fn("mine:prepare_nothing"), r"`preprocessing_fn` must return at least one tensor. Received: none"),
    (user_fn("mine:prepare_text"), r"outputs must be numbers. Received: string \(mine:prepare_text, output 'carrier'\)"),
    (user_fn("mine:prepare_more"), r"`preprocessing_fn` must run on tensors. Received: KeyError: 'nowhere'"),
]  # fmt: skip

WORKING: list[dict[str, Any]] = [
    trained(loss=LOSS | {"use": "mine:squared", "options": {"power": 3}}),
    trained(callbacks=[{"use": "mine:Calm"}, {"use": "keras.callbacks:TerminateOnNaN"}, {"use": "keras.callbacks:EarlyStopping", "options": {"monitor": "val_auc", "mode": "max"}}]),
    custom("mine:build"),
    {"model": {"family": "ensemble", "member": custom("mine:build")["model"]}},
    user_fn("mine:prepare"),
    user_fn("mine:prepare") | custom("mine:build"),
]  # fmt: skip


@pytest.fixture
def beside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.syspath_prepend(project.folder)
    return project


@pytest.mark.parametrize(("sections", "message"), CASES, ids=range(len(CASES)))
def test_what_does_not_work_is_told(sections: dict[str, Any], message: str, beside: Project) -> None:
    with pytest.raises(ConfigError, match=message):
        own_code_trial._try(config_with(beside, **sections))


@pytest.mark.parametrize("sections", WORKING, ids=range(len(WORKING)))
def test_what_works_is_taken(sections: dict[str, Any], beside: Project) -> None:
    own_code_trial._try(config_with(beside, **sections))


@pytest.mark.parametrize(
    ("task", "classes"),
    [("binary", []), ("multiclass", ["a", "b", "c", "d"]), ("multilabel", []), ("regression", [])],
)
def test_every_task(task: str, classes: list[str], beside: Project) -> None:
    data = {**CONFIG["data"], "task": task, "classes": classes}
    gates: dict[str, Any] = {}
    loss = trained(loss=LOSS | {"use": "mine:squared"}, class_weights="none")
    own_code_trial._try(
        config_with(beside, data=data, gates=gates, evaluation={}, **loss, **custom("mine:build"))
    )


def test_a_monitor_of_another_task(beside: Project) -> None:
    data, callback = {**CONFIG["data"], "task": "regression"}, {"use": "keras.callbacks:EarlyStopping"}
    parts = trained(callbacks=[callback | {"options": {"monitor": "val_auc"}}], class_weights="none")
    with pytest.raises(
        ConfigError, match=r"callbacks.0.options.monitor. must be .*for regression tasks. Received: val_auc"
    ):
        own_code_trial._try(config_with(beside, data=data, gates={}, evaluation={}, **parts))


def described(config: RunConfig) -> dict[str, Any]:
    plan = column_plan(config)
    types = {name: plan.type_of(name) for name in plan.features}
    label = next(column for column in plan.columns if column.name == plan.label)
    output = trial_output(config.data.task, config.data.classes)
    return try_features(config.features, config.preprocessing_fn, types, (label, plan.weight), output)


def test_made_up_features_are_those_that_a_transform_would_describe(project: Project) -> None:
    """Of what is not counted on data, all is as in a features.json: a bound of buckets more is a category more."""
    features = {
        "hour": {"kind": "numeric", "buckets": {"bounds": [6, 12, 18]}},
        "far": {"kind": "numeric", "column": "distance", "buckets": {"quantiles": 8}},
        "photo": {"kind": "image", "height": 4, "width": 5, "channels": 1, "scale": "zscore"},
        "distance": {"kind": "numeric"},
    }
    found = {
        entry["name"]: entry
        for entry in described(config_with(project, features=features, evaluation={}))["features"]
    }
    # Three bounds part four ranges; eight quantiles are parted by seven; missing is a category of its own.
    assert (found["hour"]["cardinality"], found["far"]["cardinality"]) == (5, 9)
    assert found["photo"]["shape"] == [4, 5, 1]
    assert {key: len(value) for key, value in found["photo"]["pixels"].items()} == {"multiply": 1, "add": 1}
    assert found["distance"]["role"] == "dense"


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("binary", ["no", "yes"]),
        ("multiclass", ["a", "b", "c"]),
        ("multilabel", ["a", "b", "c"]),
        ("regression", None),
    ],
)
def test_outputs_of_a_preprocessing_fn_are_described_for_every_task(
    task: str, classes: list[str] | None, beside: Project
) -> None:
    sections = user_fn("mine:prepare")
    sections["data"] = {**sections["data"], "task": task}
    found = described(config_with(beside, gates={}, **sections))
    assert found["label"] == {"task": task, "classes": classes}
    assert [(entry["name"], entry["role"], entry["width"]) for entry in found["features"]] == [
        ("carrier", "index", 1),
        ("distance", "dense", 1),
    ]


def test_names_of_own_code(project: Project) -> None:
    member = custom("a:b")["model"]
    config = config_with(
        project,
        model={"family": "ensemble", "member": member},
        **trained(loss=LOSS | {"use": "c:d"}, callbacks=[{"use": "e:F"}]),
    )
    assert own_names(config) == {
        "model.member.function": "a:b",
        "training.loss.use": "c:d",
        "training.callbacks.0.use": "e:F",
    }
    assert own_names(config_with(project, **user_fn("a:b"))) == {"preprocessing_fn": "a:b"}
    assert own_names(config_with(project)) == {}


class TestInAProcessOfItsOwn:
    """`validate` and `run` go through a child."""

    def overrides(self, use: str) -> list[str]:
        return ["training.loss.kind=custom", f"training.loss.use={use}"]

    def test_validate_and_run_refuse_alike_and_leave_nothing(self, project: Project) -> None:
        told: list[str] = []
        path, overrides = str(project.folder / "demo.yaml"), self.overrides("mine:no_slope")
        with pytest.raises(ConfigError, match="a loss must follow the outputs") as caught:
            validate(path, overrides, told.append)
        assert caught.value.hint.startswith("operations such as argmax")
        assert told == ["trying your own code on a few made-up rows (imports TensorFlow): mine:no_slope"]
        runs = project.folder / "runs"
        with pytest.raises(ConfigError, match="a loss must follow the outputs"):
            run(path, [*overrides, f"output.runs={runs}"])
        assert not runs.exists()

    def test_what_works_is_valid_wherever_one_stands(self, project: Project) -> None:
        told: list[str] = []
        (line, *_) = validate(str(project.folder / "demo.yaml"), self.overrides("mine:squared"), told.append)
        assert "is valid" in line
        assert len(told) == 1

    def test_a_module_that_ends_the_process(self, project: Project) -> None:
        config = load_config(project.folder / "demo.yaml", self.overrides("leaves:f"))
        message = r"own code must import and build \(training.loss.use\). Received: a process that ended with code 7"
        with pytest.raises(ConfigError, match=message):
            check_own_code(config, lambda text: None)

    def test_code_without_end(self, project: Project) -> None:
        config = load_config(project.folder / "demo.yaml", self.overrides("mine:squared"))
        with pytest.raises(ConfigError, match=r"must import and build .*Received: no end within 0 s"):
            check_own_code(config, lambda text: None, limit_s=0.2)


def test_a_config_without_own_code_is_valid_without_tensorflow(project: Project) -> None:
    script = (
        "import sys; from headrace.pipeline.validate import validate; "
        f"validate({str(project.folder / 'demo.yaml')!r}, (), sys.exit); "
        "sys.exit(3 if 'tensorflow' in sys.modules or 'keras' in sys.modules else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_columns_of_a_preprocessing_fn_are_those_declared(project: Project) -> None:
    assert column_plan(config_with(project, **user_fn("a:b"))).features == ("distance", "carrier")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("preprocessing_fn", "a:b", r"`push.lite` must be null with `preprocessing_fn`.*Received: tflite_int8"),
        ("gates.quality", [{"metric": "auc", "min": 1.01}], r"`gates.quality.0.min` must be at most 1, the best auc. Received: 1.01"),
        ("gates.quality", [{"metric": "log_loss", "max": -0.1}], r"`gates.quality.0.max` must be at least 0, the least. Received: -0.1"),
        ("gates.quality", [{"metric": "auc", "min": 0.8, "max": 0.7}], r"`gates.quality.0.min` must be at most its `max`. Received: 0.8 and 0.7"),
    ],
)  # fmt: skip
def test_what_can_never_be_pushed(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(changed(path, value))


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_a_threshold_of_another_task(task: str) -> None:
    raw = changed("data.task", task)
    assert parse_config(raw | {"evaluation": {"threshold": 0.5}}).data.task == task
    for threshold in (0.3, "max_f1"):
        with pytest.raises(
            ConfigError, match=rf"evaluation.threshold. goes with .*Received: {threshold} \({task}\)"
        ):
            parse_config(raw | {"evaluation": {"threshold": threshold}})


def test_bounds_that_can_be_kept() -> None:
    bounds = [
        {"metric": "auc", "min": 1.0},
        {"metric": "log_loss", "max": 0.0},
        {"metric": "auc", "min": 0.7, "max": 0.7},
    ]
    assert len(parse_config({**GOOD, "gates": {"quality": bounds}}).gates.quality) == 3
