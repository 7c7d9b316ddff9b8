"""One trial: fit a model with some values on a sample, and tell the best value of the objective."""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from pydantic import ValidationError

from headrace.components.models.config import ModelConfig
from headrace.components.models.registry import parse_model_config
from headrace.components.node import EVENTS_VARIABLE
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import Diverged
from headrace.components.training.input import Source, read_rows, split_files
from headrace.components.training.settings import Monitor, apply_values
from headrace.components.training.train import train_on
from headrace.data.errors import ConfigError, HeadraceError

from .config import TuningConfig
from .search import Score

__all__ = ["Trials"]

_LEFT_OUT = {
    "backup": False,
    "tensorboard": False,
    "tensorboard_histograms": False,
    "monitoring": False,
    "lr_finder": False,
    "callbacks": (),
}
"""What a trial has no use for."""


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
        self._objective, self._seed, self._worked = objective, seed, False
        self._train: Source = _sample(split_files(examples_uri, "train"), features, tuning.sample)
        eval_files = split_files(examples_uri, "eval")
        self._eval: Source = read_rows(eval_files, features) or eval_files

    def evaluate(self, values: dict[str, Any], epochs: int) -> Score:
        """Fit with `values` and return the best value of the objective, averaged over executions.

        The curve is that of the first execution.

        Raises:
            keras_tuner.errors.FailedTrialError: If the values exclude each other or do not suit the features
                (known once a trial has worked), or a fit gave no finite value; executions that are left
                are not run then.
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
        name, mode = self._objective
        changes: dict[str, Any] = {**_LEFT_OUT, "epochs": epochs}
        if training.early_stopping is not None:
            changes["early_stopping"] = training.early_stopping.model_copy(update={"monitor": name})
        with tempfile.TemporaryDirectory() as scratch, _hushed():
            folders = RunFolders(Path(scratch, "state"), Path(scratch, "logs"), Path(scratch, "history.csv"))
            try:
                trained = train_on(
                    self._train,
                    self._eval,
                    self._features,
                    config,
                    training.model_copy(update=changes),
                    folders,
                    seed,
                    explain=False,
                )
            except HeadraceError as error:
                # A setting that stops the first fit would stop all; a signal to stop is an error of its own.
                if not (
                    type(error) in (HeadraceError, Diverged) or (self._worked and type(error) is ConfigError)
                ):
                    raise
                raise keras_tuner.errors.FailedTrialError(error.message) from error
        self._worked = True
        curves = [[epoch["logs"].get(name) for epoch in part.epochs] for part in trained.parts]
        known = [[value for value in curve if value is not None] for curve in curves]
        if not all(known):
            raise keras_tuner.errors.FailedTrialError(
                f"{name} must be finite. Received: NaN or infinity in {len(curves[0])} epochs"
            )
        best = [(min if mode == "min" else max)(values) for values in known]
        return Score(float(np.mean(best)), max(map(len, curves)), tuple(curves[0]))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep the epochs of a trial from the progress line, which is that of the trials."""
    kept = os.environ.get(EVENTS_VARIABLE)
    os.environ[EVENTS_VARIABLE] = os.devnull
    try:
        yield
    finally:
        if kept is None:
            del os.environ[EVENTS_VARIABLE]
        else:
            os.environ[EVENTS_VARIABLE] = kept


def _sample(files: list[str], features: Mapping[str, Any], share: float) -> Source:
    """Return the first `share` of a split, whose rows are in random order; whole files of a streamed one."""
    rows = read_rows(files, features)
    if rows is None:
        return files[: max(1, math.ceil(share * len(files)))]
    return rows.take(np.arange(max(1, round(share * len(rows))))) if share < 1 else rows
