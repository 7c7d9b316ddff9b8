"""Trials side by side: this process is Keras Tuner's chief, workers ask it for trials over gRPC.

The wire protocol is Keras Tuner's own: each worker is told by the environment (KERASTUNER_TUNER_ID,
KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT) where its chief is. Workers of other machines are in `helpers`.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from headrace.components.team import Team
from headrace.data.errors import EnvironmentProblem

from .config import TuningConfig
from .helpers import Helpers
from .job import Chief, Job
from .processes import started
from .search import OnTrial, Search, describe, make_oracle, outcome, quiet

__all__ = ["search_in_processes"]

_POLL_S = 0.1


def search_in_processes(
    job: Job,
    first: Mapping[str, Any] | None = None,
    on_trial: OnTrial = lambda trial, done: None,
    team: Team | None = None,
) -> Search:
    """Search with `tuning.workers` processes of this machine and of each other one of a team.

    The other machines may come late, go, or never come: what a lost one had begun is tried again.

    Args:
        job: The work.
        first: Values of the first trial (random and bayesian only), or None.
        on_trial: Told each ended trial, in the order in which they end.
        team: The machines whose chief this one is; None: this one alone.

    Raises:
        HeadraceError: If a worker could not start, or met an error that is not its values' fault.
    """
    folder, tuning = Path(job.folder), job.config
    path, host = job.write(), "127.0.0.1" if team is None else team.bare_host
    with quiet(), contextlib.ExitStack() as stack:
        oracle = make_oracle(tuning, job.objective, job.seed, folder, first)
        told = len(oracle.end_order)
        chief = Chief(host, stack.enter_context(_serving(oracle, f"{host}:0")), path, job.folder)
        helpers = None if team is None else Helpers(team, oracle, chief)
        count = min(tuning.workers, tuning.trials)
        workers = stack.enter_context(started(chief, count, "worker", job.threads))
        while True:
            working = [worker.looks_after(oracle) for worker in workers]
            waiting = helpers is not None and helpers.look_after()
            told = _tell(oracle, tuning, folder, told, on_trial)
            if not any(working):
                if not waiting:
                    break
                if oracle._retry_queue:  # of a machine that was lost after the last trial had been handed out
                    workers[0].start_again()
            time.sleep(_POLL_S)
        _tell(oracle, tuning, folder, told, on_trial)
    return outcome(oracle, tuning, folder)


@contextlib.contextmanager
def _serving(oracle: Any, address: str) -> Iterator[int]:
    """Answer workers' calls; give the port.

    Keras Tuner's own `start_server` takes no free port, and sleeps up to 20 s after the last trial.
    """
    # One thread, as Keras Tuner has it: oracles are not made for more.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise EnvironmentProblem(
            f"the chief of the search must listen. Received: {error} ({address})"
        ) from error
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1).wait()


def _tell(oracle: Any, tuning: TuningConfig, folder: Path, told: int, on_trial: OnTrial) -> int:
    """Report trials that have ended since; return how many have ended."""
    ended = list(oracle.end_order)
    for number in range(told, len(ended)):
        on_trial(describe(oracle.trials[ended[number]], tuning, folder), number + 1)
    return len(ended)
