"""Which nodes of a graph a run reaches, through functions, and where a tensor comes from."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Reach", "Sources", "all_nodes", "called", "drop_uncalled", "full_name", "reached"]

_FIRST_ARGUMENT = {
    ("PartitionedCall", "f"): 0,
    ("StatefulPartitionedCall", "f"): 0,
    ("If", "then_branch"): 1,
    ("If", "else_branch"): 1,
    ("StatelessIf", "then_branch"): 1,
    ("StatelessIf", "else_branch"): 1,
    ("Case", "branches"): 1,
    ("StatelessCase", "branches"): 1,
}
"""Operator and attribute -> the node's input that is the first argument of the function called.

Loops are left out: what they pass on may be another value than the one that came in.
"""


_TWINS = "api_implements"
"""Attribute of functions of which TensorFlow runs one in another's place."""


@dataclass(frozen=True)
class Reach:
    """What a run may touch.

    Attributes:
        nodes: Names of nodes of the main graph.
        functions: Names of functions.
    """

    nodes: frozenset[str]
    functions: frozenset[str]

    def holds(self, body: str, node: str) -> bool:
        """Tell whether it may touch a node of the function `body`, or of the main graph if that is empty."""
        return body in self.functions if body else node in self.nodes


def all_nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """Give every node of a GraphDef with the function that it stands in, "" for the main graph."""
    yield from (("", node) for node in graph.node)
    for function in graph.library.function:
        yield from ((function.signature.name, node) for node in function.node_def)


def called(node: Any) -> list[str]:
    """Return the names of functions that the attributes of a node give."""
    return [name for value in node.attr.values() for name in _functions(value)]


def reached(graph: Any, roots: Iterable[str]) -> Reach:
    """Return what a run may touch that fetches or targets `roots`, tensors or nodes of the main graph."""
    nodes = {node.name: node for node in graph.node}
    waiting = [node_name(root) for root in roots]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found.add(name)
            waiting += [node_name(tensor) for tensor in nodes[name].input]
    return Reach(frozenset(found), _functions_from(graph.library, [nodes[name] for name in found]))


def drop_uncalled(graph: Any) -> None:
    """Take the functions out of a GraphDef that none of its nodes leads to.

    Exports of models that hold other models keep all their functions, those that save and restore included.
    """
    library = graph.library
    kept = _functions_from(library, graph.node)
    for index in reversed(range(len(library.function))):
        if library.function[index].signature.name not in kept:
            del library.function[index]
    for index in reversed(range(len(library.gradient))):
        if library.gradient[index].function_name not in kept:
            del library.gradient[index]


def node_name(tensor: str) -> str:
    """Return the node of a tensor, or of a control input, of the main graph."""
    return tensor.removeprefix("^").partition(":")[0]


class Sources:
    """Where texts that name files come from.

    Args:
        graph: The GraphDef.
    """

    def __init__(self, graph: Any) -> None:
        self._bodies: dict[str, Mapping[str, Any]] = {"": {node.name: node for node in graph.node}}
        self._arguments: dict[str, list[str] | None] = {}
        for function in graph.library.function:
            self._bodies[function.signature.name] = {node.name: node for node in function.node_def}
            self._arguments[function.signature.name] = _argument_names(function)
        self._calls: dict[str, list[tuple[str, Any, int | None]]] = defaultdict(list)
        for body, node in all_nodes(graph):
            for name, first in _calls(node):
                self._calls[name].append((body, node, first))

    def all_in(self, fed: Collection[str], body: str, tensor: str) -> bool:
        """Tell whether every value that `tensor` in `body` may have is one of `fed` of the main graph.

        Only copies and arguments of calls are followed: what else makes a text may make any text.
        """
        waiting, seen, met = [(body, tensor)], set(), False
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            if not place[0] and full_name(place[1]) in fed:
                met = True
                continue
            before = self._before(*place)
            if not before:
                return False
            waiting += before
        return met

    def _before(self, body: str, tensor: str) -> list[tuple[str, str]]:
        """Return where the value of a tensor comes from; empty if that is not known."""
        arguments = self._arguments.get(body)
        if body and ":" not in tensor:
            if arguments is None or tensor not in arguments:
                return []
            index = arguments.index(tensor)
            found = [_given(caller, call, first, index) for caller, call, first in self._calls[body]]
            return [place for place in found if place] if all(found) else []
        node = self._bodies[body].get(node_name(tensor))
        return (
            [(body, str(node.input[0]))] if node is not None and node.op == "Identity" and node.input else []
        )


def full_name(tensor: str) -> str:
    """Return the name of a tensor of the main graph with its number, "node:0" for "node"."""
    return tensor if ":" in tensor else f"{tensor}:0"


def _given(body: str, call: Any, first: int | None, index: int) -> tuple[str, str] | None:
    """Return what a call in `body` gives as argument `index`; None if that is not known."""
    if first is None or first + index >= len(call.input):
        return None
    return body, str(call.input[first + index])


def _argument_names(function: Any) -> list[str] | None:
    """Return the names of a function's arguments.

    None where one of them stands for several tensors, or another function's arguments may be given to it.
    """
    arguments = function.signature.input_arg
    if _TWINS in function.attr or any(a.number_attr or a.type_list_attr for a in arguments):
        return None
    return [argument.name for argument in arguments]


def _calls(node: Any) -> Iterator[tuple[str, int | None]]:
    """Give each function that a node may call, with the input that is its first argument, None if unknown."""
    yield node.op, 0
    for attribute, value in node.attr.items():
        first = _FIRST_ARGUMENT.get((node.op, attribute))
        direct = [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
        for name in _functions(value):
            yield name, first if name in direct else None


def _functions(value: Any) -> Iterator[str]:
    """Give the names of functions in an attribute, those in the attributes of functions included."""
    for function in [value.func] if value.HasField("func") else value.list.func:
        yield function.name
        for inner in function.attr.values():
            yield from _functions(inner)


def _functions_from(library: Any, nodes: Iterable[Any]) -> frozenset[str]:
    """Return the functions that nodes call, those that these call, and those that may stand in for them."""
    functions = {function.signature.name: function for function in library.function}
    twins: dict[bytes, set[str]] = defaultdict(set)
    for name, function in functions.items():
        if _TWINS in function.attr:
            twins[function.attr[_TWINS].s].add(name)
    gradients = {gradient.function_name: gradient.gradient_func for gradient in library.gradient}
    waiting = [name for node in nodes for name in (node.op, *called(node))]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in functions or name in found:
            continue
        found.add(name)
        waiting += [
            called_name for node in functions[name].node_def for called_name in (node.op, *called(node))
        ]
        waiting.append(gradients.get(name, ""))
        if _TWINS in functions[name].attr:
            waiting += twins[functions[name].attr[_TWINS].s]
    return frozenset(found)
