"""Graphs written by hand, to hold what no exporter would write."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

Edit = Callable[[Any], None]


def node(op: str, name: str = "n", inputs: Iterable[str] = (), **functions: str) -> Any:
    """A node; keywords are attributes that name functions."""
    made = node_def_pb2.NodeDef(op=op, name=name, input=list(inputs))
    for attribute, function in functions.items():
        made.attr[attribute].func.name = function
    return made


def function(name: str, *nodes: Any, arguments: Iterable[str] = ()) -> Any:
    made = function_pb2.FunctionDef()
    made.signature.name = name
    for argument in arguments:
        made.signature.input_arg.add(name=argument)
    made.node_def.extend(nodes)
    return made


def meta_graph(*nodes: Any, functions: Iterable[Any] = (), answer: str = "", start: str = "") -> Any:
    """A graph that answers by the node `answer` and starts with the node `start`."""
    graph = graph_pb2.GraphDef(node=nodes)
    graph.library.function.extend(functions)
    made = meta_graph_pb2.MetaGraphDef(graph_def=graph)
    made.meta_info_def.tags.append("serve")
    if answer:
        made.signature_def["serving_default"].outputs["y"].name = f"{answer}:0"
    if start:
        made.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = start
    return made


def edit(folder: str | Path, change: Edit) -> None:
    """Change the MetaGraphDef in a model's folder."""
    file = Path(folder, "saved_model.pb")
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(message.meta_graphs[0])
    file.write_bytes(message.SerializeToString())
