"""Run a compiled pipeline here: the file and nothing else says what happens."""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from headrace.components.team import NUMBER_VARIABLE
from headrace.data.errors import ConfigError, EnvironmentProblem

from .pod import Identity, Pod, find_identity, run_pod
from .resolve import JobInfo, checked_parameters, invocation, task_inputs
from .spec import PipelineFile

__all__ = ["Simulation", "StepRun", "Watcher", "simulate"]

SUCCEEDED, FAILED, SKIPPED = "SUCCEEDED", "FAILED", "SKIPPED"

_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
_POD_IP = "status.podIP"
_POLL_S = 0.05


@dataclass(frozen=True)
class StepRun:
    """How a step ended.

    Attributes:
        name: Name of the task.
        state: SUCCEEDED, FAILED or SKIPPED.
        tries: How often it was started.
        reason: How the last try ended, "" where well.
        artifacts: Output name -> `uri` and `metadata` as Kubeflow would keep them.
        log: File with the output of all tries.
    """

    name: str
    state: str
    tries: int = 0
    reason: str = ""
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Simulation:
    """A simulated run.

    Attributes:
        run_id: Id of the run.
        state: SUCCEEDED or FAILED, as Kubeflow would show it.
        steps: In the order in which they ended.
        folder: Logs and outputs.
        note: What is not as in a cluster, "" if nothing.
    """

    run_id: str
    state: str
    steps: tuple[StepRun, ...]
    folder: Path
    note: str = ""

    def step(self, name: str) -> StepRun:
        """Return the step of task `name`.

        Raises:
            KeyError: If there is none.
        """
        return {step.name: step for step in self.steps}[name]


class Watcher:
    """Told what happens; the methods do nothing here."""

    def started(self, name: str, number: int, pid: int) -> None:
        """A try of a step began, the first with number 1."""

    def ended(self, step: StepRun) -> None:
        """A step ended."""


def simulate(
    file: PipelineFile,
    volume: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    secrets: Callable[[str, str], str | None] = lambda secret, key: None,
    parallel: int = 1,
    longest_backoff_s: float = 1.0,
    watcher: Watcher | None = None,
) -> Simulation:
    """Run every step of a pipeline in a fresh process, as the file says.

    Args:
        file: The compiled pipeline.
        volume: Folder that stands for every mounted volume.
        parameters: Values of run parameters; those left out have their defaults.
        secrets: Gives the value of a key of a Secret, or None.
        parallel: Most steps at a time, >= 1.
        longest_backoff_s: Waits between tries are cut to this.
        watcher: Told what happens.

    Raises:
        ConfigError: If a parameter is wrong or the file asks for what cannot be simulated.
        EnvironmentProblem: If a required secret is missing.
    """
    job = JobInfo(str(uuid.uuid4()), file.name)
    values = checked_parameters(file.parameters, parameters or {})
    volume = volume.absolute()
    folder = volume / ".simulated" / job.id
    folder.mkdir(parents=True)
    contexts = [p["securityContext"] for p in file.platform.values() if "securityContext" in p]
    identity, note = find_identity(contexts[0] if contexts else {}, volume)
    runner = _Runner(file, job, volume, folder, identity, secrets, parallel, longest_backoff_s, watcher)
    state = runner.run_dag(file.root["dag"], values)
    return Simulation(job.id, state, tuple(runner.steps), folder, note)


class _Runner:
    """The scheduler: tasks start once those they depend on have ended as their trigger wants."""

    def __init__(
        self, file: PipelineFile, job: JobInfo, volume: Path, folder: Path, identity: Identity,
        secrets: Callable[[str, str], str | None], parallel: int, longest_backoff_s: float,
        watcher: Watcher | None,
    ) -> None:  # fmt: skip
        self._file, self._job, self._volume, self._folder = file, job, volume, folder
        self._identity, self._secrets = identity, secrets
        self._slots = threading.Semaphore(parallel)
        self._longest_backoff_s = longest_backoff_s
        self._watcher = watcher or Watcher()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.steps: list[StepRun] = []

    def run_dag(self, dag: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        """Run the tasks of one level and return its state."""
        tasks: dict[str, Any] = dag["tasks"]
        states: dict[str, str] = {}
        with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
            try:
                self._schedule(tasks, values, states, pool)
            except BaseException:
                # An interrupt or a fault: what runs must end before the pool lets go.
                self._stopped.set()
                raise
        return FAILED if FAILED in states.values() or SKIPPED in states.values() else SUCCEEDED

    def _schedule(
        self, tasks: Mapping[str, Any], values: Mapping[str, Any], states: dict[str, str], pool: Any
    ) -> None:
        running: dict[str, Any] = {}
        while len(states) < len(tasks):
            for name, task in tasks.items():
                start = None if name in states or name in running else _may_start(task, states)
                if start is False:
                    states[name] = SKIPPED
                    self._end(StepRun(name, SKIPPED))
                elif start:
                    running[name] = pool.submit(self._run_task, name, task, values)
            for name in [name for name, future in running.items() if future.done()]:
                states[name] = running.pop(name).result()
            time.sleep(_POLL_S)

    def _run_task(self, name: str, task: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        component = self._file.components[task["componentRef"]["name"]]
        inputs = task_inputs(task, component, values, self._job)
        if "dag" in component:
            return self.run_dag(component["dag"], inputs)
        # Steps that work along with another one must run when it does, however few there are to be at a time.
        with contextlib.nullcontext() if self._is_helper(component) else self._slots:
            step = self._run_step(name, task, component, inputs)
        self._end(step)
        return step.state

    def _is_helper(self, component: Mapping[str, Any]) -> bool:
        variables = self._file.executors[component["executorLabel"]]["container"].get("env", [])
        return any(entry["name"] == NUMBER_VARIABLE and entry["value"] != "0" for entry in variables)

    def _run_step(
        self, name: str, task: Mapping[str, Any], component: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> StepRun:
        """Run a container, again where it fails and the task allows it."""
        label = component["executorLabel"]
        container, platform = self._file.executors[label]["container"], self._file.platform.get(label, {})
        folder = self._folder / name
        log = self._folder / f"{name}.log"
        retry = task.get("retryPolicy", {})
        reason, most = "", int(retry.get("maxRetryCount", 0)) + 1
        for number in range(1, most + 1):
            if self._stopped.is_set():
                return StepRun(name, FAILED, number - 1, "stopped", log=log)
            self._prepare(folder)
            call = invocation(container, component, inputs, self._job, folder)
            pod = Pod(
                call.argv,
                self._variables(container, platform),
                {str(mount["mountPath"]): self._mount(mount) for mount in platform.get("pvcMount", [])},
                self._identity,
                float(platform["activeDeadlineSeconds"]) if "activeDeadlineSeconds" in platform else None,
                log,
                partial(self._watcher.started, name, number),
                self._stopped,
            )
            reason = run_pod(pod)
            if not reason:
                return StepRun(
                    name, SUCCEEDED, number, "", _artifacts(call.executor_input, call.output_file), log
                )
            if number < most:
                self._stopped.wait(min(_backoff_s(retry, number), self._longest_backoff_s))
        # As on a cluster, a step that failed loses what it wrote for the UI.
        return StepRun(name, FAILED, most, reason, log=log)

    def _prepare(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        if self._identity.user is not None and self._identity.group is not None:
            os.chown(folder, self._identity.user, self._identity.group)

    def _mount(self, mount: Mapping[str, Any]) -> Path:
        folder = self._volume / str(mount.get("subPath", ""))
        folder.mkdir(parents=True, exist_ok=True)
        self._prepare(folder)
        return folder

    def _variables(self, container: Mapping[str, Any], platform: Mapping[str, Any]) -> dict[str, str]:
        found = {entry["name"]: str(entry.get("value", "")) for entry in container.get("env", [])}
        for entry in platform.get("fieldPathAsEnv", []):
            if entry["fieldPath"] != _POD_IP:
                raise ConfigError(
                    f"only {_POD_IP} of a pod is known to the simulation. Received: {entry['fieldPath']}"
                )
            found[entry["name"]] = "127.0.0.1"
        for secret in platform.get("secretAsEnv", []):
            for pair in secret["keyToEnv"]:
                value = self._secrets(secret["secretName"], pair["secretKey"])
                if value is None and not secret.get("optional"):
                    raise EnvironmentProblem(
                        f"a secret must be given to the simulation. "
                        f"Received: none for {secret['secretName']}/{pair['secretKey']}",
                        f"set the environment variable {pair['envVar']}, or give --secret",
                    )
                if value is not None:
                    found[pair["envVar"]] = value
        return found

    def _end(self, step: StepRun) -> None:
        with self._lock:
            self.steps.append(step)
        self._watcher.ended(step)


def _may_start(task: Mapping[str, Any], states: Mapping[str, str]) -> bool | None:
    """Return whether a task starts: None is "not yet", False is "never"."""
    needed = task.get("dependentTasks", [])
    ended = [states[name] for name in needed if name in states]
    if task.get("triggerPolicy", {}).get("strategy") == _COMPLETED:
        return True if len(ended) == len(needed) else None
    if any(state != SUCCEEDED for state in ended):
        return False
    return True if len(ended) == len(needed) else None


def _backoff_s(retry: Mapping[str, Any], number: int) -> float:
    first = float(str(retry.get("backoffDuration", "0s")).rstrip("s"))
    longest = float(str(retry.get("backoffMaxDuration", "3600s")).rstrip("s"))
    return min(first * float(retry.get("backoffFactor", 2.0)) ** (number - 1), longest)


def _artifacts(executor_input: Mapping[str, Any], output_file: Path) -> dict[str, dict[str, Any]]:
    """Return output artifacts, with the metadata that the container told."""
    found = {
        name: {"uri": entry["artifacts"][0]["uri"], "metadata": {}}
        for name, entry in executor_input["outputs"]["artifacts"].items()
    }
    if output_file.exists():
        try:
            told = json.loads(output_file.read_text(encoding="utf-8")).get("artifacts", {})
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"an executor output must be JSON. Received: {error} ({output_file})"
            ) from error
        for name, entry in told.items():
            found[name]["metadata"] = entry["artifacts"][0].get("metadata", {})
    return found
