"""Processes of this machine that run trials for a chief, here or elsewhere."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner

from headrace.data.errors import EnvironmentProblem, error_for_code

from .job import JOB_VARIABLE, Chief, error_path
from .search import write_note

__all__ = ["WorkerProcess", "fail_trial", "raise_told", "started"]

_STOP_S = 5.0


@contextlib.contextmanager
def started(chief: Chief, count: int, name: str, threads: int) -> Iterator[list["WorkerProcess"]]:
    """Start worker processes, and end them one by one, however this ends.

    Args:
        chief: Where they find their chief.
        count: How many.
        name: What their tuner ids start with.
        threads: Threads of each; 0: as many as TensorFlow likes.
    """
    gpus = 0
    if count > 1:
        import tensorflow as tf

        gpus = len(tf.config.list_physical_devices("GPU"))
    found: list[WorkerProcess] = []
    try:
        for number in range(count):
            gpu = number % gpus if gpus > 1 else None
            found.append(WorkerProcess(chief, f"{name}{number}", threads, gpu))
        yield found
    finally:
        for worker in found:
            worker.stop()


class WorkerProcess:
    """A process that runs trials, and its successor where one of them killed it."""

    def __init__(self, chief: Chief, tuner_id: str, threads: int, gpu: int | None) -> None:
        self.chief, self.tuner_id = chief, tuner_id
        self._environment = {
            **os.environ,
            JOB_VARIABLE: chief.path,
            "KERASTUNER_TUNER_ID": tuner_id,
            "KERASTUNER_ORACLE_IP": chief.host,
            "KERASTUNER_ORACLE_PORT": str(chief.port),
            "no_grpc_proxy": chief.host,
            "OMP_NUM_THREADS": str(threads or ""),
            # Several processes may share a device.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            **({"CUDA_VISIBLE_DEVICES": str(gpu)} if gpu is not None else {}),
        }
        error_path(chief.folder, tuner_id).unlink(missing_ok=True)
        self._process = self._start()

    @property
    def ended(self) -> str | None:
        """How the process ended: "" well, "exit code 3", "SIGKILL"; None while it works."""
        code = self._process.poll()
        if not code:
            return None if code is None else ""
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def looks_after(self, oracle: Any) -> bool:
        """Return whether the process works; one that died in a trial gives it up and is replaced.

        Raises:
            HeadraceError: If it died of something that is not the trial's fault.
        """
        how = self.ended
        if not how:
            return how is None
        raise_told(self.chief.folder, self.tuner_id)
        if self.tuner_id not in oracle.ongoing_trials:
            raise EnvironmentProblem(
                f"a process that runs trials must not end by itself. Received: {how} ({self.tuner_id})",
                "see the log of the tuner",
            )
        fail_trial(oracle, self.chief.folder, self.tuner_id, how)
        self.start_again()
        return True

    def start_again(self) -> None:
        """Start a successor of a process that has ended."""
        self.stop()
        self._process = self._start()

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


def raise_told(folder: str, tuner_id: str) -> None:
    """Raise the error that a worker has left, if it has left one."""
    told = error_path(folder, tuner_id)
    if told.exists():
        error = json.loads(told.read_text(encoding="utf-8"))
        raise error_for_code(error["exit_code"], error["message"], error["hint"])


def fail_trial(oracle: Any, folder: str, tuner_id: str, how: str) -> None:
    """Count the trial of a worker whose process died as failed."""
    trial = oracle.ongoing_trials[tuner_id]
    reason = f"its process died ({how}{', probably out of memory' if how == 'SIGKILL' else ''})"
    write_note(Path(folder), trial.trial_id, reason=reason)
    trial.status = keras_tuner.engine.trial.TrialStatus.FAILED
    trial.message = reason
    oracle.end_trial(trial)
