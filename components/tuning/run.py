"""The tuner node: search hyperparameters on a sample of the training split."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf

from headrace.components.models.registry import parse_model_config
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.team import Team
from headrace.components.training.config import TrainingConfig
from headrace.components.training.settings import Monitor
from headrace.data.errors import HeadraceError

from .config import TuningConfig
from .job import Job
from .parallel import search_in_processes
from .search import OnTrial, Search, search
from .space import check_search, own_values, resolve_objective
from .trials import Trials

__all__ = ["run"]


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
    found = _search(ctx, tuning, objective, sections, _TrialProgress(tuning, objective[0]).report)
    if found.best is None:
        raise HeadraceError(
            f"at least one trial must reach a finite {objective[0]}. Received: none in {len(found.trials)}"
            + (f"; {found.trials[-1]['reason']}" if found.trials and found.trials[-1]["reason"] else ""),
            "narrow `tuning.search`, for instance to lower learning rates",
        )
    _write(out, found, objective[0])
    failed = sum(trial["status"] != "completed" for trial in found.trials)
    return NodeResult(
        f"{objective[0]} {found.score:.4f}, best of {len(found.trials)} trials"
        f"{f' ({failed} failed)' if failed else ''}: {_values_text(found.best)}"
    )


def _search(
    ctx: NodeContext, tuning: TuningConfig, objective: Monitor, sections: dict[str, Any], on_trial: OnTrial
) -> Search:
    """Search in this process, or in several of this machine and of those that share the work."""
    seed, folder = int(ctx.config["seed"]), Path(ctx.temp_dir) / "search"
    examples, graph = ctx.input("transformed_examples"), ctx.input("transform_graph")
    first = own_values(tuning.search, sections)
    team = Team.from_environment()
    if tuning.workers > 1 or team is not None:
        threads = max(1, len(os.sched_getaffinity(0)) // tuning.workers) if tuning.workers > 1 else 0
        job = Job(examples, graph, sections, ctx.config["tuning"], objective, seed, str(folder), threads)
        return search_in_processes(job, first, on_trial, team)
    trials = Trials(examples, _read_features(graph), sections, tuning, objective, seed)
    return search(tuning, objective, trials.evaluate, folder, seed, first, on_trial)


class _TrialProgress:
    """Sends a `trial` event with score and time left after each trial."""

    def __init__(self, tuning: TuningConfig, objective: str) -> None:
        self._tuning, self._objective = tuning, objective
        self._started = time.monotonic()
        self._seen = 0

    def report(self, trial: dict[str, Any], done: int) -> None:
        """Send the event.

        Args:
            trial: An entry of trials.json.
            done: Trials that have ended, in earlier tries of this search too.
        """
        self._seen += 1
        elapsed = time.monotonic() - self._started
        eta = max(self._tuning.trials - done, 0) * elapsed / self._seen
        if self._tuning.minutes is not None:
            eta = min(eta, max(60 * self._tuning.minutes - elapsed, 0))
        score = "failed" if trial["score"] is None else f"{self._objective} {trial['score']:.4f}"
        text = (
            f"trial {done}/{self._tuning.trials}  {score}  {_values_text(trial['values'])}  {eta:.0f} s left"
        )
        told = {name: trial[name] for name in ("values", "score", "seconds", "status")}
        emit("trial", done=done, total=self._tuning.trials, eta_s=round(eta, 1), **told, text=text)


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{field.rpartition('.')[2]} {value:.3g}"
        if isinstance(value, float)
        else f"{field.rpartition('.')[2]} {value}"
        for field, value in values.items()
    )


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
