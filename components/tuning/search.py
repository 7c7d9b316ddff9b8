"""A search with Keras Tuner's oracles: they choose values, a function of ours scores them."""

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner

from headrace.components.training.settings import Monitor

from .config import TuningConfig
from .encoding import decode_values, encode_values, make_space

__all__ = [
    "Evaluate",
    "Score",
    "Search",
    "describe",
    "make_oracle",
    "outcome",
    "quiet",
    "run_trials",
    "search",
    "write_note",
]

_PROJECT = "search"
_IDLE_S = 0.2


@dataclass(frozen=True)
class Score:
    """What one trial gave.

    Attributes:
        value: The objective at its best epoch.
        epochs: Epochs run.
        curve: The objective after each epoch, None where it was not finite.
    """

    value: float
    epochs: int
    curve: tuple[float | None, ...] = ()


Evaluate = Callable[[dict[str, Any], int], Score]
"""(dotted field -> value, epochs) -> score; raises Keras Tuner's `FailedTrialError` where there is none."""

OnTrial = Callable[[dict[str, Any], int], None]
"""Told an ended trial, and how many have ended so far."""


@dataclass(frozen=True)
class Search:
    """The outcome of a search.

    Attributes:
        best: Values of the best trial, or None if none succeeded.
        score: Its score.
        trials: `{trial, values, score, epochs, seconds, status, curve, reason}` in the order they started.
        hyperparameters: Keras Tuner's config of the best values.
    """

    best: dict[str, Any] | None
    score: float | None
    trials: list[dict[str, Any]]
    hyperparameters: dict[str, Any]


def search(
    tuning: TuningConfig,
    objective: Monitor,
    evaluate: Evaluate,
    folder: Path,
    seed: int,
    first: Mapping[str, Any] | None = None,
    on_trial: OnTrial = lambda trial, done: None,
) -> Search:
    """Try settings one after another until the algorithm, `tuning.trials` or `tuning.minutes` ends it.

    Args:
        tuning: Algorithm, space and budget.
        objective: Log name and direction.
        evaluate: Scores values.
        folder: State of the search; one that was killed goes on from it.
        seed: Of the choices.
        first: Values of the first trial (random and bayesian only), or None.
        on_trial: Told each ended trial.

    Raises:
        Exception: Whatever `evaluate` raises but `FailedTrialError`.
    """
    with quiet():
        oracle = make_oracle(tuning, objective, seed, folder, first)
        run_trials(
            oracle,
            tuning,
            objective,
            evaluate,
            folder,
            lambda trial: on_trial(describe(trial, tuning, folder), len(oracle.end_order)),
        )
    return outcome(oracle, tuning, folder)


def make_oracle(
    tuning: TuningConfig, objective: Monitor, seed: int, folder: Path, first: Mapping[str, Any] | None = None
) -> Any:
    """Return what chooses the values, in the state that an earlier try left in `folder`.

    Args:
        tuning: Algorithm, space and budget.
        objective: Log name and direction.
        seed: Of the choices.
        folder: State of the search.
        first: Values of the first trial (random and bayesian only), or None.
    """
    oracle = _new_oracle(tuning, objective, seed)
    if first is not None and tuning.algorithm in ("random", "bayesian"):
        _start_at(oracle, encode_values(tuning.search, first))
    if tuning.minutes is not None:
        _end_after(oracle, 60 * tuning.minutes, folder / "elapsed.json")
    folder.mkdir(parents=True, exist_ok=True)
    oracle._set_project_dir(str(folder), _PROJECT)
    if Path(oracle._get_oracle_fname()).exists():
        oracle.reload()
        if tuning.algorithm == "grid":
            _restore_grid(oracle)
    return oracle


def run_trials(
    oracle: Any,
    tuning: TuningConfig,
    objective: Monitor,
    evaluate: Evaluate,
    folder: Path,
    on_trial: Callable[[Any], None] = lambda trial: None,
) -> None:
    """Run trials until the oracle has no more; in a worker it is the chief's, behind gRPC.

    Raises:
        Exception: Whatever `evaluate` raises but `FailedTrialError`.
    """
    tuner = _Tuner(oracle, tuning, objective, evaluate, folder, on_trial)
    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Keras Tuner from printing: standard output belongs to the command line."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # Of the Gaussian process behind `bayesian`, which goes on with what it has.
        warnings.filterwarnings("ignore", message=r"(?s).*The optimal value found for dimension")
        yield


def outcome(oracle: Any, tuning: TuningConfig, folder: Path) -> Search:
    """Return what the search has found so far."""
    trials = [describe(oracle.trials[key], tuning, folder) for key in oracle.start_order]
    done = [trial for trial in oracle.get_best_trials(1) if trial.score is not None]
    if not done:
        return Search(None, None, trials, keras_tuner.HyperParameters().get_config())
    best = done[0]
    chosen = make_space(tuning.search)
    chosen.values = encode_values(tuning.search, decode_values(tuning.search, best.hyperparameters.values))
    return Search(
        decode_values(tuning.search, best.hyperparameters.values),
        float(best.score),
        trials,
        chosen.get_config(),
    )


def describe(trial: Any, tuning: TuningConfig, folder: Path) -> dict[str, Any]:
    """Return an entry of trials.json.

    Args:
        trial: Keras Tuner's trial.
        tuning: The space.
        folder: State of the search.
    """
    note = {"epochs": None, "seconds": None, "curve": [], "reason": None} | _read_note(folder, trial.trial_id)
    return {
        "trial": trial.trial_id,
        "values": decode_values(tuning.search, trial.hyperparameters.values),
        "score": None if trial.score is None else float(trial.score),
        "status": str(trial.status).lower(),
        **note,
    }


def write_note(folder: Path, trial_id: str, **note: Any) -> None:
    """Keep what Keras Tuner has no place for: epochs, seconds, curve, reason of a failure."""
    path = _note_path(folder, trial_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note), encoding="utf-8")


def _read_note(folder: Path, trial_id: str) -> dict[str, Any]:
    path = _note_path(folder, trial_id)
    if not path.exists():
        return {}
    note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return note


def _note_path(folder: Path, trial_id: str) -> Path:
    return folder / "notes" / f"{trial_id}.json"


def _new_oracle(tuning: TuningConfig, objective: Monitor, seed: int) -> Any:
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(*objective),
        "hyperparameters": make_space(tuning.search),
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed + 1,  # Keras Tuner takes 0 for no seed
        # A few values that diverge in a row are no reason to end the search.
        "max_consecutive_failed_trials": tuning.trials + 1,
    }
    oracles = keras_tuner.oracles
    if tuning.algorithm == "grid":
        return oracles.GridSearchOracle(max_trials=tuning.trials, **shared)
    if tuning.algorithm == "bayesian":
        return oracles.BayesianOptimizationOracle(max_trials=tuning.trials, **shared)
    if tuning.algorithm == "hyperband":
        oracle = oracles.HyperbandOracle(max_epochs=tuning.epochs, **shared)
        oracle.max_trials = tuning.trials  # its constructor takes no such bound
        return oracle
    return oracles.RandomSearchOracle(max_trials=tuning.trials, **shared)


def _start_at(oracle: Any, values: Mapping[str, Any]) -> None:
    """Make `oracle` propose `values` before anything of its own."""
    propose = oracle.populate_space

    def populate_space(trial_id: str) -> dict[str, Any]:
        if oracle.trials:
            found: dict[str, Any] = propose(trial_id)
            return found
        return {"status": keras_tuner.engine.trial.TrialStatus.RUNNING, "values": dict(values)}

    oracle.populate_space = populate_space


def _end_after(oracle: Any, seconds: float, path: Path) -> None:
    """Make `oracle` propose nothing more after a time, which earlier tries count towards."""
    propose = oracle.populate_space
    earlier = float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0.0
    started = time.monotonic()

    def populate_space(trial_id: str) -> dict[str, Any]:
        elapsed = earlier + time.monotonic() - started
        path.write_text(json.dumps(elapsed), encoding="utf-8")
        if oracle.trials and elapsed >= seconds:
            return {"status": keras_tuner.engine.trial.TrialStatus.STOPPED}
        found: dict[str, Any] = propose(trial_id)
        return found

    oracle.populate_space = populate_space


def _restore_grid(oracle: Any) -> None:
    """Put back what Keras Tuner 1.4.8 leaves out of a grid search's state, so that it can go on."""
    previous = None
    for trial_id in oracle.start_order:
        oracle._ordered_ids.insert(trial_id, previous)
        previous = trial_id
    oracle._populate_next = list(oracle.end_order)


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs trials through `evaluate`."""

    def __init__(
        self,
        oracle: Any,
        tuning: TuningConfig,
        objective: Monitor,
        evaluate: Evaluate,
        folder: Path,
        on_trial: Callable[[Any], None],
    ) -> None:
        super().__init__(oracle, _no_model, directory=str(folder), project_name=_PROJECT)
        self._tuning, self._log, self._evaluate, self._on_trial = tuning, objective[0], evaluate, on_trial
        self._folder = folder
        ask = self.oracle.create_trial

        def create_trial(tuner_id: str) -> Any:
            trial = ask(tuner_id)
            if trial.status == keras_tuner.engine.trial.TrialStatus.IDLE:
                time.sleep(_IDLE_S)  # Keras Tuner asks again at once
            return trial

        self.oracle.create_trial = create_trial

    def reload(self) -> None:
        """Take the oracle as it is: it was restored where it was made."""

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> dict[str, float]:
        """Score the trial's values."""
        started = time.monotonic()
        # Hyperband decides on the epochs; the weights of its earlier rounds are not taken over.
        epochs = int(trial.hyperparameters.values.get("tuner/epochs", self._tuning.epochs))
        values = decode_values(self._tuning.search, trial.hyperparameters.values)
        note: dict[str, Any] = {}
        try:
            score = self._evaluate(values, epochs)
            note = {"epochs": score.epochs, "curve": score.curve}
        except keras_tuner.errors.FailedTrialError as error:
            note = {"reason": str(error)}
            raise
        except Exception as error:
            # Not for the values to blame: all else Keras Tuner would count as one more failed trial.
            raise keras_tuner.errors.FatalError(str(error)) from error
        finally:
            seconds = round(time.monotonic() - started, 3)
            write_note(self._folder, trial.trial_id, seconds=seconds, **note)
        return {self._log: score.value}

    def on_trial_end(self, trial: Any) -> None:
        """Record and report the trial."""
        super().on_trial_end(trial)
        self._on_trial(self.oracle.get_trial(trial.trial_id))

    def save_model(self, trial_id: str, model: Any, step: int = 0) -> None:
        """Keep nothing: the trainer starts from the values alone."""

    def load_model(self, trial: Any) -> None:
        """Return nothing, as nothing is kept."""


def _no_model(hyperparameters: Any) -> None:
    """Build nothing: the space is given whole."""
