"""The crossval node: transform, train and judge fold by fold, with the tuned settings."""

import dataclasses
import json
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from headrace.components.evaluation.config import EvaluationConfig
from headrace.components.evaluation.judge import Judge
from headrace.components.evaluation.rows import read_rows
from headrace.components.evaluation.thresholds import (
    chosen_on_eval,
    cost_matrix,
    label_thresholds,
    threshold,
)
from headrace.components.features.run import run as run_transform
from headrace.components.models.config import ModelConfig
from headrace.components.models.registry import parse_model_config
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.fit import Diverged
from headrace.components.training.input import batches, split_files
from headrace.components.training.settings import apply_values
from headrace.components.training.signatures import answers
from headrace.components.training.train import Trained, train
from headrace.data.config import DataConfig
from headrace.data.errors import DataRejected, HeadraceError

from .config import CrossValidationConfig
from .folds import Fold, make_folds
from .rows import Source, fold_keys, read_source, write_fold

__all__ = ["run", "spread"]

_FILE = "crossval.json"
_MAIN = ("auc", "macro_f1", "f1", "accuracy", "rmse")


def run(ctx: NodeContext) -> NodeResult:
    """Cross-validate and write crossval.json; see docs/artifacts.md.

    Raises:
        HeadraceError: If every fold failed.
    """
    config = CrossValidationConfig.model_validate(ctx.config["cross_validation"])
    out = os.path.join(ctx.outputs["cross_validation"], _FILE)
    if not config.enabled:
        _write(out, {"method": None, "folds": [], "metrics": {}})
        return NodeResult("off")
    data = DataConfig.model_validate(ctx.config["data"])
    source = read_source(ctx.input("examples"), config, data)
    seed = int(ctx.config["seed"])
    folds = make_folds(config, fold_keys(source, config, data), seed)
    done = Path(ctx.temp_dir) / "done"
    done.mkdir(parents=True, exist_ok=True)
    trainer = _Folds(ctx, config, data, source)
    entries: list[dict[str, Any]] = []
    for number, fold in enumerate(folds):
        entry = _resumable(done / f"{number}.json", partial(trainer.judge, fold, seed + number))
        entries.append(entry)
        text = f"{_place(entry, config)}  {_told(entry)}"
        emit("fold", done=number + 1, total=len(folds), **entry, text=text)
    document = {"method": config.method, "folds": entries, "metrics": spread(entries)}
    if not document["metrics"]:
        raise HeadraceError(
            f"at least one fold must be trained. Received: none of {len(entries)}; {entries[0]['failed']}",
            "the same settings may fail in the training too; look at `training.learning_rate`",
        )
    _write(out, document)
    return NodeResult(_finding(document))


def spread(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return metric -> `{mean, std, min, max}` over the folds that have it.

    `std` is the sample standard deviation (n - 1), None for a single value.
    """
    judged = [entry["metrics"] for entry in entries if "metrics" in entry]
    names = list(dict.fromkeys(name for metrics in judged for name in metrics if name != "example_count"))
    found: dict[str, dict[str, float | None]] = {}
    for name in names:
        values = [metrics[name] for metrics in judged if metrics.get(name) is not None]
        if values:
            found[name] = {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
            }
    return found


class _Folds:
    """Trains and judges folds, each in a scratch folder that it leaves empty."""

    def __init__(
        self, ctx: NodeContext, config: CrossValidationConfig, data: DataConfig, source: Source
    ) -> None:
        with tf.io.gfile.GFile(os.path.join(ctx.input("best_hyperparameters"), "best.json")) as stream:
            tuned = json.load(stream)["values"]
        sections = apply_values({"model": ctx.config["model"], "training": ctx.config["training"]}, tuned)
        self._ctx, self._config, self._data, self._source = ctx, config, data, source
        parts = {name: ctx.config[f"evaluation.{name}"] for name in ("threshold", "costs")}
        self._evaluation = EvaluationConfig.model_validate(parts)
        self._model: ModelConfig = parse_model_config(sections["model"])
        training = TrainingConfig.model_validate(sections["training"])
        # A fold that was cut short starts anew, so nothing of it is kept.
        changes: dict[str, Any] = {
            "backup": False, "tensorboard": False, "tensorboard_histograms": False,
            "monitoring": False, "lr_finder": False,
        }  # fmt: skip
        if config.epochs is not None:
            changes["epochs"] = config.epochs
        self._training = training.model_copy(update=changes)

    def judge(self, fold: Fold, seed: int) -> dict[str, Any]:
        """Return the fold's entry of crossval.json; a training that fails becomes its reason."""
        started = time.monotonic()
        entry: dict[str, Any] = {
            "repeat": fold.repeat,
            "fold": fold.fold,
            "rows": {"train": len(fold.train), "eval": len(fold.eval), "held_out": len(fold.held_out)},
        }
        folder = Path(self._ctx.temp_dir) / "fold"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            entry |= self._judge(fold, folder, seed)
        except HeadraceError as error:
            # Rules that these rows break end this fold alone; a signal to stop is an error of its own kind.
            if type(error) not in (HeadraceError, Diverged, DataRejected):
                raise
            entry["failed"] = error.message
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return entry | {"seconds": round(time.monotonic() - started, 3)}

    def _judge(self, fold: Fold, folder: Path, seed: int) -> dict[str, Any]:
        examples, graph, transformed = folder / "examples", folder / "graph", folder / "transformed"
        write_fold(self._source, fold, examples, self._data.shards, seed)
        for made in (graph, transformed, folder / "temp"):
            made.mkdir()
        run_transform(
            dataclasses.replace(
                self._ctx,
                inputs={"examples": [str(examples)], "schema": []},
                outputs={"transform_graph": str(graph), "transformed_examples": str(transformed)},
                temp_dir=str(folder / "temp"),
            )
        )
        features = json.loads((graph / "headrace" / "features.json").read_text(encoding="utf-8"))
        keras.backend.clear_session(free_memory=False)
        folders = RunFolders(folder / "state", folder / "logs", folder / "history.csv")
        trained = train(str(transformed), features, self._model, self._training, folders, seed)
        judged = {
            split: _predict(trained, str(transformed), split, features, self._training)
            for split in ("test", *(("eval",) if self._threshold_is_chosen else ()))
        }
        return {"best_epoch": trained.best_epoch, "metrics": self._metrics(str(examples), judged)}

    @property
    def _threshold_is_chosen(self) -> bool:
        return chosen_on_eval(self._evaluation) and self._data.task in ("binary", "multilabel")

    def _metrics(self, examples: str, predictions: Mapping[str, np.ndarray]) -> dict[str, float | None]:
        """Judge as the evaluation node does; a threshold is chosen on the rows that chose the epoch."""
        task, ingest = self._data.task, self._source.ingest
        rows = read_rows(examples, "test", ingest, self._data, [])
        classes = tuple(str(name) for name in ingest["label"]["classes"] or ())
        costs = cost_matrix(self._evaluation.costs, classes)
        fixed = self._evaluation.threshold
        single = fixed if task == "binary" and not isinstance(fixed, str) else None
        several = (fixed,) * len(classes) if task == "multilabel" and not isinstance(fixed, str) else ()
        if self._threshold_is_chosen:
            seen = read_rows(examples, "eval", ingest, self._data, [])
            if task == "binary":
                single = threshold(self._evaluation, costs, seen.labels, predictions["eval"], _weights(seen))
            else:
                several = label_thresholds(seen.labels, predictions["eval"], _weights(seen))
        judge = Judge(
            task, classes, rows.labels, _weights(rows), (), single, None, len(rows), 0, several, costs
        )
        return {
            name: value if value is None or math.isfinite(value) else None
            for name, value in judge.judge(predictions["test"], None)["metrics"].items()
        }


def _predict(
    trained: Trained, transformed: str, split: str, features: Mapping[str, Any], training: TrainingConfig
) -> np.ndarray:
    """Return what the exported model would answer: float32 `[rows, classes]`, or `[rows]` for regression."""

    @tf.function(reduce_retracing=True)
    def answer(columns: Any) -> Any:
        (found,) = answers(trained.model(columns, training=False), trained.output).values()
        return found

    dataset = batches(split_files(transformed, split), features, training).dataset
    return np.concatenate([answer(batch[0]).numpy() for batch in dataset])


def _weights(rows: Any) -> np.ndarray:
    return np.ones(len(rows)) if rows.weights is None else np.asarray(rows.weights)


def _resumable(path: Path, judge: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier try of this node found, or judge and keep it."""
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    entry = judge()
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(entry, allow_nan=False), encoding="utf-8")
    os.replace(unfinished, path)
    return entry


def _write(path: str, document: Mapping[str, Any]) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as stream:
        json.dump(document, stream, indent=1, allow_nan=False)


def _place(fold: Mapping[str, Any], config: CrossValidationConfig) -> str:
    text = f"fold {fold['fold']}/{config.folds}"
    return text if config.repeats == 1 else f"{text} of repeat {fold['repeat']}/{config.repeats}"


def _told(entry: Mapping[str, Any]) -> str:
    if "failed" in entry:
        return f"failed: {entry['failed']}"
    known = [name for name in _MAIN if entry["metrics"].get(name) is not None]
    return f"{known[0]} {entry['metrics'][known[0]]:.4f}" if known else "judged"


def _finding(document: Mapping[str, Any]) -> str:
    """Say how the main metric varies, and what failed."""
    folds = document["folds"]
    name = next((name for name in _MAIN if name in document["metrics"]), next(iter(document["metrics"])))
    value = document["metrics"][name]
    spread_text = "" if value["std"] is None else f" ± {value['std']:.4f}"
    failed = sum("failed" in fold for fold in folds)
    text = f"{name} {value['mean']:.4f}{spread_text} over {len(folds) - failed} folds"
    return f"{text}, {failed} failed" if failed else text
