"""The command line as users meet it: help, exit codes, one-line errors, quick answers."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.data.errors import ConfigError
from headrace.pipeline.config import load_config
from headrace.pipeline.runs import find_run, read_request

COMMAND = [sys.executable, "-m", "headrace.pipeline"]

ROWS = "carrier,distance,late\n" + "".join(f"{'AB'[i % 2]},{100 + i % 50},{i % 3 // 2}\n" for i in range(300))


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path


def test_help_is_quick_and_lists_commands_in_order(tmp_path: Path) -> None:
    best = 9.0
    for _ in range(3):
        started = time.monotonic()
        done = call("--help", cwd=tmp_path)
        best = min(best, time.monotonic() - started)
    assert done.returncode == 0
    positions = [
        done.stdout.index(f"\n  {name} ") for name in ("init", "validate", "run", "report", "doctor")
    ]
    assert positions == sorted(positions)
    # The bar is 0.3 s on a quiet machine; twice that tells a heavy import from a busy neighbour.
    assert best < 0.6


def test_init_writes_a_config_that_validates(project: Path) -> None:
    done = call("init", "rows.csv", "--label", "late", cwd=project)
    assert done.returncode == 0, done.stderr
    config = load_config(project / "rows.yaml")
    assert config.data.task == "binary"
    assert set(config.features) == {"carrier", "distance"}
    checked = call("validate", "rows.yaml", cwd=project)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("rows.yaml is valid: 1 file")


def test_init_tells_what_it_left_out_and_what_to_mend_first(project: Path) -> None:
    rows = project / "rows.csv"
    lines = rows.read_text(encoding="utf-8").splitlines()
    lines[200] = "A,12k?,1"
    numbered = [f"{line},{'row_id' if index == 0 else index}" for index, line in enumerate(lines)]
    rows.write_text("\n".join(numbered) + "\n", encoding="utf-8")
    done = call("init", "rows.csv", "--label", "late", cwd=project)
    assert done.returncode == 0, done.stderr
    *_, left_out, then = done.stdout.splitlines()
    assert left_out.startswith("left out: ")
    assert "row_id (an id)" in left_out
    assert then == (
        "next: mend these cells or list them in `data.csv.null_values`, then: headrace run rows.yaml"
    )


def test_init_does_not_overwrite(project: Path) -> None:
    (project / "rows.yaml").write_text("mine", encoding="utf-8")
    done = call("init", "rows.csv", "--label", "late", cwd=project)
    assert done.returncode == 2
    assert "must not exist yet. Received: rows.yaml" in done.stderr
    assert (project / "rows.yaml").read_text(encoding="utf-8") == "mine"


def test_validate_does_not_import_tensorflow(project: Path) -> None:
    assert call("init", "rows.csv", "--label", "late", cwd=project).returncode == 0
    code = (
        "import sys; sys.argv = ['headrace', 'validate', 'rows.yaml']\n"
        "from headrace.pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument"),
        (["run", "none.yaml"], "must be an existing file. Received: none.yaml"),
        (["fly"], "No such command 'fly'"),
        (["report", "x"], "a run must be one of those in runs"),
        (["report"], "`--runs` must be a folder with runs"),
        (["predict", "nowhere"], "a bundle must be a folder with model.tflite"),
        (["data", "fetch", "planes", "."], "flights"),
        (["node", "nothing", "--config", "x", "--run-id", "y"], "node must be one of ingest"),
    ],
)
def test_usage_errors_exit_with_2_and_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = call("run", "none.yaml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_schema_prints_json(tmp_path: Path) -> None:
    assert json.loads(call("schema", cwd=tmp_path).stdout)["title"] == "headrace run config"


def test_doctor_names_what_it_looked_at(tmp_path: Path) -> None:
    done = call("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for word in ("Python", "glibc", "tensorflow", "GPU", "disk", "port 8501"):
        assert word in done.stdout


def test_why_of_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    (run / "request.json").write_text("{}", encoding="utf-8")
    result = call("why", cwd=tmp_path)
    assert result.returncode == 2
    assert "a run must have ended. Received: 20260101-000000-abcdef, which has not ended" in result.stderr
    assert "headrace resume 20260101-000000-abcdef" in result.stderr


@pytest.mark.parametrize(
    "named",
    ["r1", "runs/r1", "./runs/r1/", "runs/r1/report.html", "runs/r1/logs/a.log", "{}/runs/r1"],
)
def test_a_run_is_named_as_runs_print_it(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"run_id": "r1"}', encoding="utf-8")
    found = find_run("runs", named.format(tmp_path))
    assert found.resolve() == folder
    assert read_request(found) == {"run_id": "r1"}
    assert find_run(str(tmp_path / "runs"), "r1") == folder


@pytest.mark.parametrize("named", ["r2", "runs/r2", "elsewhere/r1", ".", "request.json", ""])
def test_a_name_of_no_run_is_refused(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "r1" / "request.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = f"a run must be one of those in runs (r1). Received: {named}"
    with pytest.raises(ConfigError, match=re.escape(words)):
        find_run("runs", named)


def test_commands_take_the_path_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "else" / "r1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"config_path": "none.yaml", "overrides": []}', encoding="utf-8")
    for command in ("why", "report"):
        told = call(command, "else/r1/", cwd=tmp_path).stderr
        assert "Received: r1\n" in told
        assert "headrace resume else/r1\n" in told
    assert "must be an existing file. Received: none.yaml" in call("resume", "else/r1", cwd=tmp_path).stderr
    (folder / "summary.json").write_text('{"verdict": "pushed", "gates": []}', encoding="utf-8")
    (folder / "report.html").write_text("", encoding="utf-8")
    assert call("why", "else/r1/report.html", cwd=tmp_path).stdout == "verdict  pushed\n"
    assert call("report", "./else/r1", cwd=tmp_path).stdout == "else/r1/report.html\n"
