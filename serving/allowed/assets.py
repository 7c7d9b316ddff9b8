"""How a model starts: the node that is run, and the files that it is given, which must lie in its folder."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2

from .graph import all_nodes, full_name

__all__ = ["INIT_SIGNATURE", "asset_files", "fed_files", "feeds", "held_files", "initialisation", "outside"]

INIT_SIGNATURE = "__saved_model_init_op"

_V1_ASSETS = "saved_model_assets"
_V1_INITIALISATIONS = ("saved_model_main_op", "legacy_init_op")
_READS = ("ReadVariableOp", "VarIsInitializedOp")


def initialisation(meta_graph: Any) -> str | None:
    """Return the node or tensor that is run when the model starts; that of the signature goes before v1's.

    Raises:
        ValueError: If v1's collection does not name exactly one.
    """
    if INIT_SIGNATURE in meta_graph.signature_def:
        return str(meta_graph.signature_def[INIT_SIGNATURE].outputs[INIT_SIGNATURE].name)
    for key in _V1_INITIALISATIONS:
        if key in meta_graph.collection_def:
            (name,) = meta_graph.collection_def[key].node_list.value
            return str(name)
    return None


def asset_files(meta_graph: Any) -> dict[str, str]:
    """Return the tensors of a MetaGraphDef that are fed with files, and the names of the files in assets/."""
    found = meta_graph.asset_file_def
    if not found and _V1_ASSETS in meta_graph.collection_def:
        found = [_unpacked(packed) for packed in meta_graph.collection_def[_V1_ASSETS].any_list.value]
    return {full_name(asset.tensor_info.name): asset.filename for asset in found}


def fed_files(meta_graph: Any) -> dict[str, str]:
    """Return every tensor that is given a file when the model starts, and the names of the files in assets/.

    Besides those that the model names, these are reads of variables that hold such a name: TensorFlow 2 puts
    a variable between a file and its table. What is fed cannot come from anywhere else.
    """
    files = asset_files(meta_graph)
    held: dict[str, set[str]] = defaultdict(set)
    for node in meta_graph.graph_def.node:
        if node.op == "AssignVariableOp" and len(node.input) > 1 and full_name(node.input[1]) in files:
            held[node.input[0]].add(files[full_name(node.input[1])])
    for node in meta_graph.graph_def.node:
        if node.op == "ReadVariableOp" and node.input and len(held.get(node.input[0], ())) == 1:
            (files[full_name(node.name)],) = held[node.input[0]]
    return files


def held_files(meta_graph: Any) -> dict[str, str]:
    """Return the reads of variables that hold files of the model, and the names of these in assets/.

    In answers nothing is fed. A variable counts there if it is given one file when the model starts, and
    nothing else can write it: no second handle of its name, and no use of the handle but that assignment,
    reads, and the question whether it is initialised.
    """
    files, handles = asset_files(meta_graph), _single_handles(meta_graph.graph_def)
    uses: dict[str, list[Any]] = defaultdict(list)
    for node in meta_graph.graph_def.node:
        for tensor in {full_name(tensor) for tensor in node.input} & handles:
            uses[tensor].append(node)
    found: dict[str, str] = {}
    for handle, nodes in uses.items():
        written = [files.get(full_name(node.input[1]), "") for node in nodes if _assigns(node, handle)]
        if len(written) == 1 and written[0] and all(_assigns(n, handle) or n.op in _READS for n in nodes):
            found |= {full_name(node.name): written[0] for node in nodes if node.op == "ReadVariableOp"}
    return found


def feeds(meta_graph: Any) -> dict[str, str]:
    """Return what to feed when the model starts: `fed_files`, but no reads of variables that hold their file.

    A read that is fed does not wait for the assignment before it, and answers read the variable again.
    """
    held = held_files(meta_graph)
    return {tensor: name for tensor, name in fed_files(meta_graph).items() if tensor not in held}


def _single_handles(graph: Any) -> set[str]:
    """Return the handles in the main graph of variables that have no other handle anywhere."""
    named: dict[tuple[bytes, bytes], list[tuple[str, str]]] = defaultdict(list)
    for body, node in all_nodes(graph):
        if node.op == "VarHandleOp":
            shared = node.attr["shared_name"].s or node.name.encode()
            named[node.attr["container"].s, shared].append((body, node.name))
    alone = [places[0] for places in named.values() if len(places) == 1]
    return {full_name(name) for body, name in alone if not body}


def _assigns(node: Any, handle: str) -> bool:
    inputs = [full_name(tensor) for tensor in node.input if not tensor.startswith("^")]
    return node.op == "AssignVariableOp" and len(inputs) == 2 and inputs[0] == handle != inputs[1]


def outside(folder: str, assets: Iterable[str]) -> list[str]:
    """Return what of a model folder lies outside it: assets by their names, links by where they lead."""
    root = os.path.realpath(folder)
    names = [name for name in assets if not _is_inside(name)]
    links = [path for path in _links(root) if not _below(root, os.path.realpath(path))]
    return sorted(names) + sorted(os.path.relpath(path, root) for path in links)


def _unpacked(packed: Any) -> Any:
    asset = meta_graph_pb2.AssetFileDef()
    packed.Unpack(asset)
    return asset


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in name


def _links(root: str) -> Iterator[str]:
    for base, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(base, name)
            if os.path.islink(path):
                yield path


def _below(root: str, path: str) -> bool:
    return os.path.commonpath([root, path]) == root
