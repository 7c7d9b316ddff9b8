"""What a node of the DAG is given and what it gives back, free of TFX and TensorFlow."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "EVENTS_VARIABLE",
    "FOLDER_VARIABLE",
    "PLACES_VARIABLE",
    "NodeContext",
    "NodeResult",
    "emit",
    "placed_config",
]

EVENTS_VARIABLE = "HEADRACE_EVENTS"
"""Environment variable with the file that events are written to."""

FOLDER_VARIABLE = "HEADRACE_FOLDER"
"""Environment variable with the folder that a node works in: the one in which it was started."""

PLACES_VARIABLE = "HEADRACE_PLACES"
"""Environment variable with the paths that the running node's config leaves out, as JSON."""


@dataclass(frozen=True)
class NodeContext:
    """One execution of one node: paths in, paths out, and its own config.

    Attributes:
        node_id: Id of the node in `headrace.pipeline.graph`.
        run_id: Id of the run.
        inputs: Input name -> URIs of its artifacts, oldest first.
        outputs: Output name -> URI of an empty folder to write into.
        config: Dotted config path -> that part of the run config as plain JSON values; holds
            only the parts that the graph lists for this node.
        temp_dir: A folder for scratch files; removed after the node.
        beam_args: Arguments for Beam pipeline options, runner included.
        beam_runner: Engine of Beam's part, as `beam.runner` names it; `direct`: this process.
    """

    node_id: str
    run_id: str
    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, str]
    config: Mapping[str, Any]
    temp_dir: str
    beam_args: Sequence[str] = ()
    beam_runner: str = "direct"

    @property
    def distributed(self) -> bool:
        """Whether Beam's part must run as a Beam job, since its engine is not this process."""
        return self.beam_runner != "direct"

    @property
    def by_engine(self) -> str:
        """What a finding says of the engine: nothing, unless it is another than this process."""
        return f", by Beam on {self.beam_runner}" if self.distributed else ""

    def input(self, name: str) -> str:
        """Return the URI of the one artifact of input `name`."""
        (uri,) = self.inputs[name]
        return uri


@dataclass(frozen=True)
class NodeResult:
    """What a node found.

    Attributes:
        finding: A short phrase for the progress line, such as "336,776 rows in 3 splits".
        properties: Output name -> custom properties to record on that artifact in MLMD.
        doubts: Name of an output or input -> why the next run must make that artifact again and not take it
            from the cache, such as "a check timed out".
    """

    finding: str = ""
    properties: Mapping[str, Mapping[str, str | int | float]] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)


def placed_config(text: str) -> dict[str, Any]:
    """Return a node's config from the text of its cache key, with the paths that a key leaves out."""
    config: dict[str, Any] = json.loads(text)
    _put(config, json.loads(os.environ.get(PLACES_VARIABLE, "{}")))
    return config


def _put(config: dict[str, Any], places: Mapping[str, Any]) -> None:
    for key, place in places.items():
        if isinstance(place, dict):
            if config[key] is not None:  # a section that the node does not read as things stand
                _put(config[key], place)
        else:
            config[key] = place


def emit(kind: str, **values: Any) -> None:
    """Report progress of the running node, for the terminal and for logs.

    The scheduler names a file in the environment; each event is one JSON line appended to it.
    Without one (a cluster step) the line goes to stderr, where the platform's log keeps it.

    Args:
        kind: What happened, for instance "epoch", "trial", "variant" or "rows".
        **values: JSON-serialisable details. `done` and `total` drive a progress bar, `text` is
            shown as it is.
    """
    line = json.dumps({"kind": kind, **values}, default=str)
    path = os.environ.get(EVENTS_VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    else:
        print(line, file=sys.stderr, flush=True)
