"""The simulator on small hand-written pipelines: order, retries, parameters, isolation, the exit step."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.kubeflow.simulate import Simulation, StepRun, Watcher, simulate
from headrace.kubeflow.spec import load_pipeline

pytestmark = pytest.mark.long

PYTHON = "python3"
"""As an image has it on its PATH."""

APPEND = "import sys; open('/mnt/store/order', 'a').write(sys.argv[1] + ' ')"


def step(code: str, *args: str, **container: Any) -> dict[str, Any]:
    return {"image": "any", "command": [PYTHON, "-c", code], "args": list(args), **container}


class Pipeline:
    """Builds a pipeline file of tasks within an exit handler."""

    def __init__(self) -> None:
        self.executors: dict[str, Any] = {}
        self.platform: dict[str, Any] = {}
        self.components: dict[str, Any] = {}
        self.inner: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.exit: dict[str, Any] = {}

    def add(
        self, name: str, container: dict[str, Any], after: tuple[str, ...] = (), *, retries: int = 0,
        platform: dict[str, Any] | None = None, last: bool = False, outputs: dict[str, str] | None = None,
    ) -> "Pipeline":  # fmt: skip
        self.executors[f"exec-{name}"] = {"container": container}
        mount = {"pvcMount": [{"constant": "c", "mountPath": "/mnt/store"}]}
        self.platform[f"exec-{name}"] = {**mount, **(platform or {})}
        inputs = {key: {"parameterType": entry["parameterType"]} for key, entry in self.parameters.items()}
        self.components[f"comp-{name}"] = {
            "executorLabel": f"exec-{name}",
            "inputDefinitions": {"parameters": {**inputs, "run_id": {"parameterType": "STRING"}}},
            "outputDefinitions": {
                "artifacts": {
                    key: {"artifactType": {"schemaTitle": kind}} for key, kind in (outputs or {}).items()
                }
            },
        }
        task: dict[str, Any] = {
            "componentRef": {"name": f"comp-{name}"},
            "dependentTasks": list(after),
            "inputs": {
                "parameters": {
                    **{key: {"componentInputParameter": key} for key in self.parameters},
                    "run_id": {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}},
                }
            },
        }
        if retries:
            task["retryPolicy"] = {"maxRetryCount": retries, "backoffDuration": "0s"}
        if last:
            task |= {
                "dependentTasks": ["inner"],
                "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
            }
            self.exit[name] = task
        else:
            self.inner[name] = task
        return self

    def write(self, folder: Path) -> Path:
        inputs = {"parameters": self.parameters}
        self.components["comp-inner"] = {"dag": {"tasks": self.inner}, "inputDefinitions": inputs}
        inner = {
            "componentRef": {"name": "comp-inner"},
            "inputs": {"parameters": {key: {"componentInputParameter": key} for key in self.parameters}},
        }
        spec = {
            "pipelineInfo": {"name": "tiny"},
            "schemaVersion": "2.1.0",
            "components": self.components,
            "deploymentSpec": {"executors": self.executors},
            "root": {"dag": {"tasks": {"inner": inner, **self.exit}}, "inputDefinitions": inputs},
        }
        platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": self.platform}}}}
        path = folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump_all([spec, platform]))
        return path

    def run(self, volume: Path, parameters: dict[str, Any] | None = None, **options: Any) -> Simulation:
        return simulate(load_pipeline(self.write(volume)), volume, parameters, **options)


@pytest.fixture
def volume() -> Iterator[Path]:
    # pytest's own folders are closed to the other users that containers run as.
    folder = Path(tempfile.mkdtemp(prefix="headrace-volume-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_steps_run_in_order_of_their_dependencies(volume: Path) -> None:
    made = Pipeline()
    made.add("c", step(APPEND, "c"), ("b", "a"))
    made.add("b", step(APPEND, "b"), ("a",))
    made.add("a", step(APPEND, "a"))
    made.add("z", step(APPEND, "z"), last=True)
    done = made.run(volume, parallel=3)
    assert done.state == "SUCCEEDED"
    assert (volume / "order").read_text().split() == ["a", "b", "c", "z"]


def test_a_failure_skips_what_depends_on_it_and_the_exit_step_still_runs(volume: Path) -> None:
    made = Pipeline()
    made.add("a", step("import sys; print('because', file=sys.stderr); sys.exit(3)"))
    made.add("b", step(APPEND, "b"), ("a",))
    made.add("z", step(APPEND, "z"), last=True)
    done = made.run(volume)
    assert done.state == "FAILED"
    assert {one.name: (one.state, one.reason) for one in done.steps} == {
        "a": ("FAILED", "exit code 3"),
        "b": ("SKIPPED", ""),
        "z": ("SUCCEEDED", ""),
    }
    assert (volume / "order").read_text() == "z "
    log = done.step("a").log
    assert log is not None
    assert log.read_text() == "because\n"


def test_a_flaky_step_is_tried_as_often_as_the_file_says(volume: Path) -> None:
    code = (
        "import os, sys; n = len(os.listdir('/mnt/store/t')); open(f'/mnt/store/t/{n}', 'w'); sys.exit(n < 2)"
    )
    (volume / "t").mkdir()
    done = Pipeline().add("a", step(code), retries=2).run(volume)
    assert (done.state, done.step("a").tries) == ("SUCCEEDED", 3)
    shutil.rmtree(volume / "t")
    (volume / "t").mkdir()
    done = Pipeline().add("a", step(code), retries=1).run(volume)
    assert (done.state, done.step("a").tries, done.step("a").reason) == ("FAILED", 2, "exit code 1")


def test_a_killed_step_is_tried_again(volume: Path) -> None:
    class Killer(Watcher):
        def started(self, name: str, number: int, pid: int) -> None:
            if number == 1:
                os.kill(pid, signal.SIGKILL)

        def ended(self, step: StepRun) -> None:
            assert step.tries == 2

    done = Pipeline().add("a", step("import time; time.sleep(0.5)"), retries=1).run(volume, watcher=Killer())
    assert done.state == "SUCCEEDED"
    assert Pipeline().add("a", step("import time; time.sleep(0.5)")).run(volume).step("a").tries == 1


def test_parameters_have_defaults_types_and_reach_the_arguments(volume: Path) -> None:
    code = "import json, sys; json.dump(sys.argv[1:], open('/mnt/store/args', 'w'))"
    made = Pipeline()
    made.parameters = {
        "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0},
        "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5},
        "force": {"parameterType": "BOOLEAN", "defaultValue": False},
        "name": {"parameterType": "STRING", "defaultValue": ""},
    }
    args = [f"{name}={{{{$.inputs.parameters['{name}']}}}}" for name in (*made.parameters, "run_id")]
    made.add("a", step(code, *args))
    done = made.run(volume)
    assert json.loads((volume / "args").read_text()) == [
        "epochs=3",
        "rate=0.5",
        "force=false",
        "name=",
        f"run_id={done.run_id}",
    ]
    made.run(volume, {"epochs": 7, "rate": 1e-05, "force": True, "name": "é {{$}}"})
    assert json.loads((volume / "args").read_text())[:4] == [
        "epochs=7",
        "rate=0.00001",
        "force=true",
        "name=é {{$}}",
    ]
    with pytest.raises(ConfigError, match=r"parameter epochs must be NUMBER_INTEGER. Received: 'x'"):
        made.run(volume, {"epochs": "x"})
    with pytest.raises(ConfigError, match=r"must be one of epochs, force, name, rate. Received: speed"):
        made.run(volume, {"speed": 1})


def test_a_step_has_nothing_of_this_process(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN", "here")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    code = (
        "import json, os; json.dump({'env': dict(os.environ), 'uid': os.getuid(), 'gid': os.getgid(), "
        "'groups': os.getgroups(), 'work': os.listdir('.'), 'tty': os.isatty(0)}, "
        "open('/mnt/store/seen', 'w'))"
    )
    platform = {
        "securityContext": {"runAsUser": "65534", "runAsGroup": "65534", "runAsNonRoot": True},
        "secretAsEnv": [
            {
                "secretName": "db",
                "keyToEnv": [{"secretKey": "password", "envVar": "PASSWORD"}],
                "optional": False,
            }
        ],
    }
    made = Pipeline().add(
        "a", step(code, env=[{"name": "PLACE", "value": "/mnt/store/x"}]), platform=platform
    )
    done = made.run(volume, secrets=lambda secret, key: f"{secret}-{key}-hush")
    assert done.state == "SUCCEEDED"
    seen = json.loads((volume / "seen").read_text())
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "HOME", "TMPDIR", "LANG", "PLACE", "PASSWORD"}
    assert seen["env"]["PASSWORD"] == "db-password-hush"
    assert seen["env"]["PLACE"] == f"{volume}/x"
    assert (seen["work"], seen["tty"]) == ([], False)
    if os.geteuid() == 0 and not done.note:
        assert (seen["uid"], seen["gid"], seen["groups"]) == (65534, 65534, [])
    with pytest.raises(EnvironmentProblem, match=r"Received: none for db/password"):
        made.run(volume)


def test_a_step_past_its_deadline_is_stopped(volume: Path) -> None:
    made = Pipeline().add("a", step("import time; time.sleep(60)"), platform={"activeDeadlineSeconds": "1"})
    done = made.run(volume)
    assert (done.state, done.step("a").reason) == ("FAILED", "timed out")


def test_metadata_of_a_step_that_fails_are_lost_as_on_a_cluster(volume: Path) -> None:
    code = (
        "import json, sys; got = json.loads(sys.argv[1]); out = got['outputs']\n"
        "artifact = out['artifacts']['m']['artifacts'][0]; open(artifact['uri'], 'w').write('{}')\n"
        "body = {'artifacts': {'m': {'artifacts': [{**artifact, 'metadata': {'auc': 0.75}}]}}}\n"
        "json.dump(body, open(out['outputFile'], 'w')); sys.exit(int(sys.argv[2]))"
    )
    outputs = {"m": "system.Metrics"}
    done = Pipeline().add("a", step(code, "{{$}}", "0"), outputs=outputs).run(volume)
    assert done.step("a").artifacts["m"]["metadata"] == {"auc": 0.75}
    done = Pipeline().add("a", step(code, "{{$}}", "1"), outputs=outputs).run(volume)
    assert done.step("a").artifacts == {}


def test_what_a_step_leaves_running_ends_with_it(volume: Path) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "open('/mnt/store/pid', 'w').write(str(p.pid))"
    )
    Pipeline().add("a", step(code)).run(volume)
    pid = int((volume / "pid").read_text())
    status = Path(f"/proc/{pid}/status")
    assert not status.exists() or "\nState:\tZ" in status.read_text()


def test_a_command_that_is_not_in_the_image_fails_its_step(volume: Path) -> None:
    done = Pipeline().add("a", {"image": "any", "command": ["no-such-command"]}).run(volume)
    assert done.step("a").reason == "cannot start (No such file or directory)"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own way with Ctrl-C: a shell that starts the tests in the background has it ignored."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_what_runs(volume: Path) -> None:
    class Interrupter(Watcher):
        def started(self, name: str, number: int, pid: int) -> None:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        Pipeline().add("a", step("import time; time.sleep(60)")).run(volume, watcher=Interrupter())


def test_pythons_path_is_this_installations(volume: Path) -> None:
    Pipeline().add("a", step("import sys; open('/mnt/store/python', 'w').write(sys.executable)")).run(volume)
    assert Path((volume / "python").read_text()).parent == Path(sys.executable).parent
