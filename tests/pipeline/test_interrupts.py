"""Ctrl-C and the end of a terminal: counted while a run goes on, and a verdict of its own afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.data.errors import ConfigError, Interrupted, error_for_code
from headrace.pipeline.children import _hangups_ignored
from headrace.pipeline.config import RunConfig, load_config
from headrace.pipeline.interrupts import counted_interrupts
from headrace.pipeline.latest import latest_run
from headrace.pipeline.local import go_on
from headrace.pipeline.step import conclude_steps
from headrace.pipeline.verdicts import VERDICTS
from tests.e2e.project import Project
from tests.pipeline.test_step import record

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(params=[signal.SIGINT, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    kept = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, kept)


def test_signals_are_counted_and_handlers_come_back(number: signal.Signals) -> None:
    with counted_interrupts() as interrupts:
        assert not interrupts
        for _ in range(2):
            os.kill(os.getpid(), number)
        assert interrupts.count == 2
        assert interrupts
    assert signal.getsignal(number) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    other = {signal.SIGINT: signal.SIGHUP, signal.SIGHUP: signal.SIGINT}[number]
    kept = signal.signal(other, signal.default_int_handler)
    with counted_interrupts() as interrupts:
        os.kill(os.getpid(), number)
        assert not interrupts
        os.kill(os.getpid(), other)
        assert interrupts
    signal.signal(other, kept)


def test_another_thread_changes_nothing(number: signal.Signals) -> None:
    seen = []

    def work() -> None:
        with counted_interrupts() as interrupts:
            seen.append((interrupts.count, signal.getsignal(number)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, signal.default_int_handler)]


_TALKS = """
import sys, time
from headrace.pipeline.interrupts import counted_interrupts
with counted_interrupts() as interrupts:
    print("ready", flush=True)
    while not interrupts:
        time.sleep(0.01)
    for _ in range(3):
        print("more", flush=True)
        print("more", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("ended")
"""


def test_what_is_shown_after_the_terminal_is_gone_is_no_error(tmp_path: Path) -> None:
    outer, inner = os.openpty()
    command = [sys.executable, "-c", _TALKS, str(tmp_path / "end")]
    with subprocess.Popen(command, stdout=inner, stderr=inner, start_new_session=True) as process:
        os.close(inner)
        assert b"ready" in os.read(outer, 100)
        os.close(outer)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert (tmp_path / "end").read_text() == "ended"


def test_a_pipe_outlives_a_hangup(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TALKS, str(tmp_path / "end")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read() == "more\n" * 3


def test_children_are_born_deaf_to_the_end_of_the_terminal() -> None:
    kept = signal.getsignal(signal.SIGHUP)
    with (
        _hangups_ignored(),
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child,
    ):
        time.sleep(0.2)
        child.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert child.poll() is None
        child.kill()
    assert signal.getsignal(signal.SIGHUP) == kept


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    Project.make(tmp_path, rows=50)
    return load_config(tmp_path / "demo.yaml", root=tmp_path)


def test_an_interrupted_run_is_concluded_as_such(config: RunConfig) -> None:
    record(config, "ingest", {"state": "complete"})
    record(config, "statistics", {"state": "failed", "error": "interrupted in statistics", "exit_code": 130})
    ended = conclude_steps(config, "r1")
    assert (ended.verdict, ended.exit_code, type(ended.error)) == ("interrupted", 130, Interrupted)
    report = Path(config.output.runs, "r1", "report.html").read_text(encoding="utf-8")
    assert '<section class="banner interrupted"' in report
    assert "Interrupted</p>" in report
    assert "interrupted in statistics" in report


def test_the_verdicts_are_those_of_the_published_schema() -> None:
    published = json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8"))
    assert published["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert type(error_for_code(130, "x")) is Interrupted


def test_the_hint_is_the_command_that_goes_on(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(config.output.runs).parent)
    assert go_on(config, "r1") == "to go on: headrace resume r1"
    monkeypatch.chdir("..")
    folder = Path(config.output.runs).relative_to(Path.cwd())
    assert go_on(config, "r1") == f"to go on: headrace resume r1 --runs {folder}"


def put(runs: Path, run_id: str, summary: dict[str, Any] | None) -> None:
    folder = runs / run_id
    folder.mkdir(parents=True)
    (folder / "request.json").write_text("{}")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


STOPPED_BY_0_1 = {"verdict": "failed", "error": {"exit_code": 130}}


@pytest.mark.parametrize(
    ("newer", "why"),
    [
        ({"verdict": "interrupted", "error": {"exit_code": 130}}, "was interrupted"),
        (STOPPED_BY_0_1, "was interrupted"),
        (None, "has not ended"),
    ],
)
def test_the_latest_run_is_one_that_ended(newer: dict[str, Any] | None, why: str, tmp_path: Path) -> None:
    put(tmp_path, "r2", newer)
    with pytest.raises(ConfigError, match=f"a run must have ended. Received: r2, which {why}") as caught:
        latest_run(str(tmp_path))
    assert caught.value.hint == "headrace resume r2"
    put(tmp_path, "r0", {"verdict": "pushed", "error": None})
    put(tmp_path, "r1", {"verdict": "failed", "error": {"exit_code": 1}})
    found = latest_run(str(tmp_path))
    assert found.run_id == "r1"
    assert found.note == f"the latest run that ended is r1; r2 {why}: headrace resume r2"
    put(tmp_path, "r3", {"verdict": "rejected", "error": {"exit_code": 3}})
    assert (latest_run(str(tmp_path)).run_id, latest_run(str(tmp_path)).note) == ("r3", "")


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a folder with runs"):
        latest_run(str(tmp_path))
