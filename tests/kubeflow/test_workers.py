"""Nodes that several pods share: compiled as steps side by side, and run by the simulation."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.data.errors import ConfigError
from headrace.kubeflow.rehearsal import Rehearsal, rehearse
from headrace.kubeflow.simulate import Watcher
from tests.e2e.project import CONFIG, Project
from tests.kubeflow.test_compile import compiled, tasks

SEARCH: dict[str, Any] = {
    "enabled": True,
    "trials": 6,
    "search": {
        "training.learning_rate": {"float": [0.001, 0.1], "log": True},
        "model.dropout": {"choice": [0.0, 0.2, 0.4]},
    },
}


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", [])}


def test_workers_are_steps_beside_the_node_with_its_resources(tmp_path: Path) -> None:
    section = {"workers": {"tuner": 3, "trainer": 2}, "nodes": {"tuner": {"memory": "9Gi"}}}
    file = compiled(tmp_path, section, tuning=SEARCH)
    found = tasks(file)
    for name in ("tuner", "tuner-1", "tuner-2"):
        container, platform = file.executors[f"exec-{name}"]["container"], file.platform[f"exec-{name}"]
        assert container["command"] == ["headrace", "node", "tuner"]
        assert container["resources"]["resourceMemoryRequest"] == "9Gi"
        assert environment(container)["HEADRACE_TEAM_SIZE"] == "3"
        assert environment(container)["HEADRACE_TEAM_NUMBER"] == (name.partition("-")[2] or "0")
        assert platform["fieldPathAsEnv"] == [{"name": "HEADRACE_POD_IP", "fieldPath": "status.podIP"}]
        assert found[name]["dependentTasks"] == found["tuner"]["dependentTasks"]
    # What comes after waits for the node, not for those that helped.
    assert not {"tuner-1", "tuner-2", "trainer-1"} & {
        needed for task in found.values() for needed in task.get("dependentTasks", [])
    }
    assert "HEADRACE_TEAM_SIZE" not in environment(file.executors["exec-transform"]["container"])


def test_a_search_that_is_off_needs_no_workers(tmp_path: Path) -> None:
    assert "tuner-1" not in tasks(compiled(tmp_path, {"workers": {"tuner": 3}}))


def test_a_strategy_of_one_machine_is_refused(tmp_path: Path) -> None:
    message = r"needs `training.strategy` auto or multi_worker. Received: 2 with mirrored"
    training = {**CONFIG["training"], "strategy": "mirrored"}
    with pytest.raises(ConfigError, match=message):
        compiled(tmp_path, {"workers": {"trainer": 2}}, training=training)


class Killer(Watcher):
    """Kills the first try of some steps."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def started(self, name: str, number: int, pid: int) -> None:
        if name in self._names and number == 1:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    folder = Path(tempfile.mkdtemp(prefix="headrace-workers-"))
    folder.chmod(0o755)  # containers run as another user
    made = Project.make(folder, rows=2000)
    made.write_config({**CONFIG, "tuning": SEARCH, "kubeflow": {"workers": {"tuner": 2, "trainer": 2}}})
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared(project: Project) -> Rehearsal:
    """A run whose search and training are shared by two pods each, the search's second one killed once."""
    return rehearse(project.folder / "demo.yaml", project.folder / "v", watcher=Killer("tuner-1"))


@pytest.fixture(scope="module")
def alone(project: Project) -> Path:
    """The folder of the same run by one machine."""
    ran = project.run("output.runs=alone/runs", "output.push=alone/push")
    assert ran.exit_code == 0, ran.stderr
    return project.folder / "alone"


def artifact(folder: Path, node: str, name: str) -> Any:
    """Return a JSON file of a node's only artifact."""
    (path,) = folder.glob(f"runs/.store/artifacts/{node}/**/{name}")
    return json.loads(path.read_text())


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1500)
class TestSharedRun:
    def test_it_ends_well(self, shared: Rehearsal) -> None:
        assert shared.simulation.state == "SUCCEEDED"
        assert json.loads(shared.summary_path.read_text())["verdict"] == "pushed"

    def test_the_search_finds_what_one_machine_finds(
        self, project: Project, shared: Rehearsal, alone: Path
    ) -> None:
        assert shared.simulation.step("tuner-1").tries == 2
        here = artifact(alone, "tuner", "trials.json")
        there = artifact(project.folder / "v", "tuner", "trials.json")
        key = json.dumps
        assert sorted(key(trial["values"]) for trial in there) == sorted(key(t["values"]) for t in here)
        best = [artifact(folder, "tuner", "best.json") for folder in (alone, project.folder / "v")]
        assert best[0]["values"] == best[1]["values"]
        assert best[0]["score"] == pytest.approx(best[1]["score"], abs=1e-4)

    def test_both_pods_train_one_model_and_the_chief_writes_it(
        self, project: Project, shared: Rehearsal, alone: Path
    ) -> None:
        history = artifact(project.folder / "v", "trainer", "history.json")
        assert history["strategy"] == "multi_worker"
        log = shared.simulation.step("trainer-1").log
        assert log is not None
        assert "trainer_1: the trainer is complete" in log.read_text()
        # As good as alone, on a few hundred rows: each worker draws dropout of its own.
        auc = artifact(alone, "trainer", "history.json")["epochs"][-1]["logs"]["val_auc"]
        assert history["epochs"][-1]["logs"]["val_auc"] == pytest.approx(auc, abs=0.03)
