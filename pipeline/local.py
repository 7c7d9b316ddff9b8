"""Schedule the nodes of a run on this machine: one child process a node, in the graph's order."""

import json
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from headrace.data.errors import HeadraceError, Interrupted, error_for_code

from .children import forkserver, start
from .config import RunConfig
from .graph import GRAPH, Node
from .interrupts import Interrupts
from .launch import STOP_TRIES, STOP_TRY_S, LaunchResult, discard_in_child, run_in_child
from .outcome import shown_path
from .store import Store

__all__ = ["NodeOutcome", "Reporter", "failure_of", "go_on", "run_nodes"]

_POLL_S = 0.05
_DISCARD_S = 60.0


@dataclass(frozen=True)
class NodeOutcome:
    """A node and how its launch ended.

    Attributes:
        node: The node.
        result: Its result; state "skipped" where it was not reached.
        start_s: When it started, in seconds from the run's start; None where it did not.
    """

    node: Node
    result: LaunchResult
    start_s: float | None = None


class Reporter(Protocol):
    """Whoever shows progress."""

    def start(self, node: Node) -> None:
        """A node starts."""

    def event(self, node: Node, event: dict[str, Any]) -> None:
        """The running node emitted an event."""

    def finish(self, node: Node, result: LaunchResult) -> None:
        """A node ended."""


def run_nodes(
    config: RunConfig, run_id: str, reporter: Reporter, interrupts: Interrupts, cache: bool = True
) -> tuple[list[NodeOutcome], HeadraceError | None]:
    """Run every node until one fails.

    Args:
        config: The run config; `output.runs` must exist.
        run_id: Id of the run. One that ran before goes on where it stopped.
        reporter: Told about progress.
        interrupts: Whether somebody wants the run to stop.
        cache: Whether earlier results with the same key may be taken.

    Returns:
        One outcome a node in the graph's order, and the error that stopped the run, if any.
    """
    logs = Store.of(config).run_dir(run_id) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    context = forkserver(logs / "forkserver.log")
    config_json = config.model_dump_json()
    outcomes: list[NodeOutcome] = []
    failure: HeadraceError | None = None
    begin = time.monotonic()
    for node in GRAPH:
        if failure is None and interrupts:
            failure = Interrupted(f"interrupted before {node.id}", go_on(config, run_id))
        if failure is not None:
            outcomes.append(NodeOutcome(node, LaunchResult("skipped")))
            continue
        start_s = time.monotonic() - begin
        reporter.start(node)
        arguments = (config_json, node.id, run_id, cache)
        result = _run_child(context, arguments, node, logs, interrupts, partial(reporter.event, node))
        if interrupts and result.state == "failed":
            stopped = f"interrupted in {node.id}"
            result = replace(
                result, exit_code=Interrupted.exit_code, error=stopped, hint=go_on(config, run_id)
            )
        reporter.finish(node, result)
        outcomes.append(NodeOutcome(node, result, start_s))
        if result.state == "failed":
            failure = failure_of(result)
    return outcomes, failure


def failure_of(result: LaunchResult) -> HeadraceError:
    """Return the error that a failed result tells of."""
    return error_for_code(result.exit_code, result.error, result.hint)


def go_on(config: RunConfig, run_id: str) -> str:
    """Return the command that goes on with a run."""
    runs = shown_path(config.output.runs)
    elsewhere = "" if runs == "runs" else f" --runs {shlex.quote(runs)}"
    return f"to go on: headrace resume {run_id}{elsewhere}"


def _run_child(
    context: Any,
    arguments: tuple[Any, ...],
    node: Node,
    logs: Path,
    interrupts: Interrupts,
    on_event: Callable[[dict[str, Any]], None],
) -> LaunchResult:
    result_path, events_path = logs / f"{node.id}.result.json", logs / f"{node.id}.events.jsonl"
    for path in (result_path, events_path):
        path.unlink(missing_ok=True)
    log_path = logs / f"{node.id}.log"
    started = time.monotonic()
    process = context.Process(
        target=run_in_child,
        args=(*arguments, str(result_path), str(log_path), str(events_path)),
        name=f"headrace-{node.id}",
    )
    try:
        start(process)
    except (EOFError, OSError):
        result = _noforkserver(logs)
    else:
        _follow(process, _Tail(events_path), interrupts, on_event)
        result = _read_result(result_path, process.exitcode, node, log_path)
        if process.exitcode != 0:
            _discard(context, arguments, log_path)
    for path in (result_path, events_path):
        path.unlink(missing_ok=True)
    return result if result.wall_s else replace(result, wall_s=time.monotonic() - started)


def _follow(
    process: Any, tail: "_Tail", interrupts: Interrupts, on_event: Callable[[dict[str, Any]], None]
) -> None:
    """Pass on what a child tells until it has ended, or has been made to."""
    while process.is_alive() and not interrupts:
        for event in tail.read():
            on_event(event)
        process.join(_POLL_S)
    if process.is_alive():
        _stop(process, interrupts)
    for event in tail.read():
        on_event(event)


def _stop(process: Any, interrupts: Interrupts) -> None:
    """Ask the child to stop, then make it; at once on a second Ctrl-C."""
    counted, started = interrupts.count, time.monotonic()
    for number in range(STOP_TRIES):
        if process.is_alive():
            process.terminate()
        while process.is_alive() and time.monotonic() - started < (number + 1) * STOP_TRY_S:
            if interrupts.count > counted:
                process.kill()
            process.join(_POLL_S)
    if process.is_alive():
        process.kill()
        process.join()


def _discard(context: Any, arguments: tuple[Any, ...], log: Path) -> None:
    """Clean up after a child that could not do so itself; where that fails, the next try does it."""
    config_json, node_id, run_id, _ = arguments
    process = context.Process(target=discard_in_child, args=(config_json, node_id, run_id, str(log)))
    try:
        start(process)
    except (EOFError, OSError):
        return
    process.join(_DISCARD_S)
    if process.is_alive():
        process.kill()
        process.join()


def _noforkserver(logs: Path) -> LaunchResult:
    return LaunchResult(
        "failed",
        error=f"the process that nodes are forked from died; its log: {logs / 'forkserver.log'}",
        hint="it was probably out of memory",
        exit_code=1,
    )


def _read_result(path: Path, exit_code: int | None, node: Node, log: Path) -> LaunchResult:
    try:
        return LaunchResult(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        how = (
            signal.Signals(-exit_code).name
            if exit_code is not None and exit_code < 0
            else f"exit code {exit_code}"
        )
        hint = "it was probably out of memory" if how == "SIGKILL" else ""
        return LaunchResult(
            "failed", error=f"node {node.id} died ({how}); its log: {log}", hint=hint, exit_code=1
        )


class _Tail:
    """Reads the lines that were added to a file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return new complete JSON lines."""
        try:
            with open(self._path, "rb") as stream:
                stream.seek(self._offset)
                block = stream.read()
        except FileNotFoundError:
            return []
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.strip()]
