"""What is installed under the name headrace, and what with it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def read_requirement_names(extra: str) -> set[str]:
    """The distributions that `headrace[extra]` asks for; the plain install for an empty `extra`."""
    wanted = f'extra == "{extra}"' if extra else ""
    found = set()
    for line in importlib.metadata.requires("headrace") or []:
        requirement, _, marker = line.partition(";")
        if marker.strip() == wanted:
            found.add(re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0].lower())
    return found


@pytest.mark.parametrize("extra", ["", "lite", "client"])
def test_light_installs_ask_for_no_tensorflow(extra: str) -> None:
    names = read_requirement_names(extra)
    assert names, "the extra is empty or unknown"
    assert not names & {"tensorflow", "tfx", "keras", "apache-beam", "kfp"}


def test_a_pipeline_brings_the_server_that_its_gate_asks() -> None:
    assert read_requirement_names("serving") <= read_requirement_names("pipeline")


def test_all_is_every_extra_but_dev() -> None:
    parts = [read_requirement_names(extra) for extra in ("lite", "client", "serving", "pipeline", "kubeflow")]
    assert read_requirement_names("all") == set().union(*parts)


def test_lock_names_no_host() -> None:
    assert not re.findall(r"https?://\S+|--(?:extra-)?index-url|--find-links", LOCK)


def test_lock_has_a_hash_for_every_pin() -> None:
    pins = re.findall(r"^[a-z0-9][\w.-]*==.*(?:\n .*)*", LOCK, flags=re.MULTILINE)
    assert len(pins) > 200
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_lock_answers_every_requirement() -> None:
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    asked = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines if line and line[0] != "#"}
    locked = set(re.findall(r"^([a-z0-9][\w.-]*)==", LOCK, flags=re.MULTILINE))
    assert asked - locked == set()


def test_contracts_and_typing_cover_every_room() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    contracts = config["tool"]["importlinter"]["root_packages"]
    assert {name.removeprefix("headrace.") for name in contracts} == rooms
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.search(r"^ROOMS := (.*)$", makefile, flags=re.MULTILINE)[1].split()) == rooms


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` unpacks, made of the sources alone."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    rooms = ("headrace", "data", "serving", "components", "pipeline", "kubeflow")
    for room in rooms:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "setup.py", *ROOT.glob("[LNRMpr]*.[imt]*"), ROOT / "LICENSE", ROOT / "NOTICE"):
        shutil.copy(file, source)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(site)!r}))"
    command = [sys.executable, "-c", code]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0, built.stderr
    (archive,) = site.glob("*.whl")
    zipfile.ZipFile(archive).extractall(site)
    return site


def test_a_wheel_holds_every_room_typed_and_nothing_else(wheel: Path) -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {path.parent.name for path in wheel.glob("headrace/*/py.typed")} == rooms
    assert {path.name for path in (wheel / "headrace").iterdir()} == rooms | {"__main__.py"}
    folders = [path.name for path in wheel.iterdir() if path.is_dir() and path.suffix != ".dist-info"]
    assert folders == ["headrace"]
    for room in rooms:
        sources = {path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*.py")}
        packed = wheel / "headrace" / room
        assert sources == {path.relative_to(packed) for path in packed.rglob("*.py")}


@pytest.mark.parametrize("installed", ["editable", "wheel"])
@pytest.mark.parametrize("module", ["headrace", "headrace.pipeline"])
def test_the_package_is_the_command(module: str, installed: str, wheel: Path, tmp_path: Path) -> None:
    # Without site-packages' .pth files there is no editable install.
    code = f"import sys, runpy; sys.argv = ['x', 'schema']; runpy.run_module({module!r}, run_name='__main__')"
    packages = Path(pytest.__file__).parents[1]
    arguments, path = {
        "editable": (["-m", module, "schema"], ""),
        "wheel": (["-S", "-c", code], f"{wheel}:{packages}"),
    }[installed]
    command, env = [sys.executable, *arguments], {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert '"title": "headrace run config"' in done.stdout, done.stderr
