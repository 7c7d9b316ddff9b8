"""The commonest request of all, one row of plain values, into tensors: all numbers in one conversion.

Column by column, as longer requests are read, twelve columns take 55 us; so, they take 5 us.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .servable import Method

__all__ = ["quick_row"]

Array = np.ndarray[Any, Any]

_FLOAT = float(np.finfo(np.float32).max)
_WHOLE = 2**24 - 1
_INTS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def quick_row(row: Mapping[str, Any], method: Method) -> dict[str, Array] | None:
    """Return the tensors, each of shape [1], of a row of numbers and texts.

    Args:
        row: Input -> value, as JSON holds it.
        method: The signature.

    Returns:
        Input -> tensor, or None if the row has lists or objects, other inputs than the signature, or values
        that are not exactly of its types: whoever reads it then says why.
    """
    kinds = method.kinds
    if len(row) != len(kinds) or "b64" in row:
        return None
    found: dict[str, Array] = {}
    names: list[str] = []
    floats: list[float] = []
    for name, kind in kinds:
        value = row.get(name)
        of = type(value)
        if kind == "float":
            limit = _FLOAT if of is float else _WHOLE if of is int else -1
            if limit < 0 or not -limit <= value <= limit:  # type: ignore[operator]  # NaN is not
                return None
            names.append(name)
            floats.append(value)  # type: ignore[arg-type]
        elif kind == "string" and of is str:
            found[name] = text = np.empty(1, object)
            text[0] = value.encode("utf-8", "surrogateescape")  # type: ignore[union-attr]
        elif kind in _INTS and of is int:
            low, high = _INTS[kind]
            if not low <= value <= high:  # type: ignore[operator]
                return None
            found[name] = np.array([value], kind)
        else:
            return None
    if floats:
        block = np.array(floats, np.float64).astype(np.float32)  # by way of double, as upstream rounds
        for index, name in enumerate(names):
            found[name] = block[index : index + 1]
    return found
