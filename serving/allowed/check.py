"""The rules that a graph must keep before it is loaded. Nothing is run, and no file of a model is opened."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from headrace.data.errors import HeadraceError

from .assets import INIT_SIGNATURE, asset_files, fed_files, held_files, initialisation, outside
from .attributes import bad_attributes
from .graph import Reach, Sources, all_nodes, called, drop_uncalled, full_name, reached
from .table import operators

__all__ = ["ForbiddenOps", "check_graph"]

_MOST_NAMED = 10

_READS = {"RestoreV2": 0, "Restore": 0, "RestoreSlice": 0}
"""Operators of the saver that read -> their input that names the file."""

_FILLS = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
"""Operators that read an asset -> their input that names it."""


class ForbiddenOps(HeadraceError):
    """The model holds operators, attributes or files that a served model must not have."""


@dataclass(frozen=True)
class _Runs:
    """What each run of a loaded model may touch."""

    save: Reach
    restore: Reach
    start: Reach
    answer: Reach


def check_graph(meta_graph: Any, folder: str, allow_ops: Collection[str] = ()) -> None:
    """Make sure that a graph keeps to its folder, and to operators that are known to.

    Args:
        meta_graph: The MetaGraphDef that is to be loaded.
        folder: Folder that it was read from.
        allow_ops: Operators, or `Operator.attribute`, to let pass wherever they stand.

    Functions that nothing calls are taken out of the graph.

    Raises:
        ForbiddenOps: If it does not.
    """
    if strangers := outside(folder, asset_files(meta_graph).values()):
        raise ForbiddenOps(
            f"every file of a model must lie in its folder. Received: {_some(strangers)} ({folder})"
        )
    found = dict(_everywhere(meta_graph.graph_def))
    drop_uncalled(meta_graph.graph_def)
    found |= dict(_Judge(meta_graph).misplaced())
    refused = [f"{name} ({reason})" for name, reason in sorted(found.items()) if name not in allow_ops]
    if refused:
        raise ForbiddenOps(
            "a served model must hold only operators that are known to keep to its folder and process. "
            f"Received: {_some(refused)} ({folder})",
            "allow_ops names operators that pass at your own risk: docs/security.md",
        )


def _everywhere(graph: Any) -> Iterator[tuple[str, str]]:
    """Give operators, attributes and functions that are refused wherever they stand, with the reason."""
    functions = {function.signature.name for function in graph.library.function}
    for _, node in all_nodes(graph):
        entry = operators().get(node.op)
        if entry is None and node.op not in functions:
            yield node.op, "not known"
        if entry is not None and entry.verdict == "refuse":
            yield node.op, entry.reason
        for name in bad_attributes(node):
            yield name, "names a file or an address"
        for name in called(node):
            if name not in functions:
                yield name, "is called, but no function of the model"


class _Judge:
    """Judges the operators of one graph that may stand in some places."""

    def __init__(self, meta_graph: Any) -> None:
        self._graph = meta_graph.graph_def
        self._sources = Sources(self._graph)
        self._runs = _runs(meta_graph)
        self._held = held_files(meta_graph)
        self._assets = fed_files(meta_graph)
        self._checkpoint = {full_name(meta_graph.saver_def.filename_tensor_name)}

    def misplaced(self) -> Iterator[tuple[str, str]]:
        """Give operators that stand where they must not, with the reason."""
        for body, node in all_nodes(self._graph):
            entry = operators().get(node.op)
            if entry is None:
                continue
            if entry.verdict == "saver" and not self._is_of_saver(body, node):
                yield node.op, f"{entry.reason}, outside the model's saver"
            if entry.verdict == "asset" and not self._is_asset(body, node):
                yield node.op, f"{entry.reason}, and not of an asset when the model starts"

    def _is_of_saver(self, body: str, node: Any) -> bool:
        runs = self._runs
        if node.op not in _READS:  # writes: in what no run of ours touches
            return runs.save.holds(body, node.name) and not self._runs_in(
                body, node, runs.restore, runs.start, runs.answer
            )
        return (
            runs.restore.holds(body, node.name)
            and not self._runs_in(body, node, runs.start, runs.answer)
            and self._is_fed(self._checkpoint, body, node, _READS[node.op])
        )

    def _is_asset(self, body: str, node: Any) -> bool:
        # A graph of tf.Transform fills its tables in its answers too, where only variables hold their files.
        runs, answers = self._runs, self._runs_in(body, node, self._runs.answer)
        return (
            (answers or runs.start.holds(body, node.name))
            and not self._runs_in(body, node, runs.restore)
            and self._is_fed(self._held if answers else self._assets, body, node, _FILLS[node.op])
        )

    def _runs_in(self, body: str, node: Any, *others: Reach) -> bool:
        return any(reach.holds(body, node.name) for reach in others)

    def _is_fed(self, fed: Collection[str], body: str, node: Any, index: int) -> bool:
        return index < len(node.input) and self._sources.all_in(fed, body, node.input[index])


def _runs(meta_graph: Any) -> _Runs:
    saver = meta_graph.saver_def
    answers = [_tensors(proto) for name, proto in meta_graph.signature_def.items() if name != INIT_SIGNATURE]

    def reach(*roots: str | None) -> Reach:
        return reached(meta_graph.graph_def, [root for root in roots if root])

    return _Runs(
        save=reach(saver.save_tensor_name),
        restore=reach(saver.restore_op_name),
        start=reach(initialisation(meta_graph)),
        answer=reach(*(name for names in answers for name in names)),
    )


def _tensors(signature: Any) -> list[str]:
    """Return every tensor that a signature's outputs name, the parts of sparse and composite ones too."""
    return [name for info in signature.outputs.values() for name in _names(info)]


def _names(info: Any) -> list[str]:
    parts = info.coo_sparse
    found = [info.name, parts.values_tensor_name, parts.indices_tensor_name, parts.dense_shape_tensor_name]
    return found + [name for part in info.composite_tensor.components for name in _names(part)]


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
