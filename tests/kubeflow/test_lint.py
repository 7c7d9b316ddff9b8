"""Each rule of lint has a pipeline that breaks it and no other."""
# ruff: noqa: E501 - one case a line reads best

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.data.errors import ConfigError
from headrace.kubeflow.compile import compile_pipeline
from headrace.kubeflow.lint import _secrets, find_problems, find_secrets, lint
from headrace.kubeflow.spec import load_pipeline
from headrace.pipeline.config import parse_config
from headrace.pipeline.packed import pack, unpack
from headrace.pipeline.reference import json_schema
from tests.e2e.project import Project
from tests.pipeline.test_config import GOOD

Documents = list[Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lint")
    Project.make(folder, rows=50)
    return compile_pipeline(folder / "demo.yaml", folder / "pipeline.yaml").path.read_text()


def tasks(documents: Documents) -> dict[str, Any]:
    return dict(documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"])


def container(documents: Documents, label: str = "exec-trainer") -> Any:
    return documents[0]["deploymentSpec"]["executors"][label]["container"]


def repack(documents: Documents, change: Callable[[dict[str, Any]], Any]) -> None:
    args = container(documents)["args"]
    packed = unpack(args[0].removeprefix("--config="))
    raw = dict(packed.raw)
    change(raw)
    args[0] = f"--config={pack(type(packed)(packed.stem, raw, packed.files))}"


FLINK = {"runner": "flink", "environment": "process", "process_command": "boot"}
OWN = {"family": "custom", "function": "mine:build"}

BREAKS: list[tuple[str, Callable[[Documents], Any], str]] = [
    ("schema", lambda d: d[0].update(schemaVersion="2.0.0"), "must be 2.1.0. Received: 2.0.0"),
    ("name", lambda d: d[0]["pipelineInfo"].update(name="Demo_1"), "Received: Demo_1"),
    (
        "container",
        lambda d: d[0]["deploymentSpec"]["executors"].update({"exec-push": {"importer": {}}}),
        "importer",
    ),
    ("container", lambda d: container(d).pop("image"), "must have an image"),
    (
        "executor",
        lambda d: d[0]["components"]["comp-push"].update(executorLabel="exec-x"),
        "Received: exec-x",
    ),
    ("component", lambda d: tasks(d)["push"]["componentRef"].update(name="comp-x"), "Received: comp-x"),
    ("producer", lambda d: tasks(d)["push"]["dependentTasks"].append("pull"), "Received: pull"),
    (
        "producer",
        lambda d: tasks(d)["push"]["inputs"]["parameters"]["force"].update(componentInputParameter="x"),
        "must come from somewhere. Received: x",
    ),
    ("cycle", lambda d: tasks(d)["statistics"]["dependentTasks"].append("push"), "wait for each other"),
    ("input", lambda d: tasks(d)["push"]["inputs"]["parameters"].pop("run_id"), "Received: no run_id"),
    (
        "type",
        lambda d: tasks(d)["push"]["inputs"]["parameters"].update(run_id={"runtimeValue": {"constant": 7.0}}),
        "push.run_id must be STRING. Received: 7.0",
    ),
    (
        "type",
        lambda d: d[0]["root"]["inputDefinitions"]["parameters"]["force"].update(defaultValue="no"),
        "must be BOOLEAN. Received: 'no'",
    ),
    ("cache", lambda d: tasks(d)["push"].update(cachingOptions={"enableCache": True}), "enableCache"),
    ("size", lambda d: container(d)["args"].append("x" * 12_010), "Received: 12,010"),
    (
        "size",
        lambda d: container(d)["args"].extend(["x" * 9_400] * 3),
        "a step's arguments must be at most 28,000",
    ),
    ("placeholder", lambda d: container(d)["args"].append("{{workflow.name}}"), "must be one of Kubeflow's"),
    ("placeholder", lambda d: container(d)["args"].append("--in={{$}}"), "an argument of its own"),
    (
        "placeholder",
        lambda d: container(d)["args"].append("{{$.inputs.parameters['speed']}}"),
        "one of its component's. Received: speed",
    ),
    (
        "secret",
        lambda d: container(d).update(env=[{"name": "DB_PASSWORD", "value": "hush"}]),
        "Received: DB_PASSWORD",
    ),
    (
        "secret",
        lambda d: container(d).update(env=[{"name": "DB", "value": "mysql://me:hush@db/x"}]),
        "must come from a Secret",
    ),
    ("secret", lambda d: container(d)["args"].append("mysql://me:hush@db/x"), "an argument with one"),
    (
        "secret",
        lambda d: repack(
            d, lambda raw: raw.update(beam=FLINK | {"process_env": {"API_TOKEN": "hush-hush-hush"}})
        ),
        "Received: beam.process_env.API_TOKEN",
    ),
    (
        "secret",
        lambda d: repack(d, lambda raw: raw.update(beam=FLINK | {"args": ["--db_password=hush"]})),
        "Received: beam.args.0",
    ),
    (
        "secret",
        lambda d: repack(
            d, lambda raw: raw.update(model=OWN | {"options": {"db": {"url": "x://me:hush@h/x"}}})
        ),
        "Received: model.options.db.url",
    ),
    (
        "secret",
        lambda d: repack(d, lambda raw: raw.update(model=OWN | {"options": {"hf_token": "hush_hush_hush"}})),
        "Received: model.options.hf_token",
    ),
    (
        "config",
        lambda d: repack(d, lambda raw: raw["data"].update(path="s3://bucket/x")),
        "URIs are not supported",
    ),
    ("path", lambda d: repack(d, lambda raw: raw["data"].update(path="/home/me/x.csv")), "/home/me/x.csv"),
    ("path", lambda d: container(d)["args"].append("--x=/root/secret"), "Received: /root/secret"),
    (
        "path",
        lambda d: d[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-push"].update(
            hostPath="/"
        ),
        "hostPath",
    ),
]


@pytest.mark.parametrize(("rule", "break_it", "message"), BREAKS)
def test_a_broken_rule_is_named(
    rule: str, break_it: Callable[[Documents], Any], message: str, good: str, tmp_path: Path
) -> None:
    documents = list(yaml.safe_load_all(good))
    break_it(documents)
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    problems = find_problems(path)
    assert {problem.rule for problem in problems} == {rule}
    assert any(message in problem.message for problem in problems)
    assert "hush" not in " ".join(problem.message for problem in problems)
    with pytest.raises(ConfigError, match=rf"\[{rule}\]"):
        lint(path)


def test_a_large_file_is_refused(good: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("# " + "x" * 1_000_000 + "\n" + good)
    assert [problem.rule for problem in find_problems(path)] == ["size"]


@pytest.mark.parametrize("text", ["", "a: [", "name: x\n", "- 1\n"])
def test_what_is_no_pipeline_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"a pipeline must be"):
        load_pipeline(path)


HARMLESS: list[dict[str, Any]] = [
    {"deploy": {"pull_secret": "registry", "models": {"kind": "bucket", "uri": "s3://models/x", "secret": "models-reader"}}},
    {"features": {"token_count": {"kind": "numeric"}, "api_key": {"kind": "categorical"}}},
    {"data": {"path": "rows.csv", "label": "secret", "columns": {"password": "string"}}, "features": {"x": {"kind": "numeric", "column": "access_token"}}},
    {"model": OWN | {"options": {"max_tokens": "1000000000", "pad_token": "[PADDING]", "oov_token": "UNK", "tokenizer": "sentencepiece", "token_count": "123456789"}}},
    {"beam": FLINK | {"process_env": {"TOKENIZERS_PARALLELISM": "false-false"}}},
    {"metadata": {"url": "mysql://me@db:3306/mlmd", "password_file": "/run/secrets/password"}},
    {"kubeflow": {"defaults": {"secrets": {"API_TOKEN": {"secret": "the-secret-of-all", "key": "api-token-key"}}}}},
]  # fmt: skip


@pytest.mark.parametrize("sections", HARMLESS, ids=range(len(HARMLESS)))
def test_names_of_secrets_and_columns_are_no_secrets(sections: dict[str, Any]) -> None:
    assert find_secrets(parse_config(GOOD | sections)) == []


SECRETS: list[tuple[str, dict[str, Any]]] = [
    ("training.loss.options.api_key", {"training": {"loss": {"kind": "custom", "use": "a:b", "options": {"api_key": "01234567"}}}}),
    ("training.callbacks.0.options.password", {"training": {"callbacks": [{"use": "a:B", "options": {"password": "x"}}]}}),
    ("model.options.keys.1", {"model": OWN | {"options": {"keys": ["x", "AKIAABCDEFGHIJKLMNOP"]}}}),
    ("model.options.secret_key.0", {"model": OWN | {"options": {"secret_key": ["0123456789"]}}}),
    ("model.member.options.authToken", {"model": {"family": "ensemble", "member": OWN | {"options": {"authToken": "0123456789"}}}}),
    ("deploy.arguments.0", {"deploy": {"arguments": ["--access_token=0123456789"]}}),
    ("kubeflow.defaults.env.CLIENT_SECRET", {"kubeflow": {"defaults": {"env": {"CLIENT_SECRET": "0123456789"}}}}),
    ("kubeflow.config_uri", {"kubeflow": {"config_uri": "s3://key:hush@bucket/x"}}),
    ("model.weights", {"model": {"family": "transfer", "weights": "https://me:hush@host/w.h5"}, "features": {"i": {"kind": "image", "height": 96, "width": 96}}}),
    ("beam.job_server_jar", {"beam": {"runner": "flink", "job_server_jar": "https://me:hush@host/j.jar"}}),
]  # fmt: skip


@pytest.mark.parametrize(("place", "sections"), SECRETS, ids=[place for place, _ in SECRETS])
def test_every_key_that_may_hold_a_secret_is_looked_into(place: str, sections: dict[str, Any]) -> None:
    assert find_secrets(parse_config(GOOD | sections)) == [place]


def test_keys_that_take_anything_are_marked() -> None:
    """A mapping of the user's own values that is not marked would be passed over."""
    fields = [
        (f"{name}.{key}", field)
        for name, section in json_schema()["$defs"].items()
        for key, field in section["properties"].items()
    ]
    marked = {place for place, field in fields if field.get("x-may-hold-secret")}
    assert {"StepConfig.env", "MetadataConfig.url", "FlinkBeam.process_env", "Loss.options"} <= marked
    free = {place for place, field in fields if field.get("additionalProperties") is True}
    assert free <= marked


def test_a_packed_config_is_not_judged_as_a_text() -> None:
    token = "gho_" + "a" * 40
    assert [rule for rule, _ in _secrets("x", {}, [f"--x={token}"])] == ["secret"]
    with pytest.raises(ConfigError, match="a packed config must be"):
        list(_secrets("x", {}, [f"--config=gz:{token}"]))
