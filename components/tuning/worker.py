"""A process that takes part in a search: `python -m headrace.components.tuning.worker`.

Its chief is in the environment, as Keras Tuner has it: KERASTUNER_TUNER_ID (its own name),
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT; HEADRACE_TUNING_JOB is the path of the job's file.
"""

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from headrace.data.errors import HeadraceError

from .job import JOB_VARIABLE, Job, error_path
from .search import make_oracle, quiet, run_trials

__all__ = ["main", "work"]


def main() -> int:
    """Take part as the environment tells; return the exit code."""
    job = Job.read(os.environ[JOB_VARIABLE])
    tuner_id = os.environ["KERASTUNER_TUNER_ID"]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(job)
    except Exception as error:
        traceback.print_exc()
        _tell(error, error_path(job.folder, tuner_id))
        return error.exit_code if isinstance(error, HeadraceError) else 1
    return 0


def work(job: Job) -> None:
    """Ask the chief for trials and run them until there are no more.

    Raises:
        HeadraceError: If something fails that is not the values' fault.
    """
    import tensorflow as tf

    if job.threads:
        tf.config.threading.set_intra_op_parallelism_threads(job.threads)
        tf.config.threading.set_inter_op_parallelism_threads(job.threads)
    from .trials import Trials

    features = json.loads(Path(job.transform_graph, "headrace", "features.json").read_text(encoding="utf-8"))
    trials = Trials(job.examples, features, job.sections, job.config, job.objective, job.seed)
    # Keras Tuner reaches the chief through an oracle of the same space; it keeps no state here.
    scratch = Path(job.folder) / os.environ["KERASTUNER_TUNER_ID"]
    with quiet():
        oracle = make_oracle(job.config, job.objective, job.seed, scratch)
        run_trials(oracle, job.config, job.objective, trials.evaluate, Path(job.folder))


def _tell(error: Exception, path: Path) -> None:
    """Leave the error where the chief looks for it."""
    if isinstance(error, HeadraceError):
        content = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    else:
        text = f"{type(error).__name__}: {error}"
        content = {"message": text, "hint": "see the log of the tuner", "exit_code": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _end_with_parent() -> None:
    """End when the process that holds the other end of standard input has ended."""
    while os.read(0, 4096):  # not sys.stdin, whose lock would hold up the end of the interpreter
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
