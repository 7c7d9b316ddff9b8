"""The trainer node: fit the model with the tuned settings, keep the best epoch, export it in float32."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.independence.mark import mark_rows
from headrace.components.models.check import without_weights
from headrace.components.models.config import ModelConfig, stated_independence
from headrace.components.models.registry import parse_model_config
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.team import Team

from .callbacks import RunFolders
from .config import TrainingConfig
from .curves import curve_hint
from .export import SERVING_FORMAT, content_sha256, export_model, golden_columns, verify_exports
from .hardware import prepare
from .join import explained, gather
from .settings import apply_values
from .target import target_spec
from .train import Trained, train

__all__ = ["Trained", "run", "train"]


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
    team = Team.from_environment()
    watched = gather(team, ctx) if team is not None and team.number == 0 else threading.Event()
    hardware = prepare(training)  # several workers must find each other before anything is computed
    transform = FittedTransform(graph_uri)
    folders = RunFolders(
        Path(ctx.temp_dir) / "state", Path(run_uri) / "logs", Path(ctx.temp_dir) / "history.csv"
    )
    examples, seed = ctx.input("transformed_examples"), int(ctx.config["seed"])
    with explained():
        trained = train(examples, transform.features, config, training, folders, seed, hardware=hardware)
    watched.set()
    if not hardware.is_chief:
        return NodeResult("trained beside the chief, which writes the model")
    emit("phase", text="exporting")
    export_model(trained.model, transform, trained.output, model_uri)
    verify_exports(trained.model, transform, trained.output, model_uri, graph_uri)
    golden = golden_columns(transform, graph_uri)
    text = mark_rows(os.path.join(model_uri, SERVING_FORMAT), *golden, stated_independence(config))
    emit("phase", text=text)
    summary = _write_model(trained, config, training, transform.features, graph_uri, model_uri, tuned)
    _write_history(trained, folders, run_uri)
    return NodeResult(
        _finding(trained, summary["parameters"]),
        {"model": {"sha256": summary["sha256"], "parameters": summary["parameters"]}},
    )


def _write_model(
    trained: Trained,
    config: ModelConfig,
    training: TrainingConfig,
    features: dict[str, Any],
    graph_uri: str,
    model_uri: str,
    tuned: dict[str, Any],
) -> dict[str, Any]:
    """Write what `keras/` needs to build the model again, and `model.json`, which is returned."""
    spec = {
        "model": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "features": features,
        "target": target_spec(trained.output.target),
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
        "sha256": content_sha256(
            trained.model,
            graph_uri,
            {
                "model": without_weights(config).model_dump(mode="json"),
                "features": features,
                "target": spec["target"],
            },
        ),
    }
    _write_json(os.path.join(model_uri, "model.json"), summary)
    return summary


def _write_history(trained: Trained, folders: RunFolders, run_uri: str) -> None:
    history: dict[str, Any] = {
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "monitor": trained.monitor[0],
        "steps_per_epoch": trained.steps,
        "device": trained.hardware.device,
        "strategy": trained.hardware.strategy_name,
        "precision": trained.hardware.precision,
        "hint": curve_hint(trained.best.epochs, trained.monitor, trained.limit),
    }
    if len(trained.parts) > 1:
        history["parts"] = [
            {"part": number, "best_epoch": part.best_epoch, "value": part.value}
            for number, part in enumerate(trained.parts)
        ]
    _write_json(os.path.join(run_uri, "history.json"), history)
    tf.io.gfile.copy(str(folders.csv), os.path.join(run_uri, "history.csv"), overwrite=True)
    watched = [entry for part in trained.parts for entry in part.monitoring]
    if watched:
        _write_json(os.path.join(run_uri, "monitoring.json"), {"epochs": watched})
    if trained.rates is not None:
        _write_json(os.path.join(run_uri, "lr_finder.json"), trained.rates)


def _finding(trained: Trained, parameters: int) -> str:
    best = trained.best
    parts = f", best of {len(trained.parts)} parts" if len(trained.parts) > 1 else ""
    return (
        f"{trained.monitor[0]} {best.value:.4f} at epoch {best.best_epoch} of {len(best.epochs)}{parts}, "
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
