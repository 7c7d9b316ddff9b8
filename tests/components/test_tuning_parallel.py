"""Searches in several processes, over Keras Tuner's own protocol."""

import json
import os
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from keras_tuner.src.distribute.oracle_client import OracleClient

from headrace.components.node import NodeContext
from headrace.components.team import Team
from headrace.components.tuning import run as tuner
from headrace.components.tuning.helpers import assist
from headrace.components.tuning.job import JOB_VARIABLE, Job
from headrace.components.tuning.parallel import search_in_processes
from headrace.components.tuning.search import Score, search
from headrace.components.tuning.trials import Trials
from headrace.data.errors import ConfigError
from tests.components.tabular import features_of, write_examples

pytestmark = pytest.mark.long

SPACE = {
    "model.family": {"choice": ["mlp", "wide_deep"]},
    "model.wide_l2": {"choice": [0.0, 0.01], "when": {"model.family": "wide_deep"}},
    "training.learning_rate": {"float": [1e-3, 0.1], "log": True},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `examples` and `graph`."""
    root = tmp_path_factory.mktemp("inputs")
    write_examples(root / "examples", rows=200, eval_rows=80)
    (root / "graph" / "headrace").mkdir(parents=True)
    (root / "graph" / "headrace" / "features.json").write_text(json.dumps(features_of()))
    return root


def job(
    inputs: Path, folder: Path, search_ranges: dict[str, Any], training: Any = None, **fields: Any
) -> Job:
    tuning = {"enabled": True, "trials": 4, "workers": 2, "search": search_ranges, **fields}
    sections = {"model": {"family": "mlp", "hidden": [4]}, "training": {"batch_size": 64, **(training or {})}}
    objective = ("val_auc", "max")
    return Job(
        str(inputs / "examples"), str(inputs / "graph"), sections, tuning, objective, 3, str(folder), 1
    )


def node(root: Path, work: Job) -> NodeContext:
    (root / "temp").mkdir(parents=True)
    return NodeContext(
        "tuner",
        "run",
        {"transformed_examples": [work.examples], "transform_graph": [work.transform_graph]},
        {"best_hyperparameters": str(root / "best")},
        {"data": {"task": "binary"}, **work.sections, "tuning": work.tuning, "seed": work.seed},
        str(root / "temp"),
    )


@pytest.mark.slow
def test_processes_try_and_find_what_one_does(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
    work = job(inputs, tmp_path / "search", SPACE)
    result = tuner.run(node(tmp_path / "node", work))
    trials = json.loads((tmp_path / "node" / "best" / "trials.json").read_text())
    alone = Trials(work.examples, features_of(), work.sections, work.config, work.objective, work.seed)
    serial = search(work.config, work.objective, alone.evaluate, tmp_path / "serial", work.seed, None)
    # The first is the config's own, which the serial search here was not given.
    by_values = {json.dumps(trial["values"]): trial for trial in serial.trials}
    for trial in trials:
        twin = by_values.get(json.dumps(trial["values"]))
        score = twin["score"] if twin else alone.evaluate(trial["values"], 1).value
        assert trial["score"] == pytest.approx(score, abs=1e-3)
        assert trial["curve"] == [trial["score"]]
        assert ("model.wide_l2" in trial["values"]) == (trial["values"]["model.family"] == "wide_deep")
    assert len({json.dumps(trial["values"]) for trial in trials}) == 4
    best = json.loads((tmp_path / "node" / "best" / "best.json").read_text())
    assert best["score"] == max(trial["score"] for trial in trials)
    assert "best of 4 trials" in result.finding
    told = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [(event["done"], event["total"]) for event in told if event["kind"] == "trial"] == [
        (1, 4), (2, 4), (3, 4), (4, 4),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_trial_that_kills_its_process_is_one_failed_trial(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "deadly.py").write_text(
        "import os, signal\nimport keras\n\n"
        "def calm(labels, outputs):\n"
        "    return keras.losses.binary_crossentropy(labels, outputs, from_logits=True)\n\n"
        "def kill(labels, outputs):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    space = {
        "training.loss.use": {"choice": ["deadly:calm", "deadly:kill"]},
        "model.dropout": {"choice": [0.0, 0.1]},
    }
    loss = {"loss": {"kind": "custom", "use": "deadly:calm"}}
    told: list[tuple[str, int]] = []
    found = search_in_processes(
        job(inputs, tmp_path / "search", space, loss, algorithm="grid", trials=9),
        on_trial=lambda trial, done: told.append((trial["status"], done)),
    )
    failed = [trial for trial in found.trials if trial["values"]["training.loss.use"] == "deadly:kill"]
    assert len(found.trials) == 4
    assert [trial["status"] for trial in failed] == ["failed"] * 2
    assert {trial["reason"] for trial in failed} == {"its process died (SIGKILL, probably out of memory)"}
    assert found.best is not None
    assert found.best["training.loss.use"] == "deadly:calm"
    assert [done for _, done in told] == [1, 2, 3, 4]


@pytest.mark.slow
def test_an_error_that_is_no_trial_s_fault_reaches_the_chief(inputs: Path, tmp_path: Path):
    work = job(inputs, tmp_path / "search", SPACE, {"class_weights": {"maybe": 2.0}})
    with pytest.raises(ConfigError, match=r"classes of the label: no, yes\. Received: maybe"):
        search_in_processes(work)


def test_a_worker_ends_with_its_chief(inputs: Path, tmp_path: Path):
    path = job(inputs, tmp_path / "search", SPACE).write()
    environment = {
        **os.environ,
        JOB_VARIABLE: path,
        "KERASTUNER_TUNER_ID": "worker0",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": "1",  # nobody answers there
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.components.tuning.worker"], env=environment, stdin=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()


def proposed(work: Job, count: int) -> list[dict[str, Any]]:
    """Return the values that a search of one process tries, which nobody scores."""
    found: list[dict[str, Any]] = []

    def note(values: dict[str, Any], epochs: int) -> Score:
        found.append(values)
        return Score(0.5, epochs)

    search(work.config, work.objective, note, Path(work.folder, "alone"), work.seed)
    assert len(found) == count
    return found


def test_machines_of_a_team_share_the_trials(inputs: Path, tmp_path: Path) -> None:
    work = job(inputs, tmp_path / "search", SPACE, workers=1)
    chief, other = Team(tmp_path / "team", 2, 0), Team(tmp_path / "team", 2, 1)
    with futures.ThreadPoolExecutor(1) as pool, chief.alive():
        helped = pool.submit(assist, other)
        found = search_in_processes(work, team=chief)
        chief.end("complete")
        told = helped.result(60)
    # The other one may have been late for the last trial.
    assert told in ("ran trials until there were no more", "nothing to help with: the tuner is complete")
    assert [trial["status"] for trial in found.trials] == ["completed"] * 4
    key = json.dumps
    assert sorted(key(trial["values"]) for trial in found.trials) == sorted(map(key, proposed(work, 4)))
    assert found.score == max(trial["score"] for trial in found.trials)


def test_what_a_lost_machine_had_begun_is_tried_again(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(inputs, tmp_path / "search", SPACE, workers=1, trials=2)
    chief, gone = Team(tmp_path / "team", 2, 0), Team(tmp_path / "team", 2, 1)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "machine1-worker0")
    taken = []
    with futures.ThreadPoolExecutor(1) as pool, chief.alive():
        searched = pool.submit(search_in_processes, work, team=chief)
        with gone.alive():
            while (call := gone.called()) is None:
                time.sleep(0.01)
            monkeypatch.setenv("KERASTUNER_ORACLE_IP", call["host"])
            monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(call["port"]))
            # The chief's own worker is still importing TensorFlow, so the first trial is this one's.
            taken.append(OracleClient(None).create_trial("machine1-worker0").trial_id)
        found = searched.result(60)
    assert found.trials[0]["trial"] == taken[0]
    assert [trial["status"] for trial in found.trials] == ["completed"] * 2
