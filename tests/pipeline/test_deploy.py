"""`headrace deploy render`, from the command line."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from headrace.data.errors import ConfigError
from headrace.pipeline import cli
from headrace.pipeline.config import load_config, parse_config
from headrace.pipeline.deploy import deployment_plan
from headrace.pipeline.identity import run_identity
from headrace.serving.deploy.config import DeployConfig
from headrace.serving.deploy.plan import peak_bytes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def headrace(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["headrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_manifests_are_written_and_the_next_command_is_said(headrace, tmp_path):
    config = EXAMPLES / "taxi.yaml"
    code, out, err = headrace("deploy", "render", config)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "wrote deploy/kubernetes/30-deployment.yaml" in lines
    assert (
        f"taxi: no version in {_push(config)}/serving/taxi yet; `headrace run {config}` pushes one" in lines
    )
    steps = [line for line in lines if line.startswith("next: ")]
    assert steps[:2] == [f"next: kubectl apply -f deploy/kubernetes{inner}" for inner in ("/once", "")]
    written = {f"deploy/kubernetes/{path}" for path in _files(tmp_path / "deploy/kubernetes")}
    assert {line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")} == written
    code, out, _ = headrace("deploy", "render", config)
    assert out.splitlines()[0] == f"unchanged in deploy/kubernetes: {len(written)} files"


def test_several_targets_have_folders_of_their_own(headrace, tmp_path):
    targets = [part for name in ("compose", "kserve") for part in ("--target", name)]
    code, out, _ = headrace("deploy", "render", EXAMPLES / "taxi.yaml", "-o", "out", *targets)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compose", "kserve"]
    assert "next: docker compose -f out/compose/compose.yaml up -d --wait" in out
    assert "next: kubectl -n serving get inferenceservice taxi" in out


def test_edits_are_kept_but_with_force(headrace, tmp_path):
    render = ("deploy", "render", EXAMPLES / "taxi.yaml", "--target", "compose")
    headrace(*render)
    file = tmp_path / "deploy/compose/compose.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("2g", "9g"), encoding="utf-8")
    code, _, err = headrace(*render)
    assert code == 2
    assert "must not have been edited. Received: changes in deploy/compose/compose.yaml" in err
    assert "--force" in err
    before = _files(tmp_path / "deploy")
    assert headrace(*render, "--target", "kserve")[0] == 2
    assert _files(tmp_path / "deploy") == before
    code, out, _ = headrace(*render, "--force")
    assert (code, out.splitlines()[0]) == (0, "wrote deploy/compose/compose.yaml")
    assert file.read_text(encoding="utf-8") == text


def test_another_config_does_not_replace_the_files_of_the_first(headrace, tmp_path):
    headrace("deploy", "render", EXAMPLES / "taxi.yaml")
    before = _files(tmp_path / "deploy")
    code, _, err = headrace("deploy", "render", EXAMPLES / "flights.yaml")
    assert code == 2
    assert f"flights.yaml (model flights) for deploy/kubernetes, which holds those of {_near('taxi')}" in err
    assert "-o deploy/flights writes into another folder, --force replaces them" in err
    assert _files(tmp_path / "deploy") == before
    assert headrace("deploy", "render", EXAMPLES / "flights.yaml", "-o", "deploy/flights")[0] == 0
    assert headrace("deploy", "render", EXAMPLES / "flights.yaml", "--force")[0] == 0


def test_a_pushed_version_is_named(headrace, tmp_path):
    (tmp_path / "push/serving/taxi/7").mkdir(parents=True)
    _, out, _ = headrace(
        "deploy", "render", EXAMPLES / "taxi.yaml", "--set", f"output.push={tmp_path / 'push'}"
    )
    assert f"taxi: version 7 is the latest in {tmp_path}/push/serving/taxi" in out


@pytest.mark.parametrize(
    ("memory", "warned"), [("512Mi", True), ("1Gi", True), ("1200Mi", False), ("2Gi", False)]
)
def test_memory_is_compared_with_what_the_version_took(headrace, tmp_path, memory, warned):
    folder = tmp_path / "push/serving/taxi/7"
    folder.mkdir(parents=True)
    gates = [{"metric": "auc", "value": 0.8}, {"metric": "rss_bytes", "value": 850.0 * 2**20}]
    (folder / "manifest.json").write_text(json.dumps({"gates": gates}), encoding="utf-8")
    push = f"output.push={tmp_path / 'push'}"
    memory = f"deploy.resources.memory={memory}"
    _, out, _ = headrace("deploy", "render", EXAMPLES / "taxi.yaml", "--set", push, "--set", memory)
    assert ("the version took 850 MiB when it was checked" in out) == warned


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"gates": [{}]}', '{"gates": [{"metric": "rss_bytes", "value": null}]}']
)
def test_a_version_of_another_tool_has_no_known_memory(tmp_path, text):
    assert peak_bytes(tmp_path) is None
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    assert peak_bytes(tmp_path) is None


def test_settings_come_from_the_config_and_the_command_line(headrace, tmp_path):
    code, out, _ = headrace(
        "deploy",
        "render",
        EXAMPLES / "taxi.yaml",
        "--set",
        "deploy={namespace: null, models: {kind: bucket, uri: 's3://models-of-taxi/serving'}}",
        "--set",
        "deploy.replicas.min=3",
    )
    assert code == 0
    assert "next: kubectl rollout status deployment/taxi" in out
    assert "upload.yaml" not in out
    text = (tmp_path / "deploy/kubernetes/50-availability.yaml").read_text(encoding="utf-8")
    assert next(yaml.safe_load_all(text))["spec"]["minReplicas"] == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("deploy.tag=latest", r"`deploy\.tag` must name one version of the image\. Received: latest"),
        ("deploy.replicas.max=1", r"`deploy\.replicas\.max` must be at least `min` \(2\)\. Received: 1"),
        ("deploy.replcas=1", r"unknown key `deploy\.replcas` .*Nearest valid key: `replicas`"),
        ("deploy.models={kind: disk}", r"`deploy\.models\.kind` must be one of 'volume', 'bucket'"),
        ("deploy.models={kind: bucket, uri: 'az://xyz'}", r"`deploy\.models\.uri` .*Received: \"az://xyz\""),
        (
            "deploy.models={kind: bucket, uri: 'gs://xyz', endpoint: 'http://a'}",
            r"`deploy\.models\.endpoint` is for s3:// alone\. Received: it with gs://xyz",
        ),
        (
            "deploy.models={kind: volume, access_mode: ReadWriteOnce}",
            r"replicas\.max` must be 1\. Received: 6",
        ),
        ("deploy.models={kind: volume, access_mode: ReadOnlyMany}", r"needs `deploy\.models\.claim`"),
        ("deploy.service.source_ranges=['10.0.0.0/8']", r"source_ranges` needs .*Received: ClusterIP"),
        ("deploy.tolerations=[{operator: Exists, value: a}]", r"must have no value\. Received: a"),
        ("deploy.tolerations=[{value: a}]", r"must have a key\. Received: none"),
        ("deploy.labels={app.kubernetes.io/name: x}", r"leave the objects' own labels\. Received: app\.kube"),
        ("deploy.compose.rest_port=8500", r"must differ\. Received: 8500 for both"),
        ("push.serving=null", r"must have `push\.serving`\. Received: null"),
        ("push.model_name='a model'", r"name of letters, digits, `\.`, `-` and `_`\. Received: a model"),
        ("push.model_name='___'", r"`deploy\.name` must be given .*Received: ___"),
    ],
)
def test_what_cannot_be_deployed_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        deployment_plan(load_config(EXAMPLES / "taxi.yaml", [override]))


def test_rows_with_lists_of_any_length_are_not_batched():
    plan = deployment_plan(load_config(EXAMPLES / "vowels.yaml"))
    assert not plan.batching
    with pytest.raises(ConfigError, match=r"`deploy\.batching\.enabled` must be `auto` or false"):
        deployment_plan(load_config(EXAMPLES / "vowels.yaml", ["deploy.batching.enabled=true"]))
    assert deployment_plan(load_config(EXAMPLES / "taxi.yaml")).batching


def test_a_deployment_is_no_part_of_a_run_s_identity():
    raw = yaml.safe_load((EXAMPLES / "taxi.yaml").read_text(encoding="utf-8"))
    other = {**raw, "deploy": {"replicas": {"min": 5}}}
    assert run_identity(parse_config(other)) == run_identity(parse_config(raw))


def test_the_example_in_the_documents_is_valid():
    text = (EXAMPLES.parent / "docs/deploy.md").read_text(encoding="utf-8")
    section = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["deploy"]
    taxi = yaml.safe_load((EXAMPLES / "taxi.yaml").read_text(encoding="utf-8"))
    plan = deployment_plan(parse_config({**taxi, "deploy": section}))
    assert plan.bucket is not None
    assert f"image `{DeployConfig().image}:{DeployConfig().tag}`" in text
    assert f"`start_s` ({DeployConfig().start_s} s)" in text
    assert f"`drain_s` ({DeployConfig().drain_s} s)" in text


def _near(name):
    return f"{os.path.relpath(EXAMPLES / name)}.yaml (model {name})"


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def _push(config: Path) -> str:
    return load_config(config).output.push
