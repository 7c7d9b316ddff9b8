"""Whole runs whose metadata lie in MariaDB and PostgreSQL; and the database that dies under one."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from headrace.data.errors import EnvironmentProblem
from headrace.pipeline.cluster import MetadataConfig
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.metadata_failure import database_named
from headrace.pipeline.metadata_url import connection_config

from .databases import PASSWORD, Database, MariaDB, PostgreSQL, serving
from .project import CONFIG, Project, Ran, caught

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Whatever does not bear on metadata is left out: the runs are here for the nodes' talk with the database.
SMALL: dict[str, Any] = {
    **CONFIG,
    "training": {**CONFIG["training"], "epochs": 2},
    "evaluation": {"slices": [], "bootstrap_samples": 0, "importance_repeats": 0},
    "variants": {"build": ["float32"]},
    "gates": {"quality": [{"metric": "auc", "min": 0.5}], "serving": {"latency_s": 0.02}},
    "push": {"serving": "float32", "lite": None},
}


def make_project(folder: Path, name: str, database: Database) -> Project:
    """Make a project whose metadata lie in `database`; the password is a file beside the config."""
    project = Project.make(folder, rows=1200)
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    metadata = {"url": database.url, "password_file": str(folder / "password")}
    project.write_config({**SMALL, "name": name, "metadata": metadata})
    return project


def stored(project: Project, database: Database) -> MetadataStore:
    """Open the database as any other reader of ML Metadata does."""
    config = MetadataConfig(url=database.url, password_file=str(project.folder / "password"))
    return MetadataStore(connection_config(config, ""))


def states(store: MetadataStore, name: str, run_id: str | None = None) -> dict[str, str]:
    """Return node -> how its last execution in a pipeline, or one run of it, ended."""
    kind, context = ("pipeline", name) if run_id is None else ("pipeline_run", run_id)
    found = store.get_context_by_type_and_name(kind, context)
    assert found is not None, (kind, context)
    executions = sorted(store.get_executions_by_context(found.id), key=lambda execution: execution.id)
    State = metadata_store_pb2.Execution.State
    return {e.type.rpartition(".")[2]: State.Name(e.last_known_state) for e in executions}


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a command; return exit code, stdout and stderr."""
    try:
        stdout, stderr = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, stdout, stderr


@dataclass(frozen=True)
class Pair:
    """Two projects whose runs went on at once in one database.

    Attributes:
        database: The database.
        first, second: The projects, named so.
        ended: Exit code, stdout and stderr of each run.
        rival: A run of the first pipeline during its run.
        holder: Run that held its lock then.
    """

    database: Database
    first: Project
    second: Project
    ended: tuple[tuple[int, str, str], ...]
    rival: Ran
    holder: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Run two pipelines at once on a MariaDB that all tests here share, as teams do."""
    folder = tmp_path_factory.mktemp("pair")
    with serving(MariaDB) as database:
        first = make_project(folder / "first", "first", database)
        second = make_project(folder / "second", "second", database)
        running = [first.start("run", "demo.yaml"), second.start("run", "demo.yaml")]
        lock = first.folder / "runs/.store/first.lock"
        while running[0].poll() is None and not (lock.exists() and lock.read_text(encoding="utf-8")):
            time.sleep(0.05)
        rival, holder = first.call("run", "demo.yaml"), lock.read_text(encoding="utf-8")
        yield Pair(database, first, second, tuple(map(ended, running)), rival, holder)


def test_two_pipelines_run_at_once_in_one_database(pair: Pair) -> None:
    store = stored(pair.first, pair.database)
    for project, (code, stdout, stderr) in zip((pair.first, pair.second), pair.ended, strict=True):
        assert (code, "verdict  pushed" in stdout) == (0, True), stderr
        assert not list(project.folder.rglob("*.sqlite*"))
        assert set(states(store, project.folder.name).values()) == {"COMPLETE"}


def test_a_pipeline_that_is_running_is_not_run_again(pair: Pair) -> None:
    assert pair.rival.exit_code == 1
    assert f"first, whose run {pair.holder} is going on" in pair.rival.stderr


def test_the_database_dies_under_two_nodes_and_the_run_goes_on(pair: Pair) -> None:
    database, project = pair.database, pair.second
    pushed, (earlier,) = project.pushed(), project.folder.glob("runs/*/request.json")
    command = ["run", "demo.yaml", "--set", "training.learning_rate=0.02"]
    # Between driver and publisher, and after the publisher, whose word is then all there is.
    for node, point in (("trainer", "working"), ("evaluation", "deaf")):
        process, _ = caught(project, node, point, *command)
        database.kill()
        code, _, stderr = ended(process)
        assert code == 1, stderr
        (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: `metadata.url` must name a database that answers")
        assert line.endswith(f"connection refused at 127.0.0.1:{database.port} ({database.url})")
        assert PASSWORD not in stderr
        assert "Traceback" not in stderr
        assert project.pushed() == pushed
        (request,) = {*project.folder.glob("runs/*/request.json")} - {earlier}
        assert f"headrace resume {request.parent.name}" in stderr
        database.start()
        command = ["resume", request.parent.name]

    again = project.call(*command)
    assert again.exit_code == 0, again.stderr
    assert "verdict  pushed" in again.stdout
    found = states(stored(project, database), "second", command[1])
    assert len(found) == len(GRAPH)
    assert set(found.values()) <= {"COMPLETE", "CACHED"}
    assert unpublished(project, database) == []


def test_what_is_cached_and_what_was_never_reachable(pair: Pair) -> None:
    again = pair.first.run()
    assert again.exit_code == 0, again.stderr
    reused = {node["id"] for node in pair.first.summary(again)["nodes"] if node["state"] == "cached"}
    assert reused >= {node.id for node in GRAPH if node.cached}
    assert [path.name for path in (pair.first.folder / "push/serving/first").iterdir()] == ["1"]
    nowhere = pair.database.url.replace(f":{pair.database.port}/", ":1/")
    down = pair.first.run(f"metadata.url={nowhere}")
    assert down.exit_code == 1
    assert down.stderr.startswith("error: `metadata.url` must name a database that answers")
    assert "connection refused at 127.0.0.1:1 " in down.stderr


@pytest.mark.parametrize("kind", [MariaDB, PostgreSQL])
def test_a_wrong_password_is_told_without_it(
    kind: type[Database], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_METADATA_PASSWORD", "hush-wrong")
    with nullcontext(pair.database) if kind is MariaDB else serving(kind) as database:
        config = MetadataConfig(url=database.url)
        message = rf"refuses the user, the password or the database \({re.escape(database.url)}\)"
        with pytest.raises(EnvironmentProblem, match=message) as caught, database_named(config, "r1"):
            MetadataStore(connection_config(config, ""))
        assert "hush" not in caught.value.message


def unpublished(project: Project, database: Database) -> list[str]:
    """Return output folders that the database does not know as those of a finished node."""
    complete = metadata_store_pb2.Execution.COMPLETE
    done = {str(e.id) for e in stored(project, database).get_executions() if e.last_known_state == complete}
    root = project.folder / "runs/.store/artifacts"
    found = [path for node in GRAPH for output in node.outputs for path in root.glob(f"{node.id}/{output}/*")]
    assert found
    return sorted(str(path) for path in found if path.name not in done)


@pytest.mark.slow
def test_a_whole_run_on_postgresql(tmp_path: Path) -> None:
    with serving(PostgreSQL) as database:
        project = make_project(tmp_path / "project", "demo", database)
        ran = project.run()
        assert ran.exit_code == 0, ran.stderr
        assert ran.result["verdict"] == "pushed"
        found = states(stored(project, database), "demo", ran.result["run_id"])
        assert set(found.values()) <= {"COMPLETE", "CACHED"}
