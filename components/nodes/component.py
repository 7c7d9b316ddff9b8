"""TFX components from the plain graph: one ComponentSpec a node, one executor for all."""

from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from .artifacts import artifact_type
from .executor import RoomExecutor
from .ingest import ContentDriver

__all__ = ["make_component"]


def make_component(
    node_id: str,
    inputs: Mapping[str, tuple[channel.BaseChannel, bool]],
    outputs: Mapping[str, str],
    parameters: Mapping[str, str],
) -> base_component.BaseComponent:
    """Return the TFX component of a node.

    Args:
        node_id: Id of the node, also the component's.
        inputs: Input name -> (channel, whether it may be empty).
        outputs: Output name -> artifact type name.
        parameters: Execution properties; they are the node's part of its cache key.
    """
    spec_class = type(
        f"{node_id.title().replace('_', '')}Spec",
        (ComponentSpec,),
        {
            "PARAMETERS": {name: ExecutionParameter(type=str) for name in parameters},
            "INPUTS": {
                name: ChannelParameter(type=source.type, optional=optional)
                for name, (source, optional) in inputs.items()
            },
            "OUTPUTS": {name: ChannelParameter(type=artifact_type(kind)) for name, kind in outputs.items()},
        },
    )
    body: dict[str, Any] = {
        "SPEC_CLASS": spec_class,
        "EXECUTOR_SPEC": executor_spec.ExecutorClassSpec(RoomExecutor),
    }
    if "input_base" in parameters:
        body["DRIVER_CLASS"] = ContentDriver
    component_class = type(node_id.title().replace("_", ""), (base_component.BaseComponent,), body)
    channels: dict[str, Any] = {
        name: channel.Channel(type=artifact_type(kind)) for name, kind in outputs.items()
    }
    spec = spec_class(**parameters, **{name: source for name, (source, _) in inputs.items()}, **channels)
    return component_class(spec=spec).with_id(node_id)
