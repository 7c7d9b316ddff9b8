"""Fit a model: every part of it, through its phases, going on where a killed try stopped."""

import functools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from headrace.components.models.config import ModelConfig
from headrace.components.models.output import Output, TargetScale, output_of
from headrace.components.models.registry import Phase, build_model, phases, training_parts
from headrace.components.node import emit
from headrace.data.config import Task
from headrace.data.errors import HeadraceError

from .callbacks import EpochLog, Progress, RunFolders, make_callbacks, write_csv
from .config import EarlyStopping, TrainingConfig
from .diagnosis import diagnose
from .fit import Diverged, compile_model, diverged, fit_model
from .hardware import Hardware, prepare
from .input import Batches, Source, batches, class_weights_of, label_parts, read_rows, split_files
from .lr_finder import find_learning_rate
from .monitoring import Monitoring, probe_rows
from .resume import random_state, set_random_state
from .settings import Monitor, check_training, resolve_monitor
from .target import fit_target

__all__ = ["Part", "Trained", "train", "train_on"]

_PHASES_APART = 7919
"""Between the seeds of two phases; parts differ by 1."""


@dataclass(frozen=True)
class Part:
    """One of the models that were fitted one after another.

    Attributes:
        epochs: `{epoch, seconds, logs}`, first to last, over all phases; with `phase` where there are
            several phases and `part` where there are several parts.
        best_epoch: Counted from 1.
        value: The monitored metric then.
        monitoring: `{epoch, gradient_norm, layers, dead}` a epoch; none where it is switched off.
    """

    epochs: list[dict[str, Any]]
    best_epoch: int
    value: float
    monitoring: list[dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: Float32 Keras model with the weights of the best epoch, free of any strategy.
        parts: What was fitted: several only for an ensemble.
        monitor: Log name and direction that chose the best epochs.
        limit: Epochs that each part might have taken.
        steps: Steps of an epoch.
        hardware: Where it ran.
        output: Task, classes and the scale of a regression target that the model answers on.
        rates: `{learning_rates, losses, suggested}` of the learning rate finder, if it was asked for.
    """

    model: Any
    parts: list[Part]
    monitor: Monitor
    limit: int
    steps: int | None
    hardware: Hardware
    output: Output
    rates: dict[str, Any] | None = None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The epochs of all parts, one part after another."""
        return [epoch for part in self.parts for epoch in part.epochs]

    @property
    def best(self) -> Part:
        """The part with the best value, the first of equals."""
        sign = 1 if self.monitor[1] == "min" else -1
        return min(self.parts, key=lambda part: sign * part.value)

    @property
    def best_epoch(self) -> int:
        """The best epoch of the best part, counted from 1."""
        return self.best.best_epoch


@dataclass(frozen=True)
class _Job:
    """What all parts and phases share."""

    features: Mapping[str, Any]
    config: ModelConfig
    training: TrainingConfig
    output: Output
    monitor: Monitor
    hardware: Hardware
    train: Source
    evaluation: Source
    seed: int
    phases: tuple[Phase, ...] = field(default=())
    explain: bool = True

    @property
    def limit(self) -> int:
        """Epochs that a part may take."""
        return sum(self.length(phase) for phase in self.phases)

    def length(self, phase: Phase) -> int:
        """Return the epochs that `phase` may take."""
        return phase.epochs or self.training.epochs

    def build(self, part: int) -> Any:
        """Return a part of a new model, with its first weights."""
        with self.hardware.scope():
            whole = build_model(
                self.features, self.config, self.output, seed=self.seed, precision=self.hardware.precision
            )
        return training_parts(whole, self.config)[part]

    def compile(self, model: Any, phase: Phase, training: TrainingConfig | None = None) -> None:
        """Compile `model` for `phase`."""
        with self.hardware.scope():
            phase.prepare(model)
            compile_model(
                model,
                training or self.training,
                self.output,
                precision=self.hardware.precision,
                weighted=bool(self.features.get("weight")),
                learning_rate=phase.learning_rate,
            )


def train(
    examples_uri: str,
    features: Mapping[str, Any],
    config: ModelConfig,
    training: TrainingConfig,
    folders: RunFolders,
    seed: int,
    *,
    hardware: Hardware | None = None,
) -> Trained:
    """Fit on the train split, watch the eval split, and return the best epoch in float32.

    A fit that was killed goes on from `folders.state` after its last whole epoch.

    Args:
        examples_uri: Folder of the transformed examples.
        features: Content of features.json.
        config: The `model` section.
        training: The `training` section.
        folders: Where the fit writes.
        seed: Of weights, order, dropout, samples and augmentation.
        hardware: What `prepare` found, if it was called before.

    Raises:
        ConfigError: If `training` does not suit the task or the features.
        HeadraceError: If the loss did not stay finite, or no epoch reached a finite monitored metric.
    """
    hardware = hardware or prepare(training)
    sources = []
    for split in ("train", "eval"):
        files = split_files(examples_uri, split)
        sources.append((read_rows(files, features) if training.cache else None) or files)
    return train_on(sources[0], sources[1], features, config, training, folders, seed, hardware=hardware)


def train_on(
    train_source: Source,
    eval_source: Source,
    features: Mapping[str, Any],
    config: ModelConfig,
    training: TrainingConfig,
    folders: RunFolders,
    seed: int,
    *,
    hardware: Hardware | None = None,
    explain: bool = True,
) -> Trained:
    """Fit on rows or files that are at hand; `train` says the rest.

    Without `explain`, a fit that diverges is not done again to find where it began.
    """
    task: Task = features["label"]["task"]
    check_training(training, task)
    monitor_name = "auto" if training.early_stopping is None else training.early_stopping.monitor
    hardware = hardware or prepare(training)
    job = _Job(
        features,
        config,
        training,
        output_of(dict(features), _target(train_source, features, training)),
        resolve_monitor(monitor_name, task),
        hardware,
        train_source,
        eval_source,
        seed,
        phases(config),
        explain,
    )
    folders = hardware.own_folders(folders)
    folders.state.mkdir(parents=True, exist_ok=True)
    if not training.backup:
        shutil.rmtree(folders.state)
        folders.state.mkdir()
    keras.utils.set_random_seed(seed)
    rates = _find_rate(job) if training.lr_finder else None
    with hardware.scope():
        whole = build_model(features, config, job.output, seed=seed, precision=hardware.precision)
    models = training_parts(whole, config)
    fitted: list[Part] = []
    for number, model in enumerate(models):
        several = len(models) > 1
        own = folders.of_part(number) if several else folders
        part, steps = _fit_part(job, model, own, number, len(models))
        fitted.append(part)
    final = build_model(features, config, job.output, seed=seed, pretrained=False)
    for number, model in enumerate(training_parts(final, config)):
        own = folders.of_part(number) if len(models) > 1 else folders
        model.load_weights(str(own.best_weights))
    found = Trained(final, fitted, job.monitor, job.limit, steps, hardware, job.output, rates)
    write_csv(folders.csv, found.epochs)
    return found


def _target(source: Source, features: Mapping[str, Any], training: TrainingConfig) -> TargetScale | None:
    if features["label"]["task"] != "regression":
        return None
    return fit_target(training.target, label_parts(source, features))


def _find_rate(job: _Job) -> dict[str, Any]:
    """Sweep learning rates on a model of its own."""
    emit("phase", text="looking for a learning rate")
    plain = job.training.model_copy(
        update={"schedule": None, "reduce_on_plateau": None, "ema_momentum": None, "accumulate_steps": 1}
    )
    model = job.build(0)
    job.compile(model, job.phases[0], plain)
    found = find_learning_rate(model, _train_batches(job, job.seed))
    keras.utils.set_random_seed(job.seed)
    return found


def _train_batches(job: _Job, seed: int) -> Batches:
    weights = class_weights_of(job.train, job.features, job.training)
    return batches(job.train, job.features, job.training, shuffle_seed=seed, class_weights=weights)


def _fit_part(job: _Job, model: Any, folders: RunFolders, number: int, parts: int) -> tuple[Part, int | None]:
    """Fit one part through all phases; the best epoch is in `folders.best_weights`."""
    seed = job.seed + number
    keras.utils.set_random_seed(seed)
    folders.state.mkdir(parents=True, exist_ok=True)
    eval_batches = batches(job.evaluation, job.features, job.training)
    first_state = random_state(model)
    steps = None
    log = EpochLog(folders.epochs, job.monitor)
    watched: list[dict[str, Any]] = []
    for place, phase in enumerate(job.phases):
        marks = ({"part": number} if parts > 1 else {}) | (
            {"phase": phase.name} if len(job.phases) > 1 else {}
        )
        earlier = {one.name for one in job.phases[:place]}
        before = sum(entry.get("phase") in earlier for entry in log.epochs)
        own = folders.of_phase(phase.name) if len(job.phases) > 1 else folders
        if place > 0 and folders.best_weights.exists():
            model.load_weights(str(folders.best_weights))
        # Each phase begins its own order and chances: one that is resumed need not know those before it.
        train_batches = _train_batches(job, seed + place * _PHASES_APART)
        steps = train_batches.steps
        set_random_state(model, first_state)
        job.compile(model, phase)
        watched = _fit_phase(
            job,
            model,
            (train_batches, eval_batches),
            own,
            log,
            _Stretch(phase, before, marks, number, parts, sum(map(job.length, job.phases[:place]))),
        )
    return _part(job, log, folders, watched), steps


def _probe(evaluation: Batches, features: Mapping[str, Any]) -> Any:
    """Return the first rows of the eval split as a batch, or None where it is empty."""
    first = next(iter(evaluation.dataset), None)
    return None if first is None else tf.nest.map_structure(lambda part: part[: probe_rows(features)], first)


@dataclass(frozen=True)
class _Stretch:
    """One phase of one part."""

    phase: Phase
    before: int
    marks: Mapping[str, Any]
    part: int
    parts: int
    skipped: int

    @property
    def label(self) -> str:
        """Part and phase, where there are several."""
        texts = [f"part {self.part + 1}/{self.parts}" if self.parts > 1 else "", self.marks.get("phase", "")]
        return " ".join(text for text in texts if text)


def _fit_phase(
    job: _Job,
    model: Any,
    data: tuple[Batches, Batches],
    folders: RunFolders,
    log: EpochLog,
    stretch: _Stretch,
) -> list[dict[str, Any]]:
    """Fit a compiled model, unless an earlier try has done so; return what was monitored so far."""
    train_batches, eval_batches = data
    training, limit = job.training, job.length(stretch.phase)
    name = stretch.marks.get("phase")
    done = [entry for entry in log.epochs if entry.get("phase") == name]
    if done and done[-1]["logs"]["loss"] is None:  # in an earlier try, which left its backup
        raise diverged()
    watch = Monitoring(folders.monitoring, _probe(eval_batches, job.features), stretch.before, stretch.marks)
    if len(done) >= limit or _stopped_early(done, job.monitor, training.early_stopping):
        return watch.entries
    log.start(stretch.before, stretch.marks)
    progress = Progress(
        stretch.parts * job.limit,
        train_batches.steps,
        functools.partial(emit, "epoch"),
        before=stretch.part * job.limit + stretch.skipped,
        label=stretch.label,
    )
    extra = [watch] if training.monitoring else []
    callbacks = make_callbacks(training, job.monitor, folders, log, progress, train_batches.dataset, extra)
    try:
        fit_model(model, train_batches, eval_batches, limit, callbacks)
    except Diverged as error:
        if job.hardware.strategy is not None or not job.explain:
            raise

        def restart() -> None:
            if folders.best_weights.exists():
                model.load_weights(str(folders.best_weights))
            else:
                model.set_weights(job.build(stretch.part).get_weights())
            job.compile(model, stretch.phase)

        raise diverged(diagnose(model, restart, train_batches)) from error
    return watch.entries


def _part(job: _Job, log: EpochLog, folders: RunFolders, watched: list[dict[str, Any]]) -> Part:
    best = log.best
    if best is None or not folders.best_weights.exists():
        raise HeadraceError(
            f"training must reach a finite {job.monitor[0]}. Received: none in {len(log.epochs)} epochs",
            "lower `training.learning_rate`, or check that the eval split holds every class",
        )
    return Part(log.epochs, int(best["epoch"]), float(best["logs"][job.monitor[0]]), watched)


def _stopped_early(epochs: list[dict[str, Any]], monitor: Monitor, stopping: EarlyStopping | None) -> bool:
    """Return whether early stopping ended an earlier try: Keras keeps no account of it in the backup."""
    if stopping is None:
        return False
    sign = 1 if monitor[1] == "min" else -1
    best, wait = float("inf"), 0
    for place, entry in enumerate(epochs):
        value = entry["logs"].get(monitor[0])
        wait += 1
        if value is not None and sign * value + stopping.min_delta < best:
            best, wait = sign * value, 0
        elif wait >= stopping.patience and place > 0:
            return True
    return False
