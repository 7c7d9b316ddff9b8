"""Small nodes that tests launch by TFX's own launcher, and the pipeline of them."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from tfx.dsl.compiler import compiler
from tfx.orchestration import pipeline as tfx_pipeline

from headrace.components.node import NodeContext, NodeResult
from headrace.components.nodes.component import make_component
from headrace.pipeline import launch
from headrace.pipeline.launch import LaunchResult
from headrace.pipeline.store import ARTIFACTS, Store

NODES: dict[str, dict[str, str]] = {
    "variants": {},
    "infra": {"variants": "variants"},
    "gates": {"infra": "infra"},
}
"""Node -> its inputs, each the output of that name of a node before it."""

_KINDS = {"variants": "Variants", "infra": "Infra", "gates": "Gates"}


def make(ctx: NodeContext) -> NodeResult:
    """Write what the inputs hold, so that a damaged one would show; doubt what the environment says."""
    folder = Path(ctx.outputs[ctx.node_id])
    (folder / "deep").mkdir(parents=True)
    read = [Path(uri, "deep", "file").read_text() for uris in ctx.inputs.values() for uri in uris]
    (folder / "deep" / "file").write_text(f"{ctx.node_id}({','.join(read)})")
    (folder / "other").write_text("other")
    doubts = json.loads(os.environ.get("GUARD_TEST_DOUBTS", "{}"))
    return NodeResult(f"made {ctx.node_id}", doubts=doubts.get(ctx.node_id, {}))


def launch_small(root: Path, node: str, run_id: str, *, cache: bool = True) -> LaunchResult:
    """Launch one of `NODES` in this process."""
    made: dict[str, Any] = {}
    for name, inputs in NODES.items():
        parameters = {
            "node": name,
            "run": "tests.pipeline.guard_nodes:make",
            "config": "{}",
            "sources": "s",
            "resumable": "no",
        }
        channels = {key: made[key].outputs[key] for key in inputs}
        made[name] = make_component(name, channels, {name: _KINDS[name]}, parameters)
    return launch_of(root, list(made.values()), node, run_id, cache=cache)


def launch_of(root: Path, components: list[Any], node: str, run_id: str, *, cache: bool) -> LaunchResult:
    """Launch a node of a pipeline of `components`."""
    from tfx.orchestration.portable import runtime_parameter_utils

    store = Store(str(root))
    os.makedirs(store.scratch, exist_ok=True)
    pipeline = compiler.Compiler().compile(
        tfx_pipeline.Pipeline(
            pipeline_name="small",
            pipeline_root=ARTIFACTS,
            components=components,
            enable_cache=cache,
            metadata_connection_config=store.connection(),
        )
    )
    runtime_parameter_utils.substitute_runtime_parameter(pipeline, {"pipeline-run-id": run_id})
    (found,) = [n.pipeline_node for n in pipeline.nodes if n.pipeline_node.node_info.id == node]
    with contextlib.chdir(store.root):
        result: LaunchResult = launch._launch(pipeline, found, store, node)
    return result
