"""The mark by which a server may put rows of different clients into one run, written with a model."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.parity.tolerance import TOLERANCE, max_relative_difference
from headrace.data.errors import HeadraceError
from headrace.serving.row_mark import ROW_MARK, read_row_mark, row_mark

from .graph import dependent_signatures

__all__ = ["copy_mark", "extreme_rows", "largest_difference", "mark_rows"]

Array = np.ndarray[Any, Any]

_GOLDEN_ROWS = 16
_EXTREMES = (1e6, -1e6, float("nan"))
_LONGEST_TEXT = b"x" * 10_000
_SIGNATURE = "serving_raw"


def mark_rows(path: str, columns: Mapping[str, Array], types: Mapping[str, str], stated: bool | None) -> str:
    """Find out which signatures of a SavedModel answer each row by itself, check it, and write the mark.

    The graph is the proof; golden rows beside extreme ones are a check of it.

    Args:
        path: Folder of the SavedModel.
        columns: Column -> golden values, for the signature `serving_raw`.
        types: Column -> its type.
        stated: What a family of the user's own says of itself, which stands for the proof; None for others.

    Returns:
        A sentence on what was found.

    Raises:
        HeadraceError: If a model that says that its rows are independent answers some otherwise among others.
    """
    reasons = dependent_signatures(path)
    if stated is not None:
        text = "" if stated else "`row_independent` is false"
        reasons = dict.fromkeys(reasons, text)
    proven = [name for name, reason in reasons.items() if not reason]
    if _SIGNATURE not in proven:
        return f"requests to a server share no run: {reasons.get(_SIGNATURE, 'it has no such signature')}"
    difference = largest_difference(path, extreme_rows(columns, types))
    if not difference <= TOLERANCE:
        found = f"a row is answered otherwise among others, by {difference:.3g}"
        if stated:
            rule = "`model.row_independent: true` needs rows that do not see each other"
            raise HeadraceError(f"{rule}. Received: {found}")
        return f"requests to a server share no run: {found}"
    _write(path, proven)
    return "requests to a server may share a run: each row is answered by itself"


def copy_mark(source: str, path: str) -> None:
    """Give the same model with other weights the mark of `source`."""
    marked = read_row_mark(source)
    if marked:
        _write(path, marked)


def extreme_rows(columns: Mapping[str, Array], types: Mapping[str, str]) -> dict[str, Array]:
    """Return some golden rows and some of very large, missing and long values."""
    found = {}
    for name, values in columns.items():
        golden = values[:_GOLDEN_ROWS]
        more = np.repeat(golden[:1], len(_EXTREMES), axis=0)
        if types[name] == "string":
            more[:] = _LONGEST_TEXT
        elif types[name] != "image":
            more[:] = np.reshape(_EXTREMES, [-1, *[1] * (more.ndim - 1)])
        found[name] = np.concatenate([golden, more])
    return found


def largest_difference(path: str, columns: Mapping[str, Array]) -> float:
    """Return by how much an answer to a row among others differs from that to the row alone.

    Args:
        path: Folder of the SavedModel.
        columns: Input of `serving_raw` -> values `[rows, ...]`.
    """
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], path)
        signature = meta_graph.signature_def[_SIGNATURE]
        outputs = {name: info.name for name, info in signature.outputs.items() if name != "classes"}

        def ask(part: slice) -> Any:
            return session.run(outputs, {signature.inputs[n].name: v[part] for n, v in columns.items()})

        together = ask(slice(None))
        rows = [ask(slice(at, at + 1)) for at in range(len(next(iter(columns.values()))))]
    alone = {name: np.concatenate([row[name] for row in rows]) for name in outputs}
    return max(_difference(alone[name], together[name]) for name in outputs)


def _difference(alone: Array, together: Array) -> float:
    """As `max_relative_difference`, but what is not finite in both alike is equal."""
    same = (alone == together) | (np.isnan(alone) & np.isnan(together))
    return max_relative_difference(np.where(same, 0.0, alone), np.where(same, 0.0, together))


def _write(path: str, signatures: Any) -> None:
    place = os.path.join(path, ROW_MARK)
    tf.io.gfile.makedirs(os.path.dirname(place))
    with tf.io.gfile.GFile(place, "w") as stream:
        stream.write(json.dumps(row_mark(signatures)) + "\n")
