"""A second run of a pipeline waits for nobody: it is told which run is going on."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.data.errors import EnvironmentProblem
from headrace.pipeline.lock import held

HOLDER = """
import sys
from headrace.pipeline.lock import held
with held(sys.argv[1], "demo", "run-1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "runs" / ".store"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdin is not None
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == b"held\n"
        with (
            pytest.raises(EnvironmentProblem, match=r"Received: demo, whose run run-1 is going on"),
            held(str(store), "demo", "run-2"),
        ):
            pass
        with held(str(store), "another", "run-3"):
            pass
    finally:
        first.kill()
        first.wait(10)
        first.stdin.close()
        first.stdout.close()
    with held(str(store), "demo", "run-4"):
        assert (store / "demo.lock").read_text(encoding="utf-8") == "run-4"
