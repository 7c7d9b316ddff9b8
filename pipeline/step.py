"""A node of a run in a process of its own, as on a cluster.

What it did is recorded, so that any later process can conclude the run from the records.
"""

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.data.errors import ConfigError, EnvironmentProblem, HeadraceError

from .check import check
from .config import RunConfig
from .graph import GRAPH, Node
from .launch import LaunchResult, launch_measured, stop_on
from .local import NodeOutcome, failure_of
from .runs import RunResult, conclude
from .store import Store, prepare_folder
from .summary import write_atomically
from .teamwork import leading, own_team

__all__ = ["REPORT", "StepEnd", "check_node", "conclude_steps", "run_step"]

REPORT = "report"
"""Id of the step that concludes a run without running a node of it."""

_RECORDS = "steps"
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class StepEnd:
    """How a step ended.

    Attributes:
        result: Result of the node; None where the step only concluded the run.
        run: The concluded run; None where it goes on.
    """

    result: LaunchResult | None
    run: RunResult | None = None

    @property
    def error(self) -> HeadraceError | None:
        """What made the node fail."""
        if self.result is None or self.result.state != "failed":
            return None
        return failure_of(self.result)


def check_node(node_id: str) -> None:
    """Raise ConfigError unless `node_id` is a node of the graph or `REPORT`."""
    ids = [node.id for node in GRAPH]
    if node_id not in (*ids, REPORT):
        raise ConfigError(f"node must be one of {', '.join(ids)}, or {REPORT}. Received: {node_id}")


def run_step(
    config: RunConfig, node_id: str, run_id: str, *, cache: bool = True, concludes: bool = True
) -> StepEnd:
    """Run one node of a run, or conclude it.

    Args:
        config: The run config, its paths absolute.
        node_id: A node of the graph, or `REPORT`.
        run_id: Id of the run; the same for all its steps.
        cache: Whether an earlier result with the same key may be taken.
        concludes: Whether the last node, and one that fails, write summary and report.

    Raises:
        ConfigError: If there is no such node; in the first node also if files or columns are wrong.
        EnvironmentProblem: If an output folder cannot be written.
    """
    check_node(node_id)
    prepare_folder(config.output.runs, "output.runs")
    prepare_folder(config.output.push, "output.push")
    _record_request(config, run_id)
    if node_id == REPORT:
        return StepEnd(None, conclude_steps(config, run_id))
    with leading(own_team(config, node_id, run_id)) as end:
        result = _run_recorded(config, node_id, run_id, cache)
        end(result.state)
    ended = concludes and (result.state == "failed" or node_id == GRAPH[-1].id)
    return StepEnd(result, conclude_steps(config, run_id) if ended else None)


def conclude_steps(config: RunConfig, run_id: str) -> RunResult:
    """Write summary and report of a run from the records of its steps."""
    folder = Store.of(config).run_dir(run_id)
    records = {node.id: _read_record(folder, node.id) for node in GRAPH}
    begin = min((record["started"] for record in records.values() if record), default=0.0)
    outcomes: list[NodeOutcome] = []
    failure: HeadraceError | None = None
    for node in GRAPH:
        result, start = _result(records[node.id], node)
        if result.state == "failed" and failure is None:
            failure = failure_of(result)
        outcomes.append(NodeOutcome(node, result, None if start is None else start - begin))
    missing = [outcome.node.id for outcome in outcomes if outcome.result.state == "skipped"]
    if failure is None and missing:
        failure = EnvironmentProblem(
            f"every node must have been run. Received: none of {', '.join(missing)}",
            "the platform says why their steps did not start",
        )
    command = f"headrace run {folder / 'config.yaml'}"
    return conclude(config, run_id, folder, outcomes, failure, command)


def _run_recorded(config: RunConfig, node_id: str, run_id: str, cache: bool) -> LaunchResult:
    folder, started = Store.of(config).run_dir(run_id), time.time()
    _write_record(folder, node_id, started, None)
    try:
        if node_id == GRAPH[0].id:
            check(config)
    except HeadraceError as error:
        result = LaunchResult("failed", error=error.message, hint=error.hint, exit_code=error.exit_code)
    else:
        stop_on(*_STOPPING)
        result = launch_measured(config, node_id, run_id, cache)
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
    _write_record(folder, node_id, started, result)
    return result


def _record_request(config: RunConfig, run_id: str) -> None:
    """Let `headrace report`, `why` and `resume` find the run."""
    folder = Store.of(config).run_dir(run_id)
    request, copy = folder / "request.json", folder / "config.yaml"
    if request.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    plain = config.model_dump(mode="json")
    write_atomically(copy, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    found = {"config_path": str(copy), "overrides": [], "run_id": run_id}
    write_atomically(request, json.dumps(found, indent=1))


def _write_record(folder: Path, node_id: str, started: float, result: LaunchResult | None) -> None:
    path = folder / _RECORDS / f"{node_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"started": started, "result": None if result is None else asdict(result), "process": os.getpid()}
    write_atomically(path, json.dumps(body, indent=1))


def _read_record(folder: Path, node_id: str) -> dict[str, Any] | None:
    try:
        text = (folder / _RECORDS / f"{node_id}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def _result(record: dict[str, Any] | None, node: Node) -> tuple[LaunchResult, float | None]:
    """Return the recorded result; of a step that began and never ended, a failure."""
    if record is None:
        return LaunchResult("skipped"), None
    if record["result"] is None:
        died = LaunchResult(
            "failed",
            error=f"the step of node {node.id} died before it could say why",
            hint="its log and the platform's events say more; often it was out of memory",
            exit_code=EnvironmentProblem.exit_code,
        )
        return died, record["started"]
    return LaunchResult(**record["result"]), record["started"]
