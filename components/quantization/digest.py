"""What a model is, as one digest: what it computes and with which values, whatever its files look like.

A model that is exported or converted twice has other files each time: names of functions count up, and
checkpoints hold what a training left behind. Two models with the same digest answer alike.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from headrace.data.sums import file_entries

from . import flatbuffer

__all__ = ["flatbuffer_digest", "saved_model_digest"]

_NO_MEANING = {"shared_name", "container", "config", "config_proto", "executor_type"}
"""Attributes of operators that name things or say where they run; so do all that start with "_"."""

_NAMES = {"TensorT": {"name", "buffer"}, "OperatorT": {"opcodeIndex", "inputs", "outputs", "intermediates"}}
"""Fields of a flatbuffer that name things, or point to what is followed."""


def saved_model_digest(folder: str | Path, weights: str = "") -> str:
    """Return the digest of a SavedModel's signatures, constants and assets.

    Args:
        folder: Where saved_model.pb is.
        weights: Digest of the values of its variables.
    """
    saved = saved_model_pb2.SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    functions = _Functions(graph.graph_def.library.function)
    inputs = {
        _node_of(tensor.name): f"{key} input {name}"
        for key, signature in graph.signature_def.items()
        for name, tensor in signature.inputs.items()
    }
    nodes = _Nodes({node.name: node for node in graph.graph_def.node}, inputs, functions)
    parts = [weights]
    for key, signature in sorted(graph.signature_def.items()):
        for name, tensor in sorted(signature.inputs.items()):
            parts.append(f"{key} takes {name} {tensor.dtype} {_shape(tensor.tensor_shape)}")
        for name, tensor in sorted(signature.outputs.items()):
            parts.append(f"{key} gives {name} {tensor.dtype} {nodes.of(tensor.name)}")
    assets = sorted(entry.sha256 for entry in file_entries(Path(folder, "assets")))
    return _hash([*parts, *assets])


def flatbuffer_digest(content: bytes) -> str:
    """Return the digest of a TF Lite model's signatures, operators and constants."""
    model = flatbuffer.read(content)
    tensors = [_tensors(model, graph) for graph in model.subgraphs]
    parts = []
    for graph, found in zip(model.subgraphs, tensors, strict=True):
        parts += [*(found[int(index)] for index in graph.inputs), "gives"]
        parts += [found[int(index)] for index in graph.outputs]
    for signature in model.signatureDefs or ():
        found = tensors[signature.subgraphIndex]
        maps = [(one.name, found[int(one.tensorIndex)]) for one in (*signature.inputs, *signature.outputs)]
        parts.append(f"{signature.signatureKey} {maps}")
    return _hash(parts)


def _tensors(model: Any, graph: Any) -> list[str]:
    """Return the digest of all that leads to each tensor; the order of tensors makes no difference."""
    found = [f"{_plain(tensor)} {_plain(model.buffers[tensor.buffer].data)}" for tensor in graph.tensors]
    for number, index in enumerate(graph.inputs):
        found[int(index)] += f" input {number}"
    for operator in graph.operators:  # in order of execution
        inputs = [found[int(index)] if index >= 0 else "none" for index in operator.inputs]
        digest = _hash([_plain(model.operatorCodes[operator.opcodeIndex]), _plain(operator), *inputs])
        for number, index in enumerate(operator.outputs):
            found[int(index)] = f"{digest}:{number} {found[int(index)]}"
    return [_hash([text]) for text in found]


class _Functions:
    """Digests of the functions of a library, by name."""

    def __init__(self, functions: Iterable[Any]) -> None:
        self._functions = {function.signature.name: function for function in functions}
        self._found: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the digest of what a function computes; its name and those in it make no difference."""
        if name not in self._found:
            self._found[name] = "recursive"  # until it is known
            function = self._functions[name]
            arguments = {
                argument.name: f"argument {number} {argument.type}"
                for number, argument in enumerate(function.signature.input_arg)
            }
            nodes = _Nodes({node.name: node for node in function.node_def}, arguments, self)
            outputs = [nodes.of(function.ret[output.name]) for output in function.signature.output_arg]
            effects = sorted(nodes.of(node) for node in function.control_ret.values())
            self._found[name] = _hash([*outputs, "effects", *effects])
        return self._found[name]


class _Nodes:
    """Digests of the nodes of one graph, by reference: "node", "node:0", "node:output:0" or "^node"."""

    def __init__(self, nodes: Mapping[str, Any], arguments: Mapping[str, str], functions: _Functions) -> None:
        self._nodes, self._arguments, self._functions = nodes, arguments, functions
        self._found: dict[str, str] = {}

    def of(self, reference: str) -> str:
        """Return the digest of all that leads to `reference`."""
        name, _, output = reference.removeprefix("^").partition(":")
        if name in self._arguments:
            return self._arguments[name]
        waiting = [] if name in self._found else [name]
        while waiting:  # graphs are too deep to recurse into
            node = self._nodes[waiting[-1]]
            needed = {_node_of(one) for one in node.input} - self._arguments.keys()
            if missing := sorted(needed - self._found.keys()):
                self._found[node.name] = "loop"  # until it is known
                waiting += missing
            else:
                self._found[waiting.pop()] = self._digest(node)
        return f"{self._found[name]}:{output}"

    def _digest(self, node: Any) -> str:
        data = [self.of(one) for one in node.input if not one.startswith("^")]
        after = sorted(self.of(one) for one in node.input if one.startswith("^"))
        kept = [key for key in sorted(node.attr) if key not in _NO_MEANING and not key.startswith("_")]
        attributes = [f"{key}={self._value(node.attr[key])}" for key in kept]
        return _hash([node.op, *attributes, "inputs", *data, "after", *after])

    def _value(self, value: Any) -> str:
        if value.HasField("func"):
            return self._functions.of(value.func.name)
        if value.HasField("list") and value.list.func:
            return _hash(self._functions.of(function.name) for function in value.list.func)
        return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()


def _node_of(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]


def _shape(shape: Any) -> str:
    return "unknown" if shape.unknown_rank else str([dimension.size for dimension in shape.dim])


def _plain(value: Any) -> str:
    """Return a value of a flatbuffer as text, without what only names things."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(f"{value.dtype} {value.shape} ".encode() + value.tobytes()).hexdigest()
    if isinstance(value, list):
        return str([_plain(item) for item in value])
    if hasattr(value, "__dict__"):
        kind = type(value).__name__
        fields = sorted(vars(value).items())
        return f"{kind} {[(key, _plain(item)) for key, item in fields if key not in _NAMES.get(kind, ())]}"
    return repr(value)


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()
