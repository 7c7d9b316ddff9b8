"""Where the commands of the documentation are run: the flights example made small, run once, and served."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from headrace.components.push.publish import Bundle, publish
from tests.e2e.project import CONFIG, Project, environment
from tests.kubeflow.kfp_server import State, running

from .pages import ROOT
from .tables import SMALL, SUBSTITUTIONS

SERVE = "headrace serve push"


@dataclass(frozen=True)
class World:
    """A working directory in which the documented commands work.

    Attributes:
        folder: With examples/flights.yaml, its data, the run and what it pushed.
        printed: What `headrace run examples/flights.yaml` printed.
        served: What `headrace serve push` printed before it answered.
        values: Name in SUBSTITUTIONS -> what stands for it here.
        cluster: What the stand-in for Kubeflow's server holds.
    """

    folder: Path
    printed: str
    served: str
    values: dict[str, str]
    cluster: State

    def translate(self, text: str) -> str:
        """Put what stands for them here in place of names that the reader has to fill in."""
        for shown, here in SUBSTITUTIONS.items():
            text = text.replace(shown, here.format(**self.values))
        return text

    def call(self, command: list[str]) -> str:
        """Run a command that must succeed; return its stdout and stderr together."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=_environment(self),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def _environment(here: World) -> dict[str, str]:
    """Return the variables of a command: no browser, and what Kubeflow's client keeps lies in the folder."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "BROWSER": "true", "KF_PIPELINES_ENDPOINT": here.values["kubeflow"]}
    return {**environment(), **own, "HOME": str(here.folder)}


def _write_flights(file: Path, rows: int = 3000) -> None:
    """Write flights that are late by hour and carrier, in the columns of the sample."""
    rng = np.random.default_rng(2)
    carriers, origins, dests = ["UA", "DL", "AA", "B6"], ["EWR", "JFK", "LGA"], ["IAH", "ATL", "BOS", "MIA"]
    lines = [
        "month,day,hour,minute,sched_dep_time,sched_arr_time,carrier,flight,tailnum,origin,dest,distance,late"
    ]
    for _ in range(rows):
        month, day, hour, minute = (int(rng.integers(*span)) for span in ((1, 13), (1, 29), (5, 23), (0, 60)))
        carrier, origin, dest = (int(rng.integers(len(names))) for names in (carriers, origins, dests))
        late = int(rng.random() < 1 / (1 + np.exp(-(0.3 * (hour - 14) + 1.5 * (carrier - 1.5)))))
        times = f"{month},{day},{hour},{minute},{100 * hour + minute},{100 * (hour + 1) + minute}"
        plane = f"{carriers[carrier]},{rng.integers(1, 40)},N{rng.integers(1, 60)}"
        lines.append(f"{times},{plane},{origins[origin]},{dests[dest]},{rng.integers(180, 2400)},{late}")
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _merged(into: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a config with changes, of which None takes a key out."""
    found = dict(into)
    for key, value in changes.items():
        old = found.get(key)
        found[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return {key: value for key, value in found.items() if value is not None}


def _write_project(folder: Path) -> None:
    _write_flights(folder / "build" / "data" / "flights.csv")
    (folder / "examples").mkdir()
    raw = yaml.safe_load((ROOT / "examples" / "flights.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(_merged(raw, SMALL), sort_keys=False)
    (folder / "examples" / "flights.yaml").write_text(text, encoding="utf-8")
    project = Project.make(folder, rows=1000)
    (folder / "rows.csv").rename(folder / "demo.csv")
    project.write_config({**CONFIG, "data": {**CONFIG["data"], "path": "demo.csv"}})
    (folder / "data.csv").write_text(
        (folder / "demo.csv").read_text(encoding="utf-8").replace(",late\n", ",churned\n", 1),
        encoding="utf-8",
    )
    flights = (folder / "build" / "data" / "flights.csv").read_text(encoding="utf-8").splitlines()[:5]
    rows = "".join(line.rpartition(",")[0] + "\n" for line in flights)
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    (folder / "token").write_text("hush", encoding="utf-8")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(here: World, command: str, ports: tuple[int, int]) -> Iterator[str]:
    """Serve on these ports (gRPC, REST); yield what the command printed until it answered."""
    log = here.folder / f"serve-{ports[0]}.log"
    words = [*command.split(), f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(words, cwd=here.folder, env=_environment(here), stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(ports[1]):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield log.read_text(encoding="utf-8")
    finally:
        server.terminate()
        server.wait(40)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make the project, run it and serve what it pushed."""
    _write_project(folder)
    ports, cluster = (free_port(), free_port()), State()
    values = {"grpc": str(ports[0]), "rest": str(ports[1]), "folder": str(folder)}
    with running(cluster) as url:
        here = World(folder, "", "", {**values, "kubeflow": url}, cluster)
        printed = here.call(["headrace", "run", "examples/flights.yaml"])
        (run,) = (path.name for path in (folder / "runs").iterdir() if (path / "summary.json").is_file())
        here.values["run"] = run
        with serving(here, SERVE, ports) as served:
            yield replace(here, printed=printed, served=served)


def start_steps(cluster: State) -> None:
    """Let a run of the stand-in have reached its trainer."""
    steps = [{"display_name": "trainer", "state": "RUNNING", "pod_name": "p1", "run_id": "run-0"}]
    cluster.runs["run-0"] |= {"state": "RUNNING", "run_details": {"task_details": steps}}
    cluster.logs["p1"] = "epoch 1\n"


def add_version(folder: Path, model: str) -> None:
    """Push another content of a model, so that there is something to roll back from."""
    newest = folder / "push" / "lite" / model / "1"
    files = {path.relative_to(newest).as_posix(): path for path in newest.rglob("*") if path.is_file()}
    del files["manifest.json"]
    copies = {name: path.read_bytes() for name, path in files.items()}
    bundle = Bundle("tflite_int8", {**copies, "note.txt": b"another"})
    publish(folder / "push", model, {"lite": bundle}, run_id="another", content_id="another")
