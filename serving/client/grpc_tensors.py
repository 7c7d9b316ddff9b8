"""numpy to TensorProto and back, for a client: numbers travel in `tensor_content`."""

import math
import sys
from typing import Any

import numpy as np

from .messages import TYPES

__all__ = ["fill", "read"]

Array = np.ndarray[Any, Any]

_NUMBERS = {name: number for number, name in TYPES.items()}
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "object": "string_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "float16": "half_val",
}


def fill(proto: Any, array: Array) -> None:
    """Write `array` into an empty Tensor message.

    Raises:
        ValueError: If it is of a type that is not sent.
    """
    kind = "object" if array.dtype.kind in "OUS" else array.dtype.name
    if kind not in _NUMBERS:
        raise ValueError(f"a tensor must be of numbers, bool or strings. Received: {array.dtype}")
    proto.dtype = _NUMBERS[kind]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if not array.ndim:
        proto.tensor_shape.SetInParent()
    if kind == "object":
        values = array.ravel().tolist()
        proto.string_val.extend(
            [value if isinstance(value, bytes) else str(value).encode() for value in values]
        )
    else:
        little = array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("<"))
        proto.tensor_content = little.tobytes()


def read(proto: Any) -> Array:
    """Return the array in a Tensor message; strings as objects that hold bytes.

    Raises:
        ValueError: If type, shape and values do not fit each other.
    """
    kind = TYPES.get(proto.dtype)
    if kind is None:
        raise ValueError(f"an output must be of a known type. Received: {proto.dtype}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_content and kind != "object":
        return np.frombuffer(proto.tensor_content, np.dtype(kind).newbyteorder("<")).reshape(shape)
    values = getattr(proto, _FIELDS.get(kind, "int_val"))
    if kind == "object":
        found = np.empty(len(values), object)
        found[:] = list(values)
    elif kind == "float16":
        found = np.fromiter(values, np.uint16, len(values)).view(np.float16)
    else:
        found = np.fromiter(values, kind, len(values))
    size = math.prod(shape)
    if len(found) < size:  # a few values stand for many: the last one is repeated
        last = found[-1] if len(found) else (b"" if kind == "object" else 0)
        found = np.concatenate([found, np.full(size - len(found), last, found.dtype)])
    return found[:size].reshape(shape)
