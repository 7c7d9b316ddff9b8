"""A search with Keras Tuner's oracles: they choose values, a function of ours scores them."""

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner

from headrace.components.training.settings import Monitor

from .config import SearchRange, TuningConfig
from .space import choice_kind

__all__ = ["Score", "Search", "decode_values", "make_space", "search"]


@dataclass(frozen=True)
class Score:
    """What one trial gave."""

    value: float
    epochs: int


Evaluate = Callable[[dict[str, Any], int], Score]
"""(dotted field -> value, epochs) -> score; raises Keras Tuner's `FailedTrialError` where there is none."""


@dataclass(frozen=True)
class Search:
    """The outcome of a search.

    Attributes:
        best: Values of the best trial, or None if none succeeded.
        score: Its score.
        trials: `{trial, values, score, epochs, seconds, status}` in the order they ran.
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
    on_trial: Callable[[dict[str, Any]], None] = lambda trial: None,
) -> Search:
    """Try settings until the algorithm or `tuning.trials` ends it.

    Args:
        tuning: Algorithm, space and budget.
        objective: Log name and direction.
        evaluate: Scores values.
        folder: State of the search; one that was killed goes on from it.
        seed: Of the choices.
        first: Values of the first trial (random and bayesian only), or None.
        on_trial: Told each finished trial.

    Raises:
        Exception: Whatever `evaluate` raises but `FailedTrialError`.
    """
    oracle = _oracle(tuning, objective, seed)
    if first is not None and tuning.algorithm in ("random", "bayesian"):
        _start_at(oracle, _encode_values(tuning.search, first))
    # Keras Tuner prints; standard output belongs to the command line.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # Of the Gaussian process behind `bayesian`, which goes on with what it has.
        warnings.filterwarnings("ignore", message=r"(?s).*The optimal value found for dimension")
        tuner = _Tuner(oracle, tuning, objective, evaluate, folder, on_trial)
        if tuning.algorithm == "grid":
            _restore_grid(oracle)
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ or error from None
    trials = [_describe(oracle.trials[key], tuning.search) for key in oracle.start_order]
    done = [trial for trial in oracle.get_best_trials(1) if trial.score is not None]
    if not done:
        return Search(None, None, trials, keras_tuner.HyperParameters().get_config())
    best = done[0]
    return Search(
        decode_values(tuning.search, best.hyperparameters.values),
        float(best.score),
        trials,
        best.hyperparameters.get_config(),
    )


def make_space(search_ranges: Mapping[str, SearchRange]) -> keras_tuner.HyperParameters:
    """Return the search space as Keras Tuner's hyperparameters, named by dotted field."""
    space = keras_tuner.HyperParameters()
    for field, limits in search_ranges.items():
        sampling = "log" if limits.log else "linear"
        if limits.float is not None:
            space.Float(field, *limits.float, step=limits.step, sampling=sampling)
        elif limits.int is not None:
            step = None if limits.step is None else int(limits.step)
            space.Int(field, *limits.int, step=step, sampling=sampling)
        elif choice_kind(limits.choice) == "number":
            space.Choice(field, list(limits.choice), ordered=True)
        else:
            space.Choice(field, [json.dumps(value) for value in limits.choice], ordered=False)
    return space


def decode_values(search_ranges: Mapping[str, SearchRange], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return Keras Tuner's values as the config's: JSON text parsed, the tuner's own entries left out."""
    return {
        field: json.loads(values[field])
        if limits.choice and choice_kind(limits.choice) == "json"
        else values[field]
        for field, limits in search_ranges.items()
    }


def _encode_values(search_ranges: Mapping[str, SearchRange], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field: json.dumps(values[field])
        if limits.choice and choice_kind(limits.choice) == "json"
        else values[field]
        for field, limits in search_ranges.items()
    }


def _oracle(tuning: TuningConfig, objective: Monitor, seed: int) -> Any:
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


def _restore_grid(oracle: Any) -> None:
    """Put back what Keras Tuner 1.4.8 leaves out of a grid search's state, so that it can go on."""
    previous = None
    for trial_id in oracle.start_order:
        oracle._ordered_ids.insert(trial_id, previous)
        previous = trial_id
    oracle._populate_next = list(oracle.end_order)


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs trials through `evaluate` and records when they ran."""

    def __init__(
        self,
        oracle: Any,
        tuning: TuningConfig,
        objective: Monitor,
        evaluate: Evaluate,
        folder: Path,
        on_trial: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(oracle, _no_model, directory=str(folder), project_name="search")
        self._tuning, self._log, self._evaluate, self._on_trial = tuning, objective[0], evaluate, on_trial

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> dict[str, float]:
        """Score the trial's values."""
        started = time.monotonic()
        values = dict(trial.hyperparameters.values)
        # Hyperband decides on the epochs; the weights of its earlier rounds are not taken over.
        epochs = int(values.get("tuner/epochs", self._tuning.epochs))
        try:
            score = self._evaluate(decode_values(self._tuning.search, values), epochs)
        except keras_tuner.errors.FailedTrialError:
            raise
        except Exception as error:
            # Not for the values to blame: all else Keras Tuner would count as one more failed trial.
            raise keras_tuner.errors.FatalError(str(error)) from error
        return {
            self._log: score.value,
            "trial_epochs": float(score.epochs),
            "trial_seconds": round(time.monotonic() - started, 3),
        }

    def on_trial_end(self, trial: Any) -> None:
        """Record and report the trial."""
        super().on_trial_end(trial)
        self._on_trial(_describe(trial, self._tuning.search))

    def save_model(self, trial_id: str, model: Any, step: int = 0) -> None:
        """Keep nothing: the trainer starts from the values alone."""

    def load_model(self, trial: Any) -> None:
        """Return nothing, as nothing is kept."""


def _no_model(hyperparameters: Any) -> None:
    """Build nothing: the space is given whole."""


def _describe(trial: Any, search_ranges: Mapping[str, SearchRange]) -> dict[str, Any]:
    def measured(name: str) -> float | None:
        known = trial.metrics.exists(name)
        return float(trial.metrics.get_best_value(name)) if known else None

    epochs = measured("trial_epochs")
    return {
        "trial": trial.trial_id,
        "values": decode_values(search_ranges, trial.hyperparameters.values),
        "score": None if trial.score is None else float(trial.score),
        "epochs": None if epochs is None else int(epochs),
        "seconds": measured("trial_seconds"),
        "status": str(trial.status).lower(),
    }
