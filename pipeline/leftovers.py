"""Remove what a node wrote and never published: the next try of the run is given the same folders."""

import os
from typing import Any

from .graph import Node
from .store import Store

__all__ = ["discard_unpublished"]


def discard_unpublished(pipeline_node: Any, store: Store, node: Node) -> None:
    """Remove outputs of this run's tries of a node that MLMD does not call complete, and call them failed.

    MLMD decides, since a node may be killed after its results were published and before it told of them.

    Args:
        pipeline_node: The compiled node (`PipelineNode`), run id filled in.
        store: Where metadata and artifacts live.
        node: The node. No process may be running it for this run.
    """
    from ml_metadata.proto import metadata_store_pb2
    from tfx.dsl.io import fileio
    from tfx.orchestration import metadata
    from tfx.orchestration.portable.mlmd import context_lib, execution_lib

    connection = metadata.Metadata(store.connection())
    with connection as handle:
        contexts = context_lib.prepare_contexts(handle, pipeline_node.contexts)
        unpublished = [
            execution
            for execution in execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
            if not execution_lib.is_execution_successful(execution)
        ]
        for execution in unpublished:
            execution.last_known_state = metadata_store_pb2.Execution.FAILED
        if unpublished:
            handle.store.put_executions(unpublished)
    for execution in unpublished:
        for folder in _folders(store, node, str(execution.id)):
            if fileio.exists(folder):
                fileio.rmtree(folder)


def _folders(store: Store, node: Node, execution: str) -> list[str]:
    """Return the folders that TFX gives an execution: one an output, and one for its own notes."""
    root = os.path.join(store.artifacts, node.id)
    return [
        *(os.path.join(root, output, execution) for output in node.outputs),
        os.path.join(root, ".system", "executor_execution", execution),
    ]
