"""The driver before every node: inputs must be as their nodes left them, and a cached result worth taking."""

import contextlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.portable import (
    base_driver_operator,
    cache_utils,
    python_driver_operator,
)
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.proto.orchestration import driver_output_pb2, executable_spec_pb2

from headrace.components.nodes.executor import DOUBTFUL, DOUBTS
from headrace.components.sums import MADE_AGAIN, SUMS, compare
from headrace.data.errors import EnvironmentProblem, HeadraceError
from headrace.data.sums import told

__all__ = ["Guard"]

_ATTEMPT = "attempt"
"""Execution property, part of the cache key: how many results with the key proper were not worth taking."""


class Guard:
    """Checks what a launch is handed over, and remembers what it found.

    A result that is not taken stays in ML Metadata as it is, since older runs refer to it: the launch, and
    every later one, looks for another one under the next key.

    Args:
        store: Root of the store.
        executor_spec: As the launcher is given it; part of the cache key.
        driver_spec: Spec of the node's own driver; None where it has none.

    Attributes:
        refused: What is wrong with the cached result; "" where there is none, or it is taken.
    """

    def __init__(self, store: str, executor_spec: Any, driver_spec: Any) -> None:
        self._store = store
        self._executor_spec = executor_spec
        self._own = driver_spec
        self._taken: set[int] | None = None
        self.refused = ""

    @property
    def launcher_options(self) -> dict[str, Any]:
        """Return the arguments by which TFX's Launcher calls this guard before it looks into the cache."""
        kind = executable_spec_pb2.PythonClassExecutableSpec
        return {
            "custom_driver_spec": self._own or kind(),
            "custom_driver_operators": {kind: lambda _, connection: _Operator(self, connection)},
        }

    def check_taken(self, artifacts: Sequence[Any]) -> None:
        """Make sure that a launch that ended CACHED took what was checked, unless an earlier try did so.

        Raises:
            HeadraceError: If not.
        """
        taken = self._taken
        strange = [item.uri for item in artifacts if taken is not None and item.id not in taken]
        if strange:
            raise HeadraceError(f"a cached result must have been checked. Received: {', '.join(strange)}")

    def before_node(self, info: Any, connection: Any) -> Any:
        """Do what the driver of a node does.

        Args:
            info: TFX's `ExecutionInfo`.
            connection: TFX's `Metadata`.

        Returns:
            A `DriverOutput`.

        Raises:
            EnvironmentProblem: If an input is not as its node left it.
        """
        for name, artifacts in info.input_dict.items():
            for artifact in artifacts:
                self._check_input(name, artifact)
        self._taken = set()
        output = driver_output_pb2.DriverOutput()
        if self._own is not None:
            output = python_driver_operator.PythonDriverOperator(self._own, connection).run_driver(info)
        else:
            _remove_note(info.execution_output_uri)
        if info.pipeline_node.execution_options.caching_options.enable_cache:
            attempt = self._attempt(info, output, connection)
            if attempt:
                output.exec_properties[_ATTEMPT].int_value = attempt
        return output

    def _check_input(self, name: str, artifact: Any) -> None:
        text = artifact.get_string_custom_property(SUMS)
        # What was made before sums were recorded can only be of a run that is resumed.
        wrong = compare(artifact.uri, text, self._store) if text else []
        if wrong:
            place = f"{name}: {os.path.abspath(artifact.uri)}"
            raise EnvironmentProblem(
                f"an input must be as its node left it. Received: {told(wrong)} ({place})", MADE_AGAIN
            )

    def _attempt(self, info: Any, output: Any, connection: Any) -> int:
        """Return the number of the first key under which there is a result worth taking, or none."""
        properties, outputs = _with_driver_output(info, output)
        with connection as handle:
            for attempt in itertools.count():
                context = cache_utils.get_cache_context(
                    handle,
                    pipeline_node=info.pipeline_node,
                    pipeline_info=info.pipeline_info,
                    executor_spec=self._executor_spec,
                    input_artifacts=info.input_dict,
                    output_artifacts=outputs,
                    parameters=properties | ({_ATTEMPT: attempt} if attempt else {}),
                )
                found = cache_utils.get_cached_outputs(handle, context)
                if found is None:
                    self.refused = _gone(handle, context) or self.refused
                    return attempt
                artifacts = [item for items in found.values() for item in items]
                reason = self._unfit(handle, artifacts)
                if not reason:
                    self._taken, self.refused = {item.id for item in artifacts}, ""
                    return attempt
                self.refused = reason
        raise AssertionError  # there is always a next number

    def _unfit(self, handle: Any, artifacts: Sequence[Any]) -> str:
        """Return why a cached result is not worth taking; "" where it is."""
        for artifact in artifacts:
            if doubt := artifact.get_string_custom_property(DOUBTFUL) or _doubted(handle, artifact.id):
                return doubt
            text = artifact.get_string_custom_property(SUMS)
            if not text:
                return "no sums were recorded"
            if wrong := compare(artifact.uri, text, self._store):
                return told(wrong)
        return ""


class _Operator(base_driver_operator.BaseDriverOperator):
    """What the launcher makes and calls: passes on to the guard of the launch."""

    SUPPORTED_EXECUTABLE_SPEC_TYPE = (executable_spec_pb2.PythonClassExecutableSpec,)

    def __init__(self, guard: Guard, connection: Any) -> None:
        super().__init__(executable_spec_pb2.PythonClassExecutableSpec(), connection)
        self._guard = guard

    def run_driver(self, execution_info: Any) -> Any:
        return self._guard.before_node(execution_info, self._mlmd_connection)


def _with_driver_output(info: Any, output: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return execution properties and outputs as the launcher completes them by what a driver gave."""
    properties = dict(info.exec_properties)
    for key, value in output.exec_properties.items():
        properties[key] = getattr(value, value.WhichOneof("value"))
    outputs = {name: list(items) for name, items in info.output_dict.items()}
    for name, listed in output.output_artifacts.items():
        kind = outputs[name][0].type
        outputs[name] = [kind() for _ in listed.artifacts]
        for artifact, proto in zip(outputs[name], listed.artifacts, strict=True):
            artifact.set_mlmd_artifact(proto)
    return properties, outputs


def _gone(handle: Any, context: Any) -> str:
    """Say that a result is there no more, where there was one under the key."""
    executions = handle.store.get_executions_by_context(context.id)
    return "its files are missing" if any(map(execution_lib.is_execution_successful, executions)) else ""


def _doubted(handle: Any, artifact_id: int) -> str:
    """Return why a node that consumed an artifact said that it must be made again; "" where none did."""
    uses = {
        event.execution_id: event.path.steps[0].key
        for event in handle.store.get_events_by_artifact_ids([artifact_id])
        if event.type == metadata_store_pb2.Event.INPUT
    }
    made = [
        event
        for event in handle.store.get_events_by_execution_ids(list(uses))
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    for item in handle.store.get_artifacts_by_id([event.artifact_id for event in made]):
        doubts: Mapping[str, str] = json.loads(item.custom_properties[DOUBTS].string_value or "{}")
        for event in made:
            if event.artifact_id == item.id and uses[event.execution_id] in doubts:
                return doubts[uses[event.execution_id]]
    return ""


def _remove_note(path: str) -> None:
    """Remove the folder that TFX makes for the note of a driver, which this one does not write."""
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))
