"""One trial: fit a model with some values on a sample, and tell the best value of the objective."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner
import numpy as np
from pydantic import ValidationError

from headrace.components.models.config import ModelConfig
from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import compile_model, fit_model
from headrace.components.training.hardware import prepare
from headrace.components.training.input import (
    Source,
    batches,
    class_weights_of,
    label_parts,
    read_rows,
    split_files,
)
from headrace.components.training.settings import Monitor, apply_values
from headrace.components.training.target import fit_target
from headrace.data.errors import ConfigError, HeadraceError

from .config import TuningConfig
from .search import Score

__all__ = ["Trials"]


class Trials:
    """Scores settings on one sample, read once and shared by all trials.

    Args:
        examples_uri: Folder of the transformed examples.
        features: Content of features.json.
        sections: `model` and `training` as plain JSON values.
        tuning: Sample, epochs and executions of a trial.
        objective: Log name and direction.
        seed: Of weights and order; the same for every trial, so that they differ by their values alone.
    """

    def __init__(
        self,
        examples_uri: str,
        features: Mapping[str, Any],
        sections: Mapping[str, Any],
        tuning: TuningConfig,
        objective: Monitor,
        seed: int,
    ) -> None:
        self._features, self._sections, self._tuning = features, sections, tuning
        self._objective, self._seed = objective, seed
        self._train: Source = _sample(split_files(examples_uri, "train"), features, tuning.sample)
        eval_files = split_files(examples_uri, "eval")
        self._eval: Source = read_rows(eval_files, features) or eval_files

    def evaluate(self, values: dict[str, Any], epochs: int) -> Score:
        """Fit with `values` and return the best value of the objective, averaged over executions.

        The curve is that of the first execution.

        Raises:
            keras_tuner.errors.FailedTrialError: If the values exclude each other, or a fit gave no finite
                value; executions that are left are not run then.
        """
        sections = apply_values(self._sections, values)
        try:
            config = parse_model_config(sections["model"])
            training = TrainingConfig.model_validate(sections["training"])
        except ValidationError as error:
            # Each value is valid; that these two are not together could not be told beforehand.
            raise keras_tuner.errors.FailedTrialError(error.errors()[0]["msg"]) from error
        runs = [
            self._fit(config, training, epochs, self._seed + execution)
            for execution in range(self._tuning.executions_per_trial)
        ]
        value = float(np.mean([run.value for run in runs]))
        return Score(value, max(run.epochs for run in runs), runs[0].curve)

    def _fit(self, config: ModelConfig, training: TrainingConfig, epochs: int, seed: int) -> Score:
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        hardware = prepare(training)
        features = self._features
        is_number = features["label"]["task"] == "regression"
        target = fit_target(training.target, label_parts(self._train, features)) if is_number else None
        output = output_of(dict(features), target)
        with hardware.scope():
            try:
                model = build_model(features, config, output, seed=seed, precision=hardware.precision)
            except ConfigError as error:
                raise keras_tuner.errors.FailedTrialError(error.message) from error
            compile_model(
                model, training, output, precision=hardware.precision, weighted=bool(features.get("weight"))
            )
        weights = class_weights_of(self._train, features, training)
        watch = _Watch(self._objective)
        try:
            fit_model(
                model,
                batches(self._train, features, training, shuffle_seed=seed, class_weights=weights),
                batches(self._eval, features, training),
                epochs,
                [keras.callbacks.TerminateOnNaN(), *_schedule(training, self._objective), watch],
            )
        except HeadraceError as error:
            if type(error) is not HeadraceError:  # a wrong setting, or a signal to stop
                raise
            raise keras_tuner.errors.FailedTrialError(error.message) from error
        if watch.best is None or watch.curve[-1] is None:
            raise keras_tuner.errors.FailedTrialError(
                f"{self._objective[0]} must stay finite. Received: NaN (epoch {len(watch.curve)})"
            )
        return Score(watch.best, len(watch.curve), tuple(watch.curve))


class _Watch(keras.callbacks.Callback):
    """Keeps the objective of every epoch, and ends a fit in which it is no longer finite."""

    def __init__(self, objective: Monitor) -> None:
        super().__init__()
        self._name, self._mode = objective
        self.curve: list[float | None] = []

    @property
    def best(self) -> float | None:
        """The best finite value so far."""
        known = [value for value in self.curve if value is not None]
        return (min if self._mode == "min" else max)(known) if known else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = float((logs or {}).get(self._name, math.nan))
        self.curve.append(value if math.isfinite(value) else None)
        if not math.isfinite(value):
            self.model.stop_training = True


def _schedule(training: TrainingConfig, objective: Monitor) -> list[Any]:
    """Return the callbacks whose settings a search may change."""
    name, mode = objective
    found: list[Any] = []
    if training.reduce_on_plateau is not None:
        plateau = training.reduce_on_plateau
        found.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=name, mode=mode, factor=plateau.factor, patience=plateau.patience,
                min_lr=plateau.min_learning_rate,
            )
        )  # fmt: skip
    if training.early_stopping is not None:
        stopping = training.early_stopping
        found.append(
            keras.callbacks.EarlyStopping(
                monitor=name, mode=mode, patience=stopping.patience, min_delta=stopping.min_delta
            )
        )
    return found


def _sample(files: list[str], features: Mapping[str, Any], share: float) -> Source:
    """Return the first `share` of a split, whose rows are in random order; whole files of a streamed one."""
    rows = read_rows(files, features)
    if rows is None:
        return files[: max(1, math.ceil(share * len(files)))]
    return rows.take(np.arange(max(1, round(share * len(rows))))) if share < 1 else rows
