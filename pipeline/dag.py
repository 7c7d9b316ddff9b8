"""The one wiring of the graph into a TFX pipeline; local runs, clusters and tests share it."""

from typing import Any

from tfx.dsl.compiler import compiler
from tfx.orchestration import pipeline as tfx_pipeline

from headrace.components.nodes.component import make_component
from headrace.components.nodes.ingest import input_parameters

from .config import RunConfig
from .graph import GRAPH, Node
from .identity import node_parameters
from .store import ARTIFACTS, Store

__all__ = ["compile_pipeline"]


def compile_pipeline(config: RunConfig, store: Store, cache: bool = True) -> Any:
    """Return the pipeline IR (`tfx.proto.orchestration.pipeline_pb2.Pipeline`) of a run.

    Its paths start at the root of the store, which is the working directory of a launch: artifacts are part
    of cache keys by their URIs, and a store that is moved or copied must find its own.

    Args:
        config: The run config.
        store: Where metadata and artifacts live.
        cache: Whether earlier executions with the same key may stand in for new ones.
    """
    made: dict[str, Any] = {}
    for node in GRAPH:
        made[node.id] = _component(node, config, made)
    for node in GRAPH:
        for upstream in node.after:
            made[node.id].add_upstream_node(made[upstream])
    pipeline = tfx_pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=ARTIFACTS,
        components=[made[node.id] for node in GRAPH],
        enable_cache=cache,
        metadata_connection_config=store.connection(),
    )
    compiled = compiler.Compiler().compile(pipeline)
    uncached = {node.id for node in GRAPH if not node.cached}
    for item in compiled.nodes:
        # TFX switches the cache for a whole pipeline; verdicts and pushes must always be made afresh.
        if item.pipeline_node.node_info.id in uncached:
            item.pipeline_node.execution_options.caching_options.enable_cache = False
    return compiled


def _component(node: Node, config: RunConfig, made: dict[str, Any]) -> Any:
    parameters = node_parameters(config, node)
    if node.id == "ingest":
        parameters |= input_parameters(config.data.path)
    inputs = {edge.name: made[edge.node].outputs[edge.output] for edge in node.inputs}
    return make_component(node.id, inputs, node.outputs, parameters)
