"""What a store of ML Metadata costs as runs pile up: its bytes, and what each launch reads of it.

    python benchmarks/metadata_growth.py [--runs 100 1000]

Fills an SQLite store with runs of headrace's graph (an execution a node, its artifacts, contexts and events),
and times what a launch asks: the executions of its node's context, and for the baseline models and pushes.
One JSON object a size goes to stdout.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as proto

from headrace.pipeline.graph import GRAPH

REPEATS = 5


def fill(store: MetadataStore, runs: int) -> int:
    """Put `runs` runs into a store; return the context of the node `trainer`."""
    types = {kind for node in GRAPH for kind in node.outputs.values()}
    artifact_types = {kind: store.put_artifact_type(proto.ArtifactType(name=kind)) for kind in types}
    execution_types = {node.id: store.put_execution_type(proto.ExecutionType(name=node.id)) for node in GRAPH}
    names = {kind: store.put_context_type(proto.ContextType(name=kind)) for kind in ("node", "pipeline_run")}
    nodes = store.put_contexts([proto.Context(type_id=names["node"], name=f"demo.{n.id}") for n in GRAPH])
    for run in range(runs):
        (own,) = store.put_contexts([proto.Context(type_id=names["pipeline_run"], name=f"run-{run}")])
        executions = store.put_executions(
            [
                proto.Execution(
                    type_id=execution_types[node.id],
                    name=f"{run}-{node.id}",
                    last_known_state=proto.Execution.COMPLETE,
                    custom_properties={"config": proto.Value(string_value="x" * 500)},
                )
                for node in GRAPH
            ]
        )
        outputs = [(place, kind) for place, node in enumerate(GRAPH) for kind in node.outputs.values()]
        artifacts = store.put_artifacts(
            [
                proto.Artifact(
                    type_id=artifact_types[kind],
                    uri=f"/mnt/headrace/runs/.store/artifacts/{GRAPH[place].id}/out/{run}",
                    state=proto.Artifact.LIVE,
                    custom_properties={"finding": proto.Value(string_value="y" * 80)},
                )
                for place, kind in outputs
            ]
        )
        store.put_events(
            [
                proto.Event(execution_id=executions[place], artifact_id=artifact, type=proto.Event.OUTPUT)
                for (place, _), artifact in zip(outputs, artifacts, strict=True)
            ]
        )
        store.put_attributions_and_associations(
            [proto.Attribution(artifact_id=artifact, context_id=own) for artifact in artifacts],
            [
                proto.Association(execution_id=execution, context_id=context)
                for node, execution in zip(nodes, executions, strict=True)
                for context in (own, node)
            ],
        )
    return int(nodes[[node.id for node in GRAPH].index("trainer")])


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the shortest of some calls."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return round(1000 * min(times), 1)


def measure(runs: int) -> dict[str, Any]:
    """Return bytes and times of a store that holds `runs` runs."""
    with tempfile.TemporaryDirectory(prefix="headrace-mlmd-") as temp:
        path = Path(temp, "metadata.sqlite")
        config = proto.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        store = MetadataStore(config)
        trainer = fill(store, runs)
        return {
            "runs": runs,
            "bytes_per_run": round(path.stat().st_size / runs),
            "executions_of_a_node_ms": milliseconds(lambda: store.get_executions_by_context(trainer)),
            "models_and_pushes_ms": milliseconds(
                lambda: [store.get_artifacts_by_type(kind) for kind in ("Model", "PushedModel")]
            ),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000], help="sizes of the store")
    for runs in parser.parse_args().runs:
        print(json.dumps(measure(runs)), flush=True)


if __name__ == "__main__":
    main()
