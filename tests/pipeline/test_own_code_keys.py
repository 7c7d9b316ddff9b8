"""The user's own code in cache keys: what it imports beside the config, and no comment."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.components.imported import load_object
from headrace.components.own_code import import_paths, own_code, search_first
from headrace.data.errors import ConfigError
from headrace.pipeline.config import RunConfig, load_config
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.identity import node_parameters, run_identity

from .test_config import GOOD, write

LOSS = "from mathematics import tools\n\ndef steep(y, z):\n    return tools.twice(y)\n"
TOOLS = "import numpy\nfrom . import deep\n\ndef twice(x):\n    return 2 * x\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A config whose loss lies in own_loss.py, which imports a package beside it."""
    (tmp_path / "own_loss.py").write_text(LOSS)
    package = tmp_path / "mathematics"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text(TOOLS)
    (package / "deep.py").write_text("DEPTH = 3\n")
    (tmp_path / "unused.py").write_text("")
    write(tmp_path, {**GOOD, "training": {"loss": {"kind": "custom", "use": "own_loss:steep"}}})
    return tmp_path


def loaded(project: Path) -> RunConfig:
    return load_config(project / "demo.yaml", root=project)


def keys(project: Path) -> dict[str, Any]:
    return {node.id: node_parameters(loaded(project), node) for node in GRAPH}


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("own_loss.py", LOSS.replace("tools.twice(y)", "tools.twice(z)")),
        ("mathematics/tools.py", TOOLS.replace("2 *", "3 *")),
        ("mathematics/deep.py", "DEPTH = 4\n"),
        ("mathematics/__init__.py", "NAME = 1\n"),
    ],
)
def test_an_edit_moves_the_nodes_that_train(project: Path, file: str, edit: str) -> None:
    before, identity = keys(project), run_identity(loaded(project))
    (project / file).write_text(edit)
    after = keys(project)
    assert {name for name in before if before[name] != after[name]} == {"trainer", "push"}
    assert run_identity(loaded(project)) != identity


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("own_loss.py", f'"""Losses."""\n# of mine\n{LOSS}'),
        ("own_loss.py", LOSS.replace("    return", "    'Steep.'\n\n    return")),
        ("unused.py", "X = 1\n"),
    ],
)
def test_words_and_other_modules_move_nothing(project: Path, file: str, edit: str) -> None:
    before = keys(project)
    (project / file).write_text(edit)
    assert keys(project) == before


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"preprocessing_fn": "own_loss:steep", "push": {"lite": None}}, {"transform"}),
        ({"model": {"family": "custom", "function": "own_loss:steep"}}, {"trainer"}),
        ({"training": {"callbacks": [{"use": "own_loss:steep"}]}}, {"trainer"}),
        ({"model": {"family": "custom", "function": "own_loss:steep"}, "cross_validation": {"enabled": True}},
         {"trainer", "crossval"}),
        ({"training": {"loss": {"kind": "custom", "use": "own_loss:steep"}},
          "tuning": {"enabled": True, "search": {"model.dropout": {"float": [0, 0.5]}}}},
         {"trainer", "tuner"}),
    ],
)  # fmt: skip
def test_own_code_is_in_the_keys_of_the_nodes_that_use_it(
    project: Path, section: dict[str, Any], expected: set[str]
) -> None:
    write(project, {**GOOD, **section})
    before = keys(project)
    (project / "own_loss.py").write_text(LOSS + "X = 1\n")
    after = keys(project)
    assert {name for name in before if before[name] != after[name]} - {"push"} == expected


def test_what_is_the_users_and_what_is_not(project: Path) -> None:
    found = own_code(["own_loss:steep"], str(project))
    assert set(found.files) == {"own_loss", "mathematics", "mathematics.tools", "mathematics.deep"}
    assert found.packages == {"numpy"}
    assert not found.absent
    installed = own_code(["keras.losses:Loss", "json:loads", "nowhere:f"], str(project))
    assert (installed.files, installed.packages, installed.absent) == ({}, {"keras"}, {"nowhere"})
    (project / "own_loss.py").write_text("from headrace.components.models.inputs import read_inputs\n")
    ours = own_code(["own_loss:steep"], str(project))
    assert ours.ours >= {"headrace.components.models.inputs"}


def test_the_version_of_an_installed_package_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    before = own_code(["keras.losses:Loss"], str(project)).digest()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    assert own_code(["keras.losses:Loss"], str(project)).digest() != before


def test_a_module_that_is_no_python_is_named_with_its_line(project: Path) -> None:
    (project / "mathematics/deep.py").write_text("DEPTH = 3\nDEPTH = = 4\n")
    with pytest.raises(ConfigError, match=r"must be Python.*invalid syntax.*deep\.py, line 2"):
        own_code(["own_loss:steep"], str(project))


def test_import_paths_are_found_wherever_they_stand() -> None:
    given = {"a": ["x:y", {"b": "p.q:r"}], "c": "no path", "d": 3, "e": "%H:%M", "f": "12:30"}
    assert list(import_paths(given)) == ["x:y", "p.q:r"]


def test_modules_beside_the_config_come_first_and_fresh(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    other = tmp_path_factory.mktemp("other")
    (other / "own_loss.py").write_text("def steep():\n    return 'other'\n")
    search_first(str(other), ["own_loss:steep"])
    assert load_object("own_loss:steep", "here")() == "other"
    search_first(str(project), ["own_loss:steep"])
    assert load_object("own_loss:steep", "here").__code__.co_filename == str(project / "own_loss.py")
    assert sys.path[0] == str(project)
    assert str(other) not in sys.path
    shown = [sys.executable, "-c", "import own_loss, os; print(own_loss.__file__, os.environ['PYTHONPATH'])"]
    told = subprocess.run(shown, capture_output=True, text=True, check=True, cwd="/").stdout.split()
    assert told == [str(project / "own_loss.py"), f"{project}:/elsewhere"]
    (project / "own_loss.py").write_text("def steep():\n    return 'edited'\n")
    search_first(str(project), ["own_loss:steep"])
    assert load_object("own_loss:steep", "here")() == "edited"
    before = list(sys.path)
    search_first("/nothing", [])
    assert sys.path == before


def test_another_folder_of_code_may_be_named(project: Path) -> None:
    (project / "src").mkdir()
    (project / "own_loss.py").rename(project / "src/own_loss.py")
    write(project, {**GOOD, "code": "src", "training": {"loss": {"kind": "custom", "use": "own_loss:steep"}}})
    found = own_code(["own_loss:steep"], loaded(project).code)
    assert found.files["own_loss"] == project / "src/own_loss.py"
