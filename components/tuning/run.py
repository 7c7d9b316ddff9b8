"""The tuner node: search hyperparameters on a sample of the training split."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from headrace.components.models.output import Output, output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import compile_model, fit_model
from headrace.components.training.hardware import Hardware, prepare
from headrace.components.training.input import (
    Rows,
    batches,
    class_weight_table,
    label_counts,
    read_rows,
    split_files,
)
from headrace.components.training.settings import Monitor, apply_values
from headrace.data.errors import HeadraceError

from .config import TuningConfig
from .search import Score, Search, search
from .space import check_search, own_values, resolve_objective

__all__ = ["Trials", "run"]

Source = Rows | list[str]


def run(ctx: NodeContext) -> NodeResult:
    """Search, and write best.json, best_hyperparameters.txt and trials.json."""
    tuning = TuningConfig.model_validate(ctx.config["tuning"])
    task = ctx.config["data"]["task"]
    objective = resolve_objective(tuning.objective, task)
    out = ctx.outputs["best_hyperparameters"]
    if not tuning.enabled:
        nothing = keras_tuner.HyperParameters().get_config()
        _write(out, Search({}, None, [], nothing), objective[0])
        return NodeResult("off: the config's own values are used")
    sections = {"model": ctx.config["model"], "training": ctx.config["training"]}
    check_search(
        tuning,
        parse_model_config(sections["model"]),
        TrainingConfig.model_validate(sections["training"]),
        task,
    )
    features = _read_features(ctx.input("transform_graph"))
    trials = Trials(
        ctx.input("transformed_examples"), features, sections, tuning, objective, int(ctx.config["seed"])
    )
    progress = _TrialProgress(tuning, objective[0])
    found = search(
        tuning,
        objective,
        trials.evaluate,
        Path(ctx.temp_dir) / "search",
        int(ctx.config["seed"]),
        first=own_values(tuning.search, sections),
        on_trial=progress.report,
    )
    if found.best is None:
        raise HeadraceError(
            f"at least one trial must reach a finite {objective[0]}. Received: none in {len(found.trials)}",
            "narrow `tuning.search`, for instance to lower learning rates",
        )
    _write(out, found, objective[0])
    return NodeResult(
        f"{objective[0]} {found.score:.4f}, best of {len(found.trials)} trials: {_values_text(found.best)}"
    )


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
        self._output: Output = output_of(dict(features))
        self._train: Source = _sample(split_files(examples_uri, "train"), features, tuning.sample)
        eval_files = split_files(examples_uri, "eval")
        self._eval: Source = read_rows(eval_files, features) or eval_files

    def evaluate(self, values: dict[str, Any], epochs: int) -> Score:
        """Fit with `values` and return the best value of the objective, averaged over executions.

        Raises:
            keras_tuner.errors.FailedTrialError: If the fit gave no finite value.
        """
        sections = apply_values(self._sections, values)
        training = TrainingConfig.model_validate(sections["training"])
        runs = [
            self._fit(sections["model"], training, epochs, self._seed + execution)
            for execution in range(self._tuning.executions_per_trial)
        ]
        return Score(float(np.mean([run.value for run in runs])), max(run.epochs for run in runs))

    def _fit(self, model_section: Any, training: TrainingConfig, epochs: int, seed: int) -> Score:
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        hardware: Hardware = prepare(training)
        with hardware.scope():
            model = build_model(
                self._features,
                parse_model_config(model_section),
                self._output,
                seed=seed,
                precision=hardware.precision,
            )
            compile_model(
                model,
                training,
                self._output,
                precision=hardware.precision,
                weighted=bool(self._features.get("weight")),
            )
        balanced = training.class_weights == "balanced" and self._output.classes
        counts = label_counts(self._train, self._features) if balanced else None
        weights = class_weight_table(training.class_weights, self._output.classes, counts)
        scores = _BestScore(self._objective)
        try:
            fit_model(
                model,
                batches(self._train, self._features, training, shuffle_seed=seed, class_weights=weights),
                batches(self._eval, self._features, training),
                epochs,
                [keras.callbacks.TerminateOnNaN(), *_schedule(training, self._objective), scores],
            )
        except HeadraceError as error:
            raise keras_tuner.errors.FailedTrialError(error.message) from error
        if scores.best is None:
            raise keras_tuner.errors.FailedTrialError(f"no finite {self._objective[0]}")
        return Score(scores.best, scores.epochs)


class _BestScore(keras.callbacks.Callback):
    """Keeps the best finite value of one log."""

    def __init__(self, objective: Monitor) -> None:
        super().__init__()
        self._name, self._mode = objective
        self.best: float | None = None
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs = epoch + 1
        value = float((logs or {}).get(self._name, math.nan))
        if math.isfinite(value):
            pick = min if self._mode == "min" else max
            self.best = value if self.best is None else pick(self.best, value)


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


class _TrialProgress:
    """Sends a `trial` event with score and time left after each trial."""

    def __init__(self, tuning: TuningConfig, objective: str) -> None:
        self._tuning, self._objective = tuning, objective
        self._started = time.monotonic()
        self._seen = 0

    def report(self, trial: dict[str, Any]) -> None:
        self._seen += 1
        done = int(trial["trial"]) + 1  # counts the trials of an earlier try of this search too
        left = max(self._tuning.trials - done, 0)
        eta = round(left * (time.monotonic() - self._started) / self._seen, 1)
        score = "failed" if trial["score"] is None else f"{self._objective} {trial['score']:.4f}"
        text = (
            f"trial {done}/{self._tuning.trials}  {score}  {_values_text(trial['values'])}  {eta:.0f} s left"
        )
        emit("trial", done=done, total=self._tuning.trials, eta_s=eta, **_event_values(trial), text=text)


def _event_values(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {name: trial[name] for name in ("values", "score", "seconds", "status")}


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{field.rpartition('.')[2]} {value:.3g}"
        if isinstance(value, float)
        else f"{field.rpartition('.')[2]} {value}"
        for field, value in values.items()
    )


def _sample(files: list[str], features: Mapping[str, Any], share: float) -> Source:
    """Return the first `share` of a split, whose rows are in random order; whole files of a streamed one."""
    rows = read_rows(files, features)
    if rows is None:
        return files[: max(1, math.ceil(share * len(files)))]
    return rows.take(np.arange(max(1, round(share * len(rows))))) if share < 1 else rows


def _read_features(transform_graph_uri: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(os.path.join(transform_graph_uri, "headrace", "features.json")) as stream:
        content: dict[str, Any] = json.load(stream)
    return content


def _write(folder: str, found: Search, objective: str) -> None:
    tf.io.gfile.makedirs(folder)
    contents = {
        "best_hyperparameters.txt": found.hyperparameters,
        "best.json": {"values": found.best or {}, "score": found.score, "objective": objective},
        "trials.json": found.trials,
    }
    for name, content in contents.items():
        with tf.io.gfile.GFile(os.path.join(folder, name), "w") as stream:
            json.dump(content, stream, indent=1, allow_nan=False)
