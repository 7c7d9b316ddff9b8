"""TensorProto to numpy and back, without TensorFlow.

The rules are those of `Tensor::FromProto`: `tensor_content` must have exactly the bytes of the shape; typed
fields that are too short repeat their last value, none at all means zeros, and what is too long is cut.
Packed floats are written as one block of memory: value by value 32,000 of them take 0.9 ms, so 17 us.
"""

import math
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

__all__ = ["DTYPES", "MAX_REPEATED", "TensorError", "dtype_name", "fill", "from_proto", "to_proto"]

Array = np.ndarray[Any, Any]

MAX_REPEATED = 1 << 27
"""A few values may stand for at most so many elements: a short request must not fill the memory."""

DTYPES: Mapping[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_STRING: np.dtype(object),
    types_pb2.DT_COMPLEX64: np.dtype(np.complex64),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_UINT16: np.dtype(np.uint16),
    types_pb2.DT_COMPLEX128: np.dtype(np.complex128),
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
    types_pb2.DT_FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    types_pb2.DT_FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
}
"""TensorFlow's number of a type -> numpy's type; strings are objects that hold bytes."""

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
_FIELDS: Mapping[int, str] = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_STRING: "string_val",
}
_BLOCKS: Mapping[str, bytes] = {
    # field -> key of the packed field on the wire
    "float_val": b"\x2a",
    "double_val": b"\x32",
    "scomplex_val": b"\x4a",
    "dcomplex_val": b"\x62",
}
_BLOCK_FROM = 64
"""Fewer values than this are copied faster one by one."""


class TensorError(ValueError):
    """A TensorProto that is no tensor."""


@cache
def dtype_name(number: int) -> str:
    """Return TensorFlow's short name of a type, such as "float" or "int64"."""
    return str(types_pb2.DataType.Name(number)).removeprefix("DT_").lower()


def from_proto(proto: Any) -> Array:
    """Return the tensor in `proto`.

    Returns:
        An array of the proto's shape, possibly a read-only view of its bytes; strings as bytes objects.

    Raises:
        TensorError: If type, shape and content do not fit each other.
    """
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        raise TensorError(f"a tensor must have a known type. Received: {proto.dtype}")
    shape, size = _shape(proto.tensor_shape)
    content = proto.tensor_content
    if content:
        if dtype.hasobject:
            return _strings(content, size).reshape(shape)
        if len(content) != size * dtype.itemsize:
            raise TensorError(
                f"tensor_content must have {size * dtype.itemsize} bytes. Received: {len(content)}"
            )
        return np.frombuffer(content, dtype).reshape(shape)
    return _fitted(_typed(proto, dtype), size, dtype).reshape(shape)


def to_proto(array: Array, *, as_content: bool = False) -> Any:
    """Return `array` as a TensorProto.

    Args:
        array: Any array that a session returns.
        as_content: Put the values into `tensor_content` instead of the typed field.
    """
    proto = tensor_pb2.TensorProto()
    fill(proto, array, as_content=as_content)
    return proto


def fill(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """Write `array` into an empty TensorProto, as `to_proto` does."""
    number = _NUMBERS.get(array.dtype)
    if number is None:
        raise TensorError(f"an output must have a type that TensorProto can hold. Received: {array.dtype}")
    proto.dtype = number
    shape = proto.tensor_shape
    for size in array.shape:
        shape.dim.add().size = size
    if not array.ndim:
        shape.SetInParent()  # a scalar has a shape, too
    if number == types_pb2.DT_STRING:
        proto.string_val.extend(array.ravel().tolist())
        return
    field = _FIELDS.get(number)
    if as_content or field is None:
        proto.tensor_content = array.tobytes()
        return
    flat = np.ascontiguousarray(array).reshape(-1)
    if field in ("scomplex_val", "dcomplex_val"):
        flat = flat.view(flat.real.dtype)
    elif field == "half_val":
        flat = flat.view(np.uint16)
    block = _BLOCKS.get(field)
    if block is not None and flat.size >= _BLOCK_FROM and sys.byteorder == "little":
        proto.MergeFromString(block + _varint(flat.nbytes) + flat.tobytes())
    else:
        getattr(proto, field).extend(flat.tolist())


def _shape(shape: Any) -> tuple[tuple[int, ...], int]:
    if shape.unknown_rank:
        raise TensorError("a tensor must have a known rank. Received: unknown_rank")
    sizes = tuple([dim.size for dim in shape.dim])
    if sizes and min(sizes) < 0:
        raise TensorError(f"every size must be >= 0. Received: {sizes}")
    if len(sizes) > 32:
        raise TensorError(f"a tensor must have at most 32 dimensions. Received: {len(sizes)}")
    total = math.prod(sizes)
    return sizes, total


def _typed(proto: Any, dtype: np.dtype[Any]) -> Array:
    """Return the values of the typed field, one dimension, of the tensor's type."""
    field = _FIELDS.get(proto.dtype)
    if field is None:  # the eight-bit floats are a string of bytes
        return np.frombuffer(proto.float8_val, dtype)
    values = getattr(proto, field)
    if field == "string_val":
        found = np.empty(len(values), object)
        found[:] = values
        return found
    if field == "half_val":
        return np.fromiter(values, np.int64, len(values)).astype(np.uint16).view(dtype)
    if field in ("scomplex_val", "dcomplex_val"):
        parts = np.fromiter(values, dtype.type(0).real.dtype, len(values))
        return parts[: len(parts) // 2 * 2].view(dtype)
    if field == "int_val" and dtype.itemsize < 4:
        return np.fromiter(values, np.int64, len(values)).astype(dtype)
    return np.fromiter(values, dtype, len(values))


def _fitted(values: Array, size: int, dtype: np.dtype[Any]) -> Array:
    """Cut or extend `values` to `size` elements."""
    if len(values) == size:
        return values
    if len(values) > size:
        return values[:size]
    if size > MAX_REPEATED:
        raise TensorError(f"fewer values than elements may fill at most {MAX_REPEATED}. Received: {size}")
    if dtype.hasobject:
        full = np.full(size, b"" if not len(values) else values[-1], object)
    elif not len(values):
        return np.zeros(size, dtype)
    else:
        full = np.full(size, values[-1], dtype)
    full[: len(values)] = values
    return full


def _strings(content: bytes, size: int) -> Array:
    """Decode `size` strings: their lengths as varints, then their bytes."""
    at = 0
    lengths = []
    for _ in range(min(size, len(content) + 1)):
        length, at = _read_varint(content, at)
        lengths.append(length)
    if len(lengths) != size or at + sum(lengths) != len(content):
        raise TensorError(f"tensor_content must hold {size} strings. Received: {len(content)} bytes")
    found = np.empty(size, object)
    for index, length in enumerate(lengths):
        found[index] = content[at : at + length]
        at += length
    return found


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise TensorError("tensor_content must hold whole lengths. Received: one that does not end")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
