"""A small project for end-to-end tests: seeded rows, a config, and the command as a subprocess."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HEADRACE = [sys.executable, "-m", "headrace.pipeline"]
_FAULTS = Path(__file__).parent / "faults"

CONFIG: dict[str, Any] = {
    "schema_version": 1,
    "name": "demo",
    "seed": 3,
    "data": {"path": "rows.csv", "label": "late", "columns": {"hour": "int"}, "shards": 2},
    "features": {
        "distance": {"kind": "numeric", "log": True, "missing_indicator": True},
        "hour": {"kind": "numeric", "buckets": {"bounds": [6, 12, 18]}},
        "carrier": {"kind": "categorical", "embedding_dim": 4},
        "route": {"kind": "cross", "of": ["carrier", "origin"], "embedding_dim": 4},
    },
    "model": {"hidden": [16]},
    "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.01},
    "evaluation": {"slices": [["carrier"], ["origin"]], "min_slice_rows": 50, "bootstrap_samples": 20},
    "gates": {
        "quality": [{"metric": "auc", "min": 0.6}, {"metric": "auc", "max_drop": 0.05}],
        "cost": [{"variant": "tflite_int8", "max_size_bytes": 5_000_000, "max_p99_us_b1": 1e7}],
        "serving": {"latency_s": 0.02},
        "variant": {"max_drop": 0.05, "max_slice_drop": 0.2, "max_flip_rate": 0.2},
    },
}


def make_rows(folder: Path, rows: int = 4000, seed: int = 1) -> Path:
    """Write rows.csv: lateness depends on carrier, hour and distance; some distances are missing."""
    rng = np.random.default_rng(seed)
    carriers, origins = np.array(["AA", "BB", "CC", "DD"]), np.array(["EWR", "JFK", "LGA"])
    carrier, origin = rng.integers(0, 4, rows), rng.integers(0, 3, rows)
    hour, distance = rng.integers(0, 24, rows), rng.gamma(2.0, 500.0, rows).round()
    logit = 1.2 * (carrier - 1.5) + 0.15 * (hour - 12) - 0.0008 * (distance - 1000) + 0.6 * (origin == 1)
    late = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    lines = ["distance,hour,carrier,origin,late"]
    for i in range(rows):
        shown = "" if i % 37 == 0 else f"{distance[i]:.0f}"
        lines.append(f"{shown},{hour[i]},{carriers[carrier[i]]},{origins[origin[i]]},{late[i]}")
    file = folder / "rows.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object of `run --json`."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found


@dataclass(frozen=True)
class Project:
    """A folder with rows.csv and demo.yaml."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, rows: int = 4000) -> "Project":
        """Write rows and config into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        make_rows(folder, rows)
        project = cls(folder)
        project.write_config(CONFIG)
        return project

    def write_config(self, raw: dict[str, Any]) -> None:
        """Write demo.yaml."""
        (self.folder / "demo.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        """Return the argument vector of a headrace command."""
        return [*HEADRACE, *arguments]

    def call(self, *arguments: str, timeout_s: float = 600) -> Ran:
        """Run a headrace command in the project's folder."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment(),
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a headrace command in a process group of its own, open to Ctrl-C."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**environment(), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever started the tests may have been told to ignore it, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *overrides: str, force: bool = False) -> Ran:
        """Run the pipeline with `--set` overrides."""
        sets = [part for override in overrides for part in ("--set", override)]
        return self.call("run", "demo.yaml", "--json", *(["--force"] if force else []), *sets)

    def summary(self, ran: Ran) -> dict[str, Any]:
        """Return the summary that a run wrote."""
        found: dict[str, Any] = json.loads(
            (self.folder / ran.result["summary_path"]).read_text(encoding="utf-8")
        )
        return found

    def pushed(self) -> dict[str, str]:
        """Return every file under push/ with its hash."""
        return snapshot(self.folder / "push")


def environment() -> dict[str, str]:
    """Return the environment of the commands: a wide terminal without colours."""
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def snapshot(folder: Path) -> dict[str, str]:
    """Return relative path -> hash of every file below `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def caught(project: Project, node: str, point: str, *arguments: str) -> "tuple[subprocess.Popen[str], int]":
    """Start a command; return it, and the node's process, once `node` reached `point` (see faults)."""
    flag = project.folder / f"{node}-{point}"
    flag.unlink(missing_ok=True)
    path = os.pathsep.join(part for part in (str(_FAULTS), os.environ.get("PYTHONPATH", "")) if part)
    env = {"HEADRACE_FAULT": f"{node} {point} {flag}", "PYTHONPATH": path}
    process = project.start(*arguments, env=env)
    deadline = time.monotonic() + 200
    while not flag.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{node} was never {point}: {process.communicate()[1]}")
        time.sleep(0.005)
    return process, int(flag.read_text(encoding="utf-8"))
