"""CPU seconds of the whole DAG: headrace without tuner against stock TFX, run in turn.

    python benchmarks/pipeline.py examples/flights.yaml [--repeats 3]

Each run is a fresh process with fresh folders. What is counted is user and system time of its whole
process tree: this process adopts whatever its children leave behind and waits for it too. Epochs are the
same on both sides (early stopping is off), metrics and slices as well; headrace also builds, judges and
probes its variants. One JSON object goes to stdout; `ratio` is headrace over stock, of medians.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36


def measure(command: Sequence[str], log: Path) -> dict[str, Any]:
    """Run a command and everything that it starts to the end.

    Returns:
        `{cpu_s, wall_s, exit_code, stdout}`.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("wb") as stream:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stream, check=False)
    wall = time.monotonic() - start
    _wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "exit_code": done.returncode,
        "stdout": done.stdout.decode(),
    }


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that their time is counted (Linux)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _wait_for_orphans() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def run_once(side: str, config: str, folder: Path) -> dict[str, Any]:
    """Run one side in a fresh folder and check that it pushed."""
    folder.mkdir()
    if side == "stock":
        command = [sys.executable, str(Path(__file__).with_name("stock.py")), config, str(folder / "work")]
    else:
        settings = {
            "tuning.enabled": "false",
            "training.early_stopping": "null",
            "output.runs": str(folder / "runs"),
            "output.push": str(folder / "push"),
            "validation.schema_path": str(folder / "schema.pbtxt"),
        }
        command = [sys.executable, "-m", "headrace.pipeline", "run", config, "--json"]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    found = measure(command, folder / "stderr.log")
    answer = json.loads(found.pop("stdout") or "{}")
    pushed = answer.get("pushed") if side == "stock" else answer.get("verdict") == "pushed"
    if found["exit_code"] or not pushed:
        tail = (folder / "stderr.log").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{side} did not push (exit code {found['exit_code']}):\n{tail}")
    if side == "stock":
        return found | {"nodes_cpu_s": {"import": answer["import_cpu_s"], **answer["component_cpu_s"]}}
    summary = json.loads(Path(answer["summary_path"]).read_text(encoding="utf-8"))
    return found | {"nodes_cpu_s": {node["id"]: node["cpu_s"] for node in summary["nodes"]}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a headrace config of a binary task on a CSV file")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, in turn; medians are given")
    options = parser.parse_args()
    adopt_orphans()
    runs: dict[str, list[dict[str, Any]]] = {"stock": [], "headrace": []}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temp:
        for repeat in range(options.repeats):
            for side, found in runs.items():
                found.append(run_once(side, options.config, Path(temp) / f"{side}-{repeat}"))
    medians = {
        side: {key: statistics.median(run[key] for run in found) for key in ("cpu_s", "wall_s")}
        | {"nodes_cpu_s": found[-1]["nodes_cpu_s"]}
        for side, found in runs.items()
    }
    ratio = {key: round(medians["headrace"][key] / medians["stock"][key], 3) for key in ("cpu_s", "wall_s")}
    print(json.dumps({"repeats": options.repeats, **medians, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
