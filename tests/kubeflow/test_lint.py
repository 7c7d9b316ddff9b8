"""Each rule of lint has a pipeline that breaks it and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.data.errors import ConfigError
from headrace.kubeflow.compile import compile_pipeline
from headrace.kubeflow.lint import find_problems, lint
from headrace.kubeflow.spec import load_pipeline
from headrace.pipeline.packed import pack, unpack
from tests.e2e.project import Project

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
    ("size", lambda d: container(d)["args"].append("x" * 70_000), "Received: 70,000"),
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
        lambda d: repack(d, lambda raw: raw["data"].update(path="s3://key:hush@bucket/x")),
        "Received: data.path",
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
