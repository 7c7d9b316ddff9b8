"""The one executor: artifacts to paths, config from JSON, one call of a room function, findings back."""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from headrace.components.identity import content_id
from headrace.components.node import FOLDER_VARIABLE, NodeContext, NodeResult, placed_config
from headrace.components.sums import SUMS, record
from headrace.data.errors import DataRejected, EnvironmentProblem
from headrace.data.section import canonical_json

__all__ = ["DOUBTFUL", "DOUBTS", "FINDING", "RoomExecutor", "finding_without_output", "translated"]

FINDING = "finding"
"""Custom property of a node's first output that holds its finding, so that a cached node can tell it."""

DOUBTFUL = "doubtful"
"""Custom property of an output that must not be taken from the cache: why."""

DOUBTS = "doubts"
"""Custom property of a node's outputs: JSON of the inputs that must be made again, name -> why."""

_FINDING_VARIABLE = "HEADRACE_FINDING"

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class RoomExecutor(base_executor.BaseExecutor):
    """Runs the room function named in the execution property `run`."""

    def Do(
        self,
        input_dict: Mapping[str, Sequence[Any]],
        output_dict: Mapping[str, Sequence[Any]],
        exec_properties: Mapping[str, Any],
    ) -> None:
        """Call the room function and record what it found on the output artifacts."""
        config = placed_config(exec_properties["config"])
        outputs = {
            name: artifact_utils.get_single_instance(list(items)) for name, items in output_dict.items()
        }
        # ML Metadata keeps places as they are seen from the store, which is the working directory here.
        kept = {name: [item.uri for item in items] for name, items in input_dict.items()}
        inputs = {name: [os.path.abspath(uri) for uri in uris] for name, uris in kept.items()}
        if "identity" in config:
            config["content_id"] = content_id(config["identity"], _data_sha256(inputs["examples"][0]))
        ingest_pattern = exec_properties.get("input_config")
        if ingest_pattern:
            from .ingest import resolved_path

            config["data"]["path"] = resolved_path(config["data"]["path"], str(ingest_pattern))
        if live := exec_properties.get("baseline"):
            config["baseline"] = json.loads(str(live))
        for name in outputs:
            if outputs[name].TYPE_NAME == "Examples":
                outputs[name].split_names = json.dumps(["train", "eval", "test"])
        room, _, function = exec_properties["run"].partition(":")
        beam = json.loads(os.environ.get("HEADRACE_BEAM", "{}"))
        folder = os.environ.get(FOLDER_VARIABLE) or os.curdir
        places = {name: os.path.abspath(item.uri) for name, item in outputs.items()}
        with _scratch(exec_properties, kept) as temp_dir, translated(), contextlib.chdir(folder):
            context = NodeContext(
                node_id=exec_properties["node"],
                run_id=os.environ.get("HEADRACE_RUN_ID", ""),
                inputs=inputs,
                outputs=places,
                config=config,
                temp_dir=temp_dir,
                beam_runner=beam.get("runner", "direct"),
                beam_args=beam.get("args", ()),
            )
            result = cast(NodeResult, getattr(importlib.import_module(room), function)(context))
        _record(result, outputs, input_dict)


def finding_without_output() -> str:
    """Return what the node that this process ran last found, if it has no output that could hold it."""
    return os.environ.pop(_FINDING_VARIABLE, "")


def _record(result: NodeResult, outputs: Mapping[str, Any], inputs: Mapping[str, Sequence[Any]]) -> None:
    for name, properties in result.properties.items():
        for key, value in properties.items():
            setter = "set_int_custom_property" if isinstance(value, int) else "set_string_custom_property"
            getattr(outputs[name], setter)(key, value if isinstance(value, int) else str(value))
    if not outputs:
        os.environ[_FINDING_VARIABLE] = result.finding
    doubts = {name: why for name, why in result.doubts.items() if name in inputs}
    for name, item in outputs.items():
        item.set_string_custom_property(FINDING, result.finding)
        item.set_string_custom_property(SUMS, record(item.uri, os.environ.get("HEADRACE_STORE")))
        if name in result.doubts:
            item.set_string_custom_property(DOUBTFUL, result.doubts[name])
        if doubts:
            item.set_string_custom_property(DOUBTS, canonical_json(doubts))


def _data_sha256(examples: str) -> str:
    from tfx.dsl.io import fileio

    with fileio.open(os.path.join(examples, "ingest.json")) as stream:
        return str(json.loads(stream.read())["sha256"])


@contextlib.contextmanager
def _scratch(exec_properties: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Give a scratch folder named after the work alone, so that a killed node finds its own again."""
    key = canonical_json(
        [exec_properties["node"], exec_properties["config"], exec_properties["sources"], dict(inputs)]
    )
    name = f"{exec_properties['node']}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = os.path.join(os.environ.get("HEADRACE_SCRATCH") or os.path.join(os.sep, "tmp"), name)
    resumable = exec_properties["resumable"] == "yes"
    if not resumable:
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, exist_ok=True)
    finished = False
    try:
        yield folder
        finished = True
    finally:
        if finished or not resumable:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the disk and damaged records raise into headrace's own errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            place = error.filename or os.environ.get("HEADRACE_SCRATCH", "")
            raise EnvironmentProblem(
                f"{_DISK[error.errno]} ({place})", "free some space and run again"
            ) from error
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if type(error).__name__ == "DataLossError" or "corrupted record" in text.lower():
            raise DataRejected(f"a record file must be whole. Received: {text[:300]}") from error
        if "No space left on device" in text:
            raise EnvironmentProblem(
                f"the disk is full. Received: {text[:300]}", "free some space and run again"
            ) from error
        raise
