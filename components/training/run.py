"""The trainer node: fit the model with the tuned settings, keep the best epoch, export it in float32."""

import functools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.models.config import ModelConfig
from headrace.components.models.output import Output, output_of
from headrace.components.models.registry import build_model, parse_model_config
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.errors import HeadraceError

from .callbacks import EpochLog, Progress, RunFolders, make_callbacks
from .config import EarlyStopping, TrainingConfig
from .export import content_sha256, export_model, verify_exports
from .fit import compile_model, diverged, fit_model
from .hardware import Hardware, prepare
from .input import Batches, batches, class_weight_table, label_counts, read_rows, split_files
from .settings import Monitor, apply_values, resolve_monitor

__all__ = ["Trained", "run", "train"]


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: Float32 Keras model with the weights of the best epoch, free of any strategy.
        epochs: `{epoch, seconds, logs}`, first to last.
        best_epoch: Counted from 1.
        monitor: Log name and direction that chose it.
        steps: Steps of an epoch.
        hardware: Where it ran.
    """

    model: Any
    epochs: list[dict[str, Any]]
    best_epoch: int
    monitor: Monitor
    steps: int | None
    hardware: Hardware


def run(ctx: NodeContext) -> NodeResult:
    """Train with the tuned values and write the model and model_run artifacts."""
    graph_uri, model_uri, run_uri = (
        ctx.input("transform_graph"),
        ctx.outputs["model"],
        ctx.outputs["model_run"],
    )
    tuned = _read_json(os.path.join(ctx.input("best_hyperparameters"), "best.json"))["values"]
    sections = apply_values({"model": ctx.config["model"], "training": ctx.config["training"]}, tuned)
    config = parse_model_config(sections["model"])
    training = TrainingConfig.model_validate(sections["training"])
    transform = FittedTransform(graph_uri)
    features = transform.features
    output = output_of(features)
    seed = int(ctx.config["seed"])

    folders = RunFolders(
        Path(ctx.temp_dir) / "state", Path(run_uri) / "logs", Path(ctx.temp_dir) / "history.csv"
    )
    trained = train(ctx.input("transformed_examples"), features, config, training, folders, seed)
    emit("phase", text="exporting")
    export_model(trained.model, transform, output, model_uri)
    verify_exports(trained.model, transform, output, model_uri, graph_uri)
    spec = {
        "model": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "features": features,
    }
    _write_json(os.path.join(model_uri, "keras", "model.json"), spec)
    weights = trained.model.get_weights()
    summary = {
        "parameters": sum(weight.size for weight in weights),
        "parameter_bytes": sum(weight.nbytes for weight in weights),
        "family": config.family,
        "hyperparameters": tuned,
        "epochs_run": len(trained.epochs),
        "best_epoch": trained.best_epoch,
        "sha256": content_sha256(trained.model, graph_uri, {"model": spec["model"], "features": features}),
    }
    _write_json(os.path.join(model_uri, "model.json"), summary)
    _write_history(trained, folders, run_uri)
    return NodeResult(
        _finding(trained, summary["parameters"]),
        {"model": {"sha256": summary["sha256"], "parameters": summary["parameters"]}},
    )


def train(
    examples_uri: str,
    features: Mapping[str, Any],
    config: ModelConfig,
    training: TrainingConfig,
    folders: RunFolders,
    seed: int,
) -> Trained:
    """Fit on the train split, watch the eval split, and return the best epoch in float32.

    A fit that was killed goes on from `folders.state` after its last whole epoch.

    Args:
        examples_uri: Folder of the transformed examples.
        features: Content of features.json.
        config: The `model` section.
        training: The `training` section.
        folders: Where the fit writes.
        seed: Of weights, order and dropout.
    """
    output = output_of(dict(features))
    monitor_name = "auto" if training.early_stopping is None else training.early_stopping.monitor
    monitor = resolve_monitor(monitor_name, output.task)
    keras.utils.set_random_seed(seed)
    hardware = prepare(training)
    train_batches, eval_batches = _read(examples_uri, features, training, output, seed)
    folders.state.mkdir(parents=True, exist_ok=True)
    if not training.backup:
        shutil.rmtree(folders.state)
        folders.state.mkdir()
    log = EpochLog(folders.state / "epochs.jsonl", monitor)
    progress = Progress(training.epochs, train_batches.steps, functools.partial(emit, "epoch"))
    with hardware.scope():
        model = build_model(features, config, output, seed=seed, precision=hardware.precision)
        compile_model(
            model, training, output, precision=hardware.precision, weighted=bool(features.get("weight"))
        )
    if not _stopped_early(log.epochs, monitor, training.early_stopping):
        fit_model(
            model,
            train_batches,
            eval_batches,
            training.epochs,
            make_callbacks(training, monitor, folders, log, progress, train_batches.dataset),
        )
    if log.epochs and log.epochs[-1]["logs"]["loss"] is None:  # in an earlier try, which left its backup
        raise diverged()
    best = log.best
    if best is None or not folders.best_weights.exists():
        raise HeadraceError(
            f"training must reach a finite {monitor[0]}. Received: none in {len(log.epochs)} epochs",
            "lower `training.learning_rate`, or check that the eval split holds every class",
        )
    final = build_model(features, config, output, seed=seed)
    final.load_weights(str(folders.best_weights))
    return Trained(final, log.epochs, int(best["epoch"]), monitor, train_batches.steps, hardware)


def _stopped_early(epochs: list[dict[str, Any]], monitor: Monitor, stopping: EarlyStopping | None) -> bool:
    """Return whether early stopping ended an earlier try: Keras keeps no account of it in the backup."""
    if stopping is None:
        return False
    sign = 1 if monitor[1] == "min" else -1
    best, wait = float("inf"), 0
    for entry in epochs:
        value = entry["logs"].get(monitor[0])
        wait += 1
        if value is not None and sign * value + stopping.min_delta < best:
            best, wait = sign * value, 0
        elif wait >= stopping.patience and entry["epoch"] > 1:
            return True
    return False


def _read(
    examples_uri: str, features: Mapping[str, Any], training: TrainingConfig, output: Output, seed: int
) -> tuple[Batches, Batches]:
    """Return the batches of the train and eval splits, from memory where they fit."""
    train_files, eval_files = (split_files(examples_uri, split) for split in ("train", "eval"))
    train_source = (read_rows(train_files, features) if training.cache else None) or train_files
    eval_source = (read_rows(eval_files, features) if training.cache else None) or eval_files
    counts = (
        label_counts(train_source, features)
        if training.class_weights == "balanced" and output.classes
        else None
    )
    weights = class_weight_table(training.class_weights, output.classes, counts)
    return (
        batches(train_source, features, training, shuffle_seed=seed, class_weights=weights),
        batches(eval_source, features, training),
    )


def _write_history(trained: Trained, folders: RunFolders, run_uri: str) -> None:
    history = {
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "monitor": trained.monitor[0],
        "steps_per_epoch": trained.steps,
        "device": trained.hardware.device,
        "strategy": trained.hardware.strategy_name,
        "precision": trained.hardware.precision,
    }
    _write_json(os.path.join(run_uri, "history.json"), history)
    tf.io.gfile.copy(str(folders.csv), os.path.join(run_uri, "history.csv"), overwrite=True)


def _finding(trained: Trained, parameters: int) -> str:
    best = trained.epochs[trained.best_epoch - 1]
    value = best["logs"][trained.monitor[0]]
    return (
        f"{trained.monitor[0]} {value:.4f} at epoch {trained.best_epoch} of {len(trained.epochs)}, "
        f"{parameters:,} parameters"
    )


def _read_json(path: str) -> Any:
    with tf.io.gfile.GFile(path) as stream:
        return json.load(stream)


def _write_json(path: str, value: Any) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as stream:
        json.dump(value, stream, indent=1, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a JSON value must be plain. Received: {type(value).__name__}")
