"""Other machines that run trials: how their chief sees them, and what each of them does.

The chief's own machine runs trials too, so that a search ends whether or not the others ever start.
"""

import json
import time
from pathlib import Path
from typing import Any

import keras_tuner

from headrace.components.team import Team

from .job import Chief, Job, death_path
from .processes import WorkerProcess, fail_trial, raise_told, started

__all__ = ["Helpers", "assist"]

_LOOK_S = 1.0
_POLL_S = 0.5
_WAIT_S = 1800.0
_PREFIX = "machine"


class Helpers:
    """The other machines of a team.

    Args:
        team: The team; its call goes out here.
        oracle: What hands the trials out.
        chief: Where the others find it.
    """

    def __init__(self, team: Team, oracle: Any, chief: Chief) -> None:
        self._team, self._oracle, self._folder = team, oracle, chief.folder
        self._looked = 0.0
        for place in ("errors", "deaths"):
            for path in Path(chief.folder, place).glob("*.json"):
                path.unlink()
        team.call(host=chief.host, port=chief.port, job=chief.path)

    def look_after(self) -> bool:
        """Return whether trials are under way or to be tried again; take those of lost machines back.

        Raises:
            HeadraceError: If one of them died of something that is not a trial's fault.
        """
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            for path in Path(self._folder, "errors").glob(f"{_PREFIX}*.json"):
                raise_told(self._folder, path.stem)
            for path in Path(self._folder, "deaths").glob("*.json"):
                if path.stem in self._oracle.ongoing_trials:
                    fail_trial(self._oracle, self._folder, path.stem, json.loads(path.read_text()))
                path.unlink()
            present = self._team.others()
            for tuner_id in list(self._oracle.ongoing_trials):
                machine, _, rest = tuner_id.partition("-")
                if rest and int(machine.removeprefix(_PREFIX)) not in present:
                    _take_back(self._oracle, tuner_id)
        return bool(self._oracle.ongoing_trials or self._oracle._retry_queue)


@keras_tuner.synchronized
def _take_back(oracle: Any, tuner_id: str) -> None:
    """Let somebody else have a trial that a lost machine had begun."""
    trial = oracle.ongoing_trials.pop(tuner_id, None)
    if trial is not None:
        oracle._retry_queue.append(trial.trial_id)
        oracle.tuner_ids.discard(tuner_id)


def assist(team: Team, wait_s: float = _WAIT_S) -> str:
    """Run trials for the chief of a team until it has no more, or is gone.

    Args:
        team: The team; this process is not its chief.
        wait_s: Longest wait for a chief.

    Returns:
        What came of it, for people. Nothing depends on this machine, so it never fails for lack of a chief.
    """
    deadline = time.monotonic() + wait_s
    with team.alive():
        while time.monotonic() < deadline:
            if (end := team.ended()) is not None:
                return f"nothing to help with: the tuner is {end['state']}"
            if (call := team.called()) is not None:
                if _work(team, call):
                    return "ran trials until there were no more"
                deadline = time.monotonic() + wait_s
            time.sleep(_POLL_S)
    return f"no chief called within {wait_s:.0f} s; the tuner searches without this worker"


def _work(team: Team, call: Any) -> bool:
    """Run trials; return whether there are no more, or else the chief is another or gone."""
    job, dead = Job.read(call["job"]), set[str]()
    chief = Chief(call["host"], call["port"], call["job"], job.folder)
    team.tell(call=call["chief"])
    name = f"{_PREFIX}{team.number}-worker"
    with started(chief, job.config.workers, name, job.threads) as workers:
        while team.called() == call and team.ended() is None:
            states = [_follow(worker, dead) for worker in workers]
            if not any(states):
                return True
            time.sleep(_POLL_S)
    return team.ended() is not None


def _follow(worker: WorkerProcess, dead: set[str]) -> bool:
    """Return whether a process works; of one that died in a trial the chief is told, then it is replaced.

    Args:
        worker: The process.
        dead: Those of which the chief was told; changed in place.
    """
    how = worker.ended
    if not how:
        return how is None
    raise_told(worker.chief.folder, worker.tuner_id)
    told = death_path(worker.chief.folder, worker.tuner_id)
    if worker.tuner_id not in dead:
        told.parent.mkdir(exist_ok=True)
        told.write_text(json.dumps(how), encoding="utf-8")
        dead.add(worker.tuner_id)
    elif not told.exists():  # the chief has read it: before that, a successor would get the same trial again
        dead.remove(worker.tuner_id)
        worker.start_again()
    return True
