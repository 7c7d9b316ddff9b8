"""A SavedModel's signatures followed through graph and functions, operator by operator."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from .rules import RULES, static_shape
from .values import Const, Rows, Size, Unknown, Unproven, Value, fresh

__all__ = ["dependent_signatures", "follow"]

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_SILENT = ("Assert", "NoOp")
_INIT = "__saved_model_init_op"
Outputs = Sequence[Value] | Mapping[str, Sequence[Value]]


def dependent_signatures(path: str) -> dict[str, str]:
    """Tell which signatures of a SavedModel are not known to answer each row by itself.

    Args:
        path: Folder with `saved_model.pb`.

    Returns:
        Signature -> why it is not known; an empty text where every row is independent.
    """
    model = saved_model_pb2.SavedModel()
    try:
        with open(os.path.join(path, "saved_model.pb"), "rb") as stream:
            model.ParseFromString(stream.read())
    except (OSError, DecodeError) as error:
        return {"serving_default": f"the graph cannot be read: {error}"}
    if not model.meta_graphs:
        return {"serving_default": "there is no graph"}
    return follow(model.meta_graphs[0])


def follow(meta_graph: Any) -> dict[str, str]:
    """As `dependent_signatures`, for a MetaGraphDef."""
    return {
        name: _Walk(meta_graph.graph_def).reason(signature)
        for name, signature in meta_graph.signature_def.items()
        if name != _INIT
    }


class _Walk:
    """One signature followed from its inputs to its outputs.

    Args:
        graph: GraphDef with its library of functions.
    """

    def __init__(self, graph: Any) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}

    def reason(self, signature: Any) -> str:
        """Return why the rows are not known to be independent; "" if they are."""
        try:
            found: dict[str, Outputs] = {
                _node_of(info.name): [_input(alias, info)] for alias, info in signature.inputs.items()
            }
            for alias, info in sorted(signature.outputs.items()):
                _check_output(alias, _picked(self._node(_node_of(info.name), found), info.name))
        except Unproven as error:
            return str(error)
        return "" if signature.inputs else "there are no inputs"

    def _node(self, name: str, found: dict[str, Outputs]) -> Outputs:
        """Return the outputs of a node of the graph itself; `found` holds those that were met."""
        waiting = [name]
        while waiting:
            node = self._nodes[waiting[-1]]
            sources = [source for source in node.input if source[0] != "^"]
            missing = [_node_of(source) for source in sources if _node_of(source) not in found]
            if node.name in found or not missing:
                waiting.pop()
            if node.name in found:
                continue
            if missing:
                waiting += missing
            else:
                values = [_picked(found[_node_of(source)], source) for source in sources]
                found[node.name] = self._apply(node, values)
        return found[name]

    def _call(self, name: str, arguments: Sequence[Value]) -> list[Value]:
        """Return what a function answers to values."""
        function = self._functions[name]
        found: dict[str, Outputs] = {
            argument.name: [value]
            for argument, value in zip(function.signature.input_arg, arguments, strict=True)
        }
        for node in _in_order(function.node_def, found):
            values = [_picked(found[_node_of(s)], s) for s in node.input if s[0] != "^"]
            found[node.name] = self._apply(node, values)
        return [
            _picked(found[_node_of(function.ret[output.name])], function.ret[output.name])
            for output in function.signature.output_arg
        ]

    def _apply(self, node: Any, values: list[Value]) -> Outputs:
        """Return the outputs of one operator.

        Raises:
            Unproven: If it is not on the list at all: it may do anything, even if nobody looks at its output.
        """
        if node.op in _SILENT:
            return []
        if node.op in _CALLS:
            return self._call(node.attr["f"].func.name, values)
        rule: Callable[..., Any] | None = RULES.get(node.op)
        if rule is None:
            raise Unproven(f"operator {node.op} is not on the list of row-wise ones ({node.name})")
        unknown = next((value for value in values if isinstance(value, Unknown)), None)
        if unknown is not None:
            return _Every(unknown)
        if node.op != "Const" and all(isinstance(value, Const) for value in values):
            shapes = range(max(1, len(node.attr["_output_shapes"].list.shape)))
            passed = values[0].value if node.op in ("Identity", "Cast") else None  # type: ignore[union-attr]
            return [Const(static_shape(node, place), passed) for place in shapes]
        try:
            outputs = rule(node, values)
        except (Unproven, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A rule that does not fit what it meets proves nothing.
            return _Every(Unknown(f"{node.op}: {error} ({node.name})"))
        return outputs if isinstance(outputs, list | dict) else [outputs]


class _Every(list[Value]):
    """The same value at every place."""

    def __init__(self, value: Value) -> None:
        super().__init__([value])

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(0)


def _in_order(nodes: Sequence[Any], known: Mapping[str, Any]) -> list[Any]:
    """Return the nodes of a function, each after what it reads."""
    waiting = {node.name: node for node in nodes}
    done = set(known)
    ordered: list[Any] = []
    stack = list(reversed(nodes))
    while stack:
        node = stack[-1]
        sources = {_node_of(source.lstrip("^")) for source in node.input}
        missing = [waiting[name] for name in sources if name not in done and name in waiting]
        if node.name in done or not missing:
            stack.pop()
            if node.name not in done:
                ordered.append(node)
                done.add(node.name)
        else:
            stack += missing
    return ordered


def _picked(outputs: Outputs, place: str) -> Value:
    """Return the output that `node`, `node:2` or `node:name:2` names."""
    parts = place.split(":")[1:] if ":" in place else [place] if place.isdecimal() else []
    index = int(parts[-1]) if parts and parts[-1].isdecimal() else 0
    if not isinstance(outputs, Mapping):
        return outputs[index]
    if len(parts) > 1:
        return outputs[parts[0]][index]
    return [value for values in outputs.values() for value in values][index]


def _node_of(place: str) -> str:
    """Return the node of a tensor: "a:1" -> "a"."""
    return place.partition(":")[0]


def _input(alias: str, info: Any) -> Value:
    dims = [dim.size for dim in info.tensor_shape.dim]
    if info.tensor_shape.unknown_rank or not dims or dims[0] != -1:
        raise Unproven(f"input {alias} must have rows of one known rank")
    return Rows(tuple(Size(size) if size >= 0 else fresh("S") for size in dims[1:]))


def _check_output(alias: str, value: Value) -> None:
    if isinstance(value, Unknown):
        raise Unproven(f"output {alias}: {value.reason}")
    if not isinstance(value, Rows):
        raise Unproven(f"output {alias} must have a row for each row of the inputs")
    if not all(size.steady for size in value.dims):
        raise Unproven(f"output {alias} must have rows whose size does not depend on other rows")
