"""The Python API: what `headrace.pipeline` gives, whatever was imported before, and what a run returns."""

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline import RunConfig, RunResult, run

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "serving", "components", "pipeline", "kubeflow")
PACKAGES = sorted(
    "headrace." + ".".join(file.parent.relative_to(ROOT).parts)
    for room in ROOMS
    for file in (ROOT / room).rglob("__init__.py")
)
VARIANT = {"name": "float32", "size_bytes": 10, "metrics": {"auc": 0.75, "f1": None}}
SKIPPED = {"name": "tflite<int8>", "size_bytes": None, "metrics": {}}


def folder(package: str) -> Path:
    return ROOT.joinpath(*package.split(".")[1:])


def exports(package: str) -> list[str]:
    """Return what a package's `__all__` lists, without importing it."""
    for node in ast.parse((folder(package) / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


@pytest.mark.parametrize("first", ["sys", "headrace.pipeline.runs", "headrace.pipeline.cli"])
def test_run_is_the_function_whatever_was_imported_before(first: str) -> None:
    code = f"import {first}\nfrom headrace.pipeline import RunConfig, run\nprint(run.__name__, callable(run))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "run True\n", done.stderr


def test_the_names_are_those_of_the_design() -> None:
    assert list(inspect.signature(run).parameters)[:2] == ["config_path", "overrides"]
    assert inspect.isclass(RunConfig)
    assert {field.name for field in dataclasses.fields(RunResult)} >= {"summary", "verdict", "exit_code"}
    assert {"variants", "report"} <= set(vars(RunResult))


def test_some_packages_export_names() -> None:
    assert {"headrace.pipeline", "headrace.serving.client"} <= {name for name in PACKAGES if exports(name)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_takes_the_name_of_what_its_package_exports(package: str) -> None:
    # Importing the module would set the package's attribute of that name to the module.
    modules = {child.stem for child in folder(package).iterdir() if child.suffix == ".py" or child.is_dir()}
    assert modules & set(exports(package)) == set()


@pytest.mark.parametrize("package", [name for name in PACKAGES if exports(name)])
def test_every_exported_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    for name in exports(package):
        assert not inspect.ismodule(getattr(module, name)), name
        assert getattr(getattr(module, name), "__name__", name) == name  # a constant has none
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'|nothing"):
        module.nothing  # noqa: B018


def result(path: Path, *variants: dict[str, Any]) -> RunResult:
    return RunResult("r1", "pushed", 0, {"variants": list(variants)}, "summary.json", str(path), None)


class _Page(HTMLParser):
    """Collects the cells of a table, and what frames hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.frames: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "iframe":
            self.frames.append(dict(attrs)["srcdoc"] or "")

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_notebook_shows_the_variants(tmp_path: Path) -> None:
    found = result(tmp_path / "report.html", VARIANT, SKIPPED)
    assert [variant["name"] for variant in found.variants] == ["float32", "tflite<int8>"]
    shown = _Page(found._repr_html_()).cells
    assert shown == [
        *("pushed", f" r1: {tmp_path}/report.html", "variant", "bytes", "auc", "f1"),
        *("float32", "10", "0.7500", "-", "tflite<int8>", "-", "-", "-"),
    ]


def test_a_result_is_told_in_a_line(tmp_path: Path) -> None:
    assert "float32" not in repr(result(tmp_path / "report.html", VARIANT))


def test_a_run_without_variants_is_shown_too(tmp_path: Path) -> None:
    assert _Page(result(tmp_path / "r.html")._repr_html_()).cells[2:] == ["variant", "bytes"]


def test_the_report_is_a_file_and_a_page(tmp_path: Path) -> None:
    page = '<!doctype html><p title="a">1 < 2 & "so"</p>'
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    report = result(tmp_path / "report.html").report
    assert report.html == page
    assert Path(report) == Path(str(report)) == tmp_path / "report.html"
    assert _Page(report._repr_html_()).frames == [page]
