"""Run ONE node of a run through TFX's Launcher: driver, executor, publisher. Used on every platform."""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from headrace.components.node import FOLDER_VARIABLE, PLACES_VARIABLE
from headrace.components.own_code import import_paths, search_first
from headrace.data.errors import EnvironmentProblem, HeadraceError

from .beam import engine_of
from .config import RunConfig
from .graph import node as find_node
from .identity import node_places
from .leftovers import discard_unpublished
from .metadata_failure import database_named
from .metadata_file import check_database
from .outcome import shown_path
from .store import Store

__all__ = [
    "STOP_TRIES", "STOP_TRY_S", "LaunchResult", "discard_in_child", "launch_measured", "launch_node",
    "run_in_child", "stop_on",
]  # fmt: skip

STOP_TRIES, STOP_TRY_S = 4, 2.0
"""How often, and seconds apart, a node is asked to stop before it is made to: an exception raised by a signal
is lost where it meets a destructor or a callback of C++."""


@dataclass(frozen=True)
class LaunchResult:
    """How one launch of one node ended.

    Attributes:
        state: "complete", "cached" or "failed".
        finding: What the node found, for people.
        outputs: Output name -> URI.
        artifacts: Rows for the lineage: name, type, id, uri.
        wall_s, cpu_s: Seconds of the launch, imports made before it left out.
        peak_rss_bytes: Peak resident memory of the process.
        exit_code: Exit code that the error means; 0 where there is none.
        error, hint: What went wrong, and what to do.
    """

    state: str
    finding: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    exit_code: int = 0
    error: str = ""
    hint: str = ""


def launch_node(config: RunConfig, node_id: str, run_id: str, cache: bool = True) -> LaunchResult:
    """Launch node `node_id` of run `run_id` in this process.

    Raises:
        HeadraceError: If the node failed for a reason that headrace explains.
        Exception: Whatever else the node raised.
    """
    store = Store.of(config)
    if config.metadata.url is None:
        # It may have gone, or filled up, since the node before.
        check_database(store.database, run_id)
    _environment(config, store, node_id, run_id)
    search_first(config.code, import_paths(config.model_dump(mode="json")))
    pipeline, pipeline_node = _compiled(config, store, node_id, run_id, cache)
    with database_named(config.metadata, run_id, store.database), contextlib.chdir(store.root):
        return _launch(pipeline, pipeline_node, store, node_id)


def _launch(pipeline: Any, pipeline_node: Any, store: Store, node_id: str) -> LaunchResult:
    from tfx.orchestration import metadata
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable import launcher

    from .guard import Guard

    deployment = runner_utils.extract_local_deployment_config(pipeline)
    connection = metadata.Metadata(store.connection())
    executor = runner_utils.extract_executor_spec(deployment, node_id)
    guard = Guard(store.root, executor, runner_utils.extract_custom_driver_spec(deployment, node_id))
    discard_unpublished(pipeline_node, store, find_node(node_id))
    try:
        info = launcher.Launcher(
            pipeline_node=pipeline_node,
            mlmd_connection=connection,
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=executor,
            **guard.launcher_options,
        ).launch()
    except BaseException:
        # The launcher does so where the executor fails; an interrupt may come before or after that.
        discard_unpublished(pipeline_node, store, find_node(node_id))
        raise
    return _published(connection, node_id, info, guard)


def _compiled(config: RunConfig, store: Store, node_id: str, run_id: str, cache: bool) -> tuple[Any, Any]:
    """Return the compiled pipeline with the run id filled in, and its node `node_id`."""
    from tfx.orchestration.portable import runtime_parameter_utils

    from .dag import compile_pipeline

    pipeline = compile_pipeline(config, store, cache)
    runtime_parameter_utils.substitute_runtime_parameter(pipeline, {"pipeline-run-id": run_id})
    (node,) = [n.pipeline_node for n in pipeline.nodes if n.pipeline_node.node_info.id == node_id]
    return pipeline, node


def _environment(config: RunConfig, store: Store, node_id: str, run_id: str) -> None:
    os.makedirs(store.scratch, exist_ok=True)
    os.environ["HEADRACE_RUN_ID"] = run_id
    os.environ["HEADRACE_STORE"] = store.root
    os.environ[FOLDER_VARIABLE] = os.getcwd()
    os.environ["HEADRACE_SCRATCH"] = store.scratch
    os.environ[PLACES_VARIABLE] = json.dumps(node_places(config, find_node(node_id)))
    engine = engine_of(config.beam, node_id)
    os.environ["HEADRACE_BEAM"] = json.dumps({"runner": engine.runner, "args": engine.pipeline_args()})
    if not find_node(node_id).gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _published(connection: Any, node_id: str, info: Any, guard: Any) -> LaunchResult:
    """Read back from MLMD what the launch published."""
    from ml_metadata.proto import metadata_store_pb2

    from headrace.components.nodes.executor import finding_without_output

    if info is None or not info.execution_id:
        raise HeadraceError(
            f"a node must be given its inputs. Received: none for {node_id}",
            "see the log of the node before it",
        )
    with connection as handle:
        (execution,) = handle.store.get_executions_by_id([info.execution_id])
        state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
        if state not in ("COMPLETE", "CACHED"):
            raise HeadraceError(f"node {node_id} must end complete. Received: {state.lower()}", "see its log")
        events = [
            event
            for event in handle.store.get_events_by_execution_ids([info.execution_id])
            if event.type in (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
        ]
        found = {a.id: a for a in handle.store.get_artifacts_by_id([event.artifact_id for event in events])}
    outputs: dict[str, str] = {}
    rows = []
    finding = ""
    for event in events:
        name, item = event.path.steps[0].key, found[event.artifact_id]
        outputs[name] = place = os.path.abspath(item.uri)
        rows.append({"node": node_id, "artifact": name, "type": item.type, "uri": place, "id": item.id})
        finding = finding or item.custom_properties["finding"].string_value
    if state == "CACHED":
        guard.check_taken(list(found.values()))
    elif guard.refused:
        finding = f"{finding}; made again, since in the cached result {guard.refused}"
    return LaunchResult(
        state="cached" if state == "CACHED" else "complete",
        finding=finding or finding_without_output(),
        outputs=outputs,
        artifacts=rows,
    )


class _Interrupted(BaseException):
    """The scheduler asked this node to stop. Like KeyboardInterrupt, no handler of errors should take it."""


def run_in_child(
    config_json: str,
    node_id: str,
    run_id: str,
    cache: bool,
    result_path: str,
    log_path: str,
    events_path: str,
) -> None:
    """Launch a node in a child process: log to a file, events to another, the result to a third.

    An ordinary failure exits with 0 and a result that tells it; a crash leaves no result.
    """
    _redirect(log_path)
    # Ctrl-C reaches the whole process group; the scheduler decides and sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop_on(signal.SIGTERM)
    threading.Thread(target=_end_with_scheduler, daemon=True).start()
    os.environ["HEADRACE_EVENTS"] = events_path
    result = launch_measured(RunConfig.model_validate_json(config_json), node_id, run_id, cache, log_path)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    temporary = result_path + ".part"
    Path(temporary).write_text(json.dumps(asdict(result)), encoding="utf-8")
    os.replace(temporary, result_path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip interpreter teardown: TensorFlow and Beam threads can hold it up for seconds.
    os._exit(0)


def launch_measured(
    config: RunConfig, node_id: str, run_id: str, cache: bool, log_path: str = ""
) -> LaunchResult:
    """Launch a node in this process and measure it; a failure is a result, not an exception.

    Args:
        config: The run config.
        node_id: The node.
        run_id: Id of the run.
        cache: Whether an earlier result with the same key may be taken.
        log_path: Where stderr goes, for the hint; "" where it goes to the terminal or the platform's log.
    """
    wall, cpu = time.monotonic(), _cpu_s()
    try:
        result = launch_node(config, node_id, run_id, cache)
    except _Interrupted:
        result = LaunchResult("failed", error="stopped by the scheduler", exit_code=130)
    except HeadraceError as error:
        traceback.print_exc()
        result = LaunchResult("failed", error=error.message, hint=error.hint, exit_code=error.exit_code)
    except Exception as error:
        traceback.print_exc()
        result = _unexpected(error, log_path)
    return replace(
        result,
        wall_s=time.monotonic() - wall,
        cpu_s=_cpu_s() - cpu,
        peak_rss_bytes=_peak_rss_bytes(),
    )


def stop_on(*signals: signal.Signals) -> None:
    """Let these signals end the running node cleanly, so that it removes what it did not publish."""
    for number in signals:
        signal.signal(number, _raise_interrupted)


def discard_in_child(config_json: str, node_id: str, run_id: str, log_path: str) -> None:
    """Remove, in a child process, what a killed node wrote and did not publish."""
    _redirect(log_path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = RunConfig.model_validate_json(config_json)
    store = Store.of(config)
    _, pipeline_node = _compiled(config, store, node_id, run_id, cache=True)
    discard_unpublished(pipeline_node, store, find_node(node_id))


def _end_with_scheduler() -> None:
    """Stop this process once the scheduler is gone: a resumed run would meet a rival in the same folders."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    for _ in range(STOP_TRIES):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_TRY_S)
    os._exit(1)


def _unexpected(error: Exception, log_path: str) -> LaunchResult:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, HeadraceError):
            return LaunchResult("failed", error=chain.message, hint=chain.hint, exit_code=chain.exit_code)
        chain = chain.__cause__ or chain.__context__
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        text = "the machine ran out of memory"
    return LaunchResult(
        "failed",
        error=f"{type(error).__name__}: {shorten(text, 400, placeholder=' …')}",
        hint=f"the traceback is in {shown_path(log_path)}"
        if log_path
        else "the traceback is in the step's log",
        exit_code=EnvironmentProblem.exit_code,
    )


def _raise_interrupted(signum: int, frame: Any) -> None:
    raise _Interrupted


def _redirect(log_path: str) -> None:
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target in (1, 2):
        os.dup2(descriptor, target)
    os.close(descriptor)
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_rss_bytes() -> int:
    # Linux gives kilobytes.
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * 1024
    )
