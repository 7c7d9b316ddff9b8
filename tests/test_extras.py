"""A base install: what works, and which extra each of the other commands asks for."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.data.errors import EnvironmentProblem
from headrace.data.extras import EXTRAS, missing_extra, require
from headrace.pipeline.cli import _cli
from tests.e2e.project import Project

ROOT = Path(__file__).resolve().parents[1]

# Hides the packages of every extra, as an install without extras does.
WITHOUT = """
import sys
hidden = set({hidden!r})
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["headrace", *{arguments!r}]
from headrace.pipeline.cli import main
main()
"""

NEEDS = {
    "init rows.csv --label late -o new.yaml": None,
    "validate demo.yaml": None,
    "run demo.yaml": "pipeline",
    "resume r1": "pipeline",
    "node ingest --config demo.yaml --run-id r2": "pipeline",
    "report": None,
    "why": None,
    "serve push": "serving",
    "serve --help": None,
    "deploy render demo.yaml": None,
    "predict push/lite/demo rows.csv": "lite",
    "predict --model grpc://127.0.0.1:9/demo --input rows.csv": "client",
    "predict --model push/serving/demo --input rows.csv": "serving",
    "rollback demo --to 1": None,
    "data fetch planes .": None,
    "schema": None,
    "doctor": None,
    "kubeflow compile demo.yaml": "kubeflow",
    "kubeflow compile --help": None,
}
"""Command -> the extra without which it cannot work; None: a base install is enough."""


def name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0].lower().replace("_", "-")


def base_install() -> set[str]:
    """Return the distributions that an install without extras brings, as far as they are here."""
    found: set[str] = set()
    waiting = set(SECTIONS["base"])
    while waiting:
        one = waiting.pop()
        found.add(one)
        try:
            asked = importlib.metadata.requires(one) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting |= {name(line) for line in asked if "extra ==" not in line} - found
    return found


SECTIONS = {
    heading: [name(line) for line in lines.split("\n") if line[:1].isalpha()]
    for heading, lines in re.findall(
        r"^# \[(\w+)\]\n(.*?)(?=^# \[|\Z)", (ROOT / "requirements.in").read_text(), re.M | re.S
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project.make(tmp_path_factory.mktemp("base"), rows=200).folder
    run = project / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "request.json").write_text('{"config_path": "demo.yaml", "overrides": [], "run_id": "r1"}')
    (run / "summary.json").write_text('{"verdict": "pushed", "gates": []}')
    (run / "report.html").write_text("")
    for side, name in (("serving", "saved_model.pb"), ("lite", "model.tflite")):
        version = project / "push" / side / "demo" / "1"
        version.mkdir(parents=True)
        (version / name).write_text("x")
    return project


def call(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    here = base_install() | {"headrace"}
    hidden = [
        module
        for module, makers in importlib.metadata.packages_distributions().items()
        if module.isidentifier() and not here & {name(maker) for maker in makers}
    ]
    code = WITHOUT.format(hidden=hidden, arguments=arguments.split())
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("arguments", "extra"), NEEDS.items())
def test_a_base_install_tells_which_extra_is_needed(arguments: str, extra: str | None, folder: Path) -> None:
    done = call(folder, arguments)
    assert "Traceback" not in done.stderr
    told = re.findall(r'needs headrace\[(\w+)\]: pip install "\.\[(\w+)\]"', done.stderr)
    if extra is None:
        assert told == []
        assert "No module named" not in done.stderr
    else:
        assert told == [(extra, extra)], done.stderr
        assert done.returncode == 1


def test_every_command_is_in_the_table() -> None:
    assert {line.split()[0] for line in NEEDS} == set(_cli.commands)


@pytest.mark.parametrize("extra", EXTRAS)
def test_modules_of_an_extra_are_of_its_packages(extra: str) -> None:
    wanted = set(SECTIONS[extra])
    # Named for their versions alone: something above them imports them.
    unnamed = {"protobuf", "ai-edge-litert", "pillow", "kfp-kubernetes"}
    made_by = importlib.metadata.packages_distributions()
    brought = [{name(maker) for maker in made_by[module.split(".")[0]]} for module in EXTRAS[extra]]
    assert wanted - set().union(*brought) <= unnamed
    assert [makers for makers in brought if not makers & wanted and makers != {"kfp-server-api"}] == []
    require(extra)


@pytest.mark.parametrize(("error", "extra"), [
    (ModuleNotFoundError("x", name="tfx.orchestration"), "pipeline"),
    (ModuleNotFoundError("x", name="grpc"), "client"),
    (ModuleNotFoundError("x", name="google"), "client"),
    (ModuleNotFoundError("x", name="google.protobuf.json_format"), "client"),
    (ModuleNotFoundError("x", name="google.cloud"), None),
    (ModuleNotFoundError("x", name="tensorflow"), "serving"),
    (ModuleNotFoundError("x", name="nothing"), None),
    (ModuleNotFoundError("x"), None),
    (ValueError("tfx"), None),
])  # fmt: skip
def test_only_a_module_of_an_extra_is_told_so(error: Exception, extra: str | None) -> None:
    found = missing_extra(error)
    assert (found is None) == (extra is None)
    if found is not None:
        assert f"headrace[{extra}]: " in found.message


def test_a_module_that_cannot_be_imported_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(EnvironmentProblem, match=r'needs headrace\[client\]: pip install "\.\[client\]"\. Received: no module grpc'):  # fmt: skip  # noqa: E501
        require("client")


def test_nothing_recommends_the_name_of_an_index() -> None:
    suffixes = {".py", ".md", ".sh", ".in", ".yaml", ".j2", ".html", ".Dockerfile", ".json", ".toml"}
    files = [
        file
        for room in ("data", "serving", "components", "pipeline", "kubeflow", "docs", "scripts", "examples")
        for file in (ROOT / room).rglob("*")
        if file.suffix in suffixes
    ]
    files += [*ROOT.glob("*.md"), ROOT / "setup.py", ROOT / "Makefile", *(ROOT / "benchmarks").glob("*.py")]
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"""(pip install|uv add|--with|uvx|pipx run)\s+(-\S+\s+)*['"]?headrace\b""", line)
    ]
    assert found == []
    assert len(files) > 200
