"""Children start from any script: without a guard, from standard input, from threads."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.pipeline import children
from tests.e2e.project import environment

CHILD = """
import multiprocessing
from headrace.pipeline.children import start
print("main", flush=True)
process = multiprocessing.get_context("forkserver").Process(target=print, args=("child",))
start(process)
process.join()
print(process.exitcode)
"""

# A text where a number must be: the first node rejects the data, so a whole run takes seconds.
ROWS = "n,late\n" + "".join(f"{i % 17},{i % 3 // 2}\n" for i in range(300)) + "x,1\n"
CONFIG = """
schema_version: 1
name: {name}
data: {{path: rows.csv, label: late, columns: {{n: int}}}}
features: {{n: {{kind: numeric}}}}
"""
SCRIPT = """
import threading
from headrace.pipeline import run
print("main", run("a.yaml").verdict, flush=True)
verdicts = []
threads = [threading.Thread(target=lambda name: verdicts.append(run(name).verdict), args=(f"{name}.yaml",)) for name in "ab"]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*verdicts)
"""  # noqa: E501


def python(arguments: list[str], folder: Path, text: str = "") -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(), input=text, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["script", "stdin", "argument"])
def test_a_child_does_not_run_the_main_script_again(how: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(CHILD, encoding="utf-8")
    arguments = {"script": ["script.py"], "stdin": ["-"], "argument": ["-c", CHILD]}[how]
    assert python(arguments, tmp_path, CHILD if how == "stdin" else "") == "main\nchild\n0\n"


def test_the_main_module_is_back_also_where_the_start_failed() -> None:
    main = sys.modules["__main__"]

    class Broken:
        def start(self) -> None:
            assert sys.modules["__main__"] is not main
            raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        children.start(Broken())
    assert sys.modules["__main__"] is main


def together(call: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_starts_in_several_threads_leave_things_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = threading.Event()

    class Slow:
        def start(self) -> None:
            pause.wait(0.01)

    monkeypatch.setattr(children.multiprocessing.forkserver, "ensure_running", lambda: pause.wait(0.01))
    main, output = sys.modules["__main__"], [os.fstat(number).st_ino for number in (1, 2)]
    together(lambda number: children.start(Slow()))
    together(lambda number: children.forkserver(tmp_path / f"{number}.log"))
    assert sys.modules["__main__"] is main
    assert [os.fstat(number).st_ino for number in (1, 2)] == output


def test_what_imports_say_goes_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        children.multiprocessing.forkserver, "ensure_running", lambda: os.system("echo said; echo told >&2")
    )
    assert children.forkserver(tmp_path / "log").get_start_method() == "forkserver"
    assert (tmp_path / "log").read_text() == "said\ntold\n"


@pytest.mark.e2e
def test_runs_end_in_a_script_without_a_guard_and_in_threads(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(name=name), encoding="utf-8")
    assert python(["-"], tmp_path, SCRIPT) == "main data_rejected\ndata_rejected data_rejected\n"
