"""Trials side by side: this process is Keras Tuner's chief, workers ask it for trials over gRPC.

The wire protocol is Keras Tuner's own, so that workers may as well be pods: each is told by the
environment (KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT) where its chief is.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
import tensorflow as tf
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from headrace.components.training.settings import Monitor
from headrace.data.errors import EnvironmentProblem, error_for_code

from .config import TuningConfig
from .search import OnTrial, Search, describe, make_oracle, outcome, quiet, write_note

__all__ = ["JOB_VARIABLE", "Job", "error_path", "lead", "search_in_processes"]

JOB_VARIABLE = "HEADRACE_TUNING_JOB"
"""Environment variable with the path of the job that a worker is to take part in."""

_POLL_S = 0.1
_STOP_S = 5.0


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; a JSON file.

    Attributes:
        examples: Folder of the transformed examples.
        transform_graph: Folder of the transform_graph artifact.
        sections: `model` and `training` as plain JSON values.
        tuning: The `tuning` section.
        objective: Log name and direction.
        seed: Of weights, order and choices.
        folder: State of the search, shared by chief and workers.
        threads: Threads of each worker; 0: as many as TensorFlow likes.
        local: Whether workers are children of the chief, to end with it.
    """

    examples: str
    transform_graph: str
    sections: dict[str, Any]
    tuning: dict[str, Any]
    objective: Monitor
    seed: int
    folder: str
    threads: int = 0
    local: bool = False

    @classmethod
    def read(cls, path: str) -> "Job":
        """Read the file that `write` wrote."""
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        return cls(**{**content, "objective": tuple(content["objective"])})

    def write(self) -> str:
        """Write `job.json` into the folder and return its path."""
        path = Path(self.folder) / "job.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return str(path)

    @property
    def config(self) -> TuningConfig:
        """The `tuning` section, parsed."""
        return TuningConfig.model_validate(self.tuning)


def search_in_processes(
    job: Job, first: Mapping[str, Any] | None = None, on_trial: OnTrial = lambda trial, done: None
) -> Search:
    """Search with `tuning.workers` processes of this machine.

    Args:
        job: The work; `local`.
        first: Values of the first trial (random and bayesian only), or None.
        on_trial: Told each ended trial, in the order in which they end.

    Raises:
        HeadraceError: If a worker could not start, or met an error that is not its values' fault.
    """
    folder, tuning = Path(job.folder), job.config
    path = job.write()
    with quiet():
        oracle = make_oracle(tuning, job.objective, job.seed, folder, first)
        told = len(oracle.end_order)
        with _serving(oracle, "127.0.0.1:0") as (_, port), _workers(job, path, port) as workers:
            while workers:
                workers = [worker for worker in workers if worker.looks_after(oracle)]
                told = _tell(oracle, tuning, folder, told, on_trial)
                time.sleep(_POLL_S)
        _tell(oracle, tuning, folder, told, on_trial)
    return outcome(oracle, tuning, folder)


def lead(
    job: Job,
    address: str,
    first: Mapping[str, Any] | None = None,
    on_trial: OnTrial = lambda trial, done: None,
) -> Search:
    """Hand trials out to workers that others start, until no more are to be tried and all have ended.

    Args:
        job: The work.
        address: Where workers reach this process, `host:port`.
        first: Values of the first trial (random and bayesian only), or None.
        on_trial: Told each ended trial.
    """
    folder, tuning = Path(job.folder), job.config
    with quiet():
        oracle = make_oracle(tuning, job.objective, job.seed, folder, first)
        told = len(oracle.end_order)
        with _serving(oracle, address) as (servicer, _):
            while not (servicer.stop_triggered and not oracle.ongoing_trials and not oracle.tuner_ids):
                told = _tell(oracle, tuning, folder, told, on_trial)
                time.sleep(_POLL_S)
        _tell(oracle, tuning, folder, told, on_trial)
    return outcome(oracle, tuning, folder)


def error_path(folder: str, tuner_id: str) -> Path:
    """Return where a worker says what it died of."""
    return Path(folder) / "errors" / f"{tuner_id}.json"


@contextlib.contextmanager
def _serving(oracle: Any, address: str) -> Iterator[tuple[Any, int]]:
    """Answer workers' calls; give the servicer and the port.

    Keras Tuner's own `start_server` takes no free port, and sleeps up to 20 s after the last trial.
    """
    # One thread, as Keras Tuner has it: oracles are not made for more.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise EnvironmentProblem(
            f"the chief of the search must listen. Received: {error} ({address})"
        ) from error
    server.start()
    try:
        yield servicer, port
    finally:
        server.stop(grace=1).wait()


def _tell(oracle: Any, tuning: TuningConfig, folder: Path, told: int, on_trial: OnTrial) -> int:
    """Report trials that have ended since; return how many have ended."""
    ended = list(oracle.end_order)
    for number in range(told, len(ended)):
        on_trial(describe(oracle.trials[ended[number]], tuning, folder), number + 1)
    return len(ended)


@contextlib.contextmanager
def _workers(job: Job, path: str, port: int) -> Iterator[list["_Worker"]]:
    """Start the workers, and end them one by one, however this ends."""
    count = min(job.config.workers, job.config.trials)
    gpus = len(tf.config.list_physical_devices("GPU"))
    started: list[_Worker] = []
    try:
        for number in range(count):
            started.append(_Worker(job, path, port, f"worker{number}", number % gpus if gpus > 1 else None))
        yield list(started)
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """A process that runs trials, and its successor where one of them killed it."""

    def __init__(self, job: Job, path: str, port: int, tuner_id: str, gpu: int | None) -> None:
        self._job, self.tuner_id = job, tuner_id
        self._environment = {
            **os.environ,
            JOB_VARIABLE: path,
            "KERASTUNER_TUNER_ID": tuner_id,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
            "no_grpc_proxy": "127.0.0.1",
            "OMP_NUM_THREADS": str(job.threads or ""),
            # Several processes may share a device.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            **({"CUDA_VISIBLE_DEVICES": str(gpu)} if gpu is not None else {}),
        }
        error_path(job.folder, tuner_id).unlink(missing_ok=True)
        self._process = self._start()

    def looks_after(self, oracle: Any) -> bool:
        """Return whether the process works; one that died in a trial gives it up and is replaced.

        Raises:
            HeadraceError: If it died of something that is not the trial's fault.
        """
        code = self._process.poll()
        if code is None:
            return True
        if code == 0:
            return False
        told = error_path(self._job.folder, self.tuner_id)
        if told.exists():
            error = json.loads(told.read_text(encoding="utf-8"))
            raise error_for_code(error["exit_code"], error["message"], error["hint"])
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        trial = oracle.ongoing_trials.get(self.tuner_id)
        if trial is None:
            raise EnvironmentProblem(
                f"a process that runs trials must not end by itself. Received: {how} ({self.tuner_id})",
                "see the log of the tuner",
            )
        reason = f"its process died ({how}{', probably out of memory' if how == 'SIGKILL' else ''})"
        write_note(Path(self._job.folder), trial.trial_id, reason=reason)
        trial.status = keras_tuner.engine.trial.TrialStatus.FAILED
        trial.message = reason
        oracle.end_trial(trial)
        self.stop()
        self._process = self._start()
        return True

    def stop(self) -> None:
        """End the process if it has not ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "headrace.components.tuning.worker"],
            env=self._environment,
            stdin=subprocess.PIPE,  # closes when this process ends, however it does
            stdout=2,
        )
