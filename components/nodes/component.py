"""TFX components from the plain graph: one ComponentSpec a node, one executor for all."""

from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from .artifacts import artifact_type
from .baseline import LiveDriver
from .executor import RoomExecutor
from .ingest import ContentDriver

__all__ = ["make_component"]

_DRIVERS = {"ingest": ContentDriver, "baseline": LiveDriver}
"""Node -> what finds out, before the cache is asked, what lies where it reads."""


def make_component(
    node_id: str,
    inputs: Mapping[str, channel.BaseChannel],
    outputs: Mapping[str, str],
    parameters: Mapping[str, str],
) -> base_component.BaseComponent:
    """Return the TFX component of a node.

    Args:
        node_id: Id of the node, also the component's.
        inputs: Input name -> channel.
        outputs: Output name -> artifact type name.
        parameters: Execution properties; they are the node's part of its cache key.
    """
    spec_class = type(
        f"{node_id.title().replace('_', '')}Spec",
        (ComponentSpec,),
        {
            "PARAMETERS": {name: ExecutionParameter(type=str) for name in parameters},
            "INPUTS": {name: ChannelParameter(type=source.type) for name, source in inputs.items()},
            "OUTPUTS": {name: ChannelParameter(type=artifact_type(kind)) for name, kind in outputs.items()},
        },
    )
    body: dict[str, Any] = {
        "SPEC_CLASS": spec_class,
        "EXECUTOR_SPEC": executor_spec.ExecutorClassSpec(RoomExecutor),
    }
    if node_id in _DRIVERS:
        body["DRIVER_CLASS"] = _DRIVERS[node_id]
    component_class = type(node_id.title().replace("_", ""), (base_component.BaseComponent,), body)
    channels: dict[str, Any] = {
        name: channel.Channel(type=artifact_type(kind)) for name, kind in outputs.items()
    }
    spec = spec_class(**parameters, **inputs, **channels)
    return component_class(spec=spec).with_id(node_id)
