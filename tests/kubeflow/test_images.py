"""The Dockerfiles keep the rules that a build would not: small, pinned, without root, nothing to leak."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.kubeflow.sbom import bill_of_materials
from headrace.pipeline.cluster import KubeflowConfig

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "kubeflow" / "images"
FILES = sorted(path.name for path in IMAGES.glob("*.Dockerfile"))


@dataclass(frozen=True)
class Instruction:
    keyword: str
    value: str


def instructions(name: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile, lines joined, comments left out."""
    text = (IMAGES / name).read_text()
    body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", body)
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(keyword, value.strip()) for keyword, value in found]


def final_stage(name: str) -> list[Instruction]:
    """Return what comes after the last FROM."""
    found = instructions(name)
    last = max(i for i, one in enumerate(found) if one.keyword == "FROM")
    return found[last + 1 :]


def value_of(name: str, keyword: str) -> str:
    values = [one.value for one in final_stage(name) if one.keyword == keyword]
    assert values, f"{name} has no {keyword} in its last stage"
    return values[-1]


def arguments(name: str) -> dict[str, str]:
    return dict(one.value.split("=", 1) for one in instructions(name) if one.keyword == "ARG")


def test_there_is_an_image_for_each_kind_of_machine() -> None:
    assert FILES == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.parametrize("name", FILES)
def test_every_base_has_a_tag_that_is_not_latest(name: str) -> None:
    given = arguments(name)
    for one in instructions(name):
        if one.keyword == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda found: given[found[1]], one.value.split()[0])
            assert re.search(r":[\w.-]+$", base), base
            assert not base.endswith(":latest")


@pytest.mark.parametrize("name", FILES)
def test_it_runs_as_the_user_that_steps_run_as(name: str) -> None:
    config = KubeflowConfig()
    assert value_of(name, "USER") == f"{config.run_as_user}:{config.run_as_group}"


@pytest.mark.parametrize("name", FILES)
def test_it_tells_its_health_and_has_no_entrypoint(name: str) -> None:
    assert 'CMD ["headrace", "--version"]' in value_of(name, "HEALTHCHECK")
    # Kubeflow gives a command; an entrypoint would only be in its way.
    assert not [one for one in final_stage(name) if one.keyword == "ENTRYPOINT"]


@pytest.mark.parametrize("name", FILES)
def test_labels_name_what_is_inside(name: str) -> None:
    labels = dict(re.findall(r'([\w.]+)="([^"]*)"', value_of(name, "LABEL")))
    version = re.search(r'^VERSION = "(.*)"', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert version is not None
    assert labels["org.opencontainers.image.version"] == version[1]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["headrace.sbom"].endswith(".cdx.json")


@pytest.mark.parametrize("name", FILES)
def test_layers_carry_no_package_lists_and_no_caches(name: str) -> None:
    for one in instructions(name):
        if one.keyword != "RUN":
            continue
        if "apt-get install" in one.value:
            assert "--no-install-recommends" in one.value
            assert "rm -rf /var/lib/apt/lists/*" in one.value
            assert one.value.startswith("apt-get update")
        for installer in re.findall(r"\S*pip install[^&]*", one.value):
            assert "--no-cache" in installer


@pytest.mark.parametrize("name", FILES)
def test_the_compiler_stays_behind(name: str) -> None:
    for one in final_stage(name):
        assert "build-essential" not in one.value
        assert "-dev" not in one.value


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_held_to_a_lock(name: str) -> None:
    text = " ".join(one.value for one in instructions(name) if one.keyword == "RUN")
    for command in re.findall(r"pip install[^&]*", text):
        assert (
            "--require-hashes" in command or "--constraint requirements.lock" in command or ".whl" in command
        )


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_let_in(name: str) -> None:
    rules = (IMAGES / f"{name}.dockerignore").read_text().split()
    assert "*" in rules
    for one in instructions(name):
        if one.keyword == "COPY" and not one.value.startswith("--from="):
            for source in one.value.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in rules
        assert one.keyword != "ADD"


@pytest.mark.parametrize("name", FILES)
def test_no_secret_and_no_host_is_in_it(name: str) -> None:
    text = (IMAGES / name).read_text()
    assert not re.search(r"(?i)password|token|https?://|--index-url|--trusted-host", text)


def test_the_gpu_lock_is_what_this_tensorflow_asks_for() -> None:
    from importlib.metadata import requires

    asked = {
        re.split(r"[^a-z0-9-]", line)[0]
        for line in requires("tensorflow") or []
        if 'extra == "and-cuda"' in line
    }
    lock = (IMAGES / "gpu.lock").read_text()
    locked = set(re.findall(r"^(nvidia-[a-z0-9-]+)==", lock, flags=re.MULTILINE))
    assert asked
    assert asked <= locked
    assert not re.findall(r"https?://", lock)
    blocks = re.findall(r"^nvidia-.*(?:\n .*)*", lock, flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_runtime_needs_no_kfp() -> None:
    text = (IMAGES / "cpu.Dockerfile").read_text()
    assert r"\[(base|lite|client|serving|pipeline)\]" in text
    code = "import sys, headrace.kubeflow.display; print([name for name in sys.modules if name[:3] == 'kfp'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_bill_of_materials_lists_this_environment() -> None:
    from importlib.metadata import version

    bill = bill_of_materials()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {entry["name"]: entry["version"] for entry in bill["components"]}
    for name in ("tensorflow", "tfx", "headrace"):
        assert found[name] == version(name)
    names = [entry["name"] for entry in bill["components"]]
    assert names == sorted(set(names))
    assert bill == bill_of_materials()
