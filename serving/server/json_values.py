"""Values and nested lists of JSON as tensors of one type.

What is well formed is converted list by list, at numpy's speed; anything else is walked through value by
value, to name the first fault in upstream's words.
"""

import base64
import binascii
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from .errors import Code, ServingError
from .json_text import quote, type_name
from .servable import Argument
from .tensors import dtype_name

__all__ = ["RANGES", "chunks", "decoded_base64", "is_base64", "quick", "tensor"]

Array = np.ndarray[Any, Any]

_INT32 = (-(2**31), 2**31 - 1)
RANGES: Mapping[str, tuple[int, int]] = {
    # Small types take any 32-bit number and keep its low bits, as TensorProto's int_val does.
    "int8": _INT32,
    "uint8": _INT32,
    "int16": _INT32,
    "int32": _INT32,
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOATS = {
    # type -> (largest number, largest whole number)
    "float": (float(np.finfo(np.float32).max), 2**24 - 1),
    "double": (float(np.finfo(np.float64).max), 2**53 - 1),
}
_MAX_DIMENSIONS = 32
_CHUNK = 1024


def is_base64(value: Any) -> bool:
    """Return whether a value is `{"b64": <string>}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decoded_base64(value: Any) -> bytes:
    """Return the bytes of `{"b64": <string>}`, in the plain alphabet, with or without its padding.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if not is_base64(value):
        raise _invalid(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    body = text.rstrip("=")
    padded = len(text) - len(body)
    try:
        if padded and (len(text) % 4 or padded > 2):
            raise binascii.Error
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except ValueError as error:
        raise _invalid("Unable to base64 decode") from error


def tensor(value: Any, argument: Argument) -> Array:
    """Return a value or nested list as a tensor.

    Raises:
        ServingError: INVALID_ARGUMENT or UNIMPLEMENTED, naming the first value that does not fit.
    """
    if isinstance(value, list):
        whole = quick(value, argument)
        if whole is not None:
            return whole
    sizes: list[int] = []
    inner = value
    while isinstance(inner, list):
        sizes.append(len(inner))
        if len(sizes) > _MAX_DIMENSIONS:
            raise _invalid(f"a tensor must have at most {_MAX_DIMENSIONS} dimensions. Received: more")
        if not inner:
            break
        inner = inner[0]
    kind = dtype_name(argument.number)
    found: list[Any] = []
    _fill(value, 0, sizes, kind, found)
    return _array(found, kind, argument.dtype).reshape(sizes)


def _fill(value: Any, level: int, sizes: Sequence[int], kind: str, found: list[Any]) -> None:
    """Append the values of a nested list, or raise for the first one that is out of place."""
    rank = len(sizes)
    if not isinstance(value, list):
        if level != rank:
            raise _invalid(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        found.append(_converter(kind)(value))
        return
    if level >= rank:
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != sizes[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{sizes[level]}"
        )
    for _, chunk in chunks(value) if level + 1 == rank else ():
        leaves = _leaves(chunk, kind)
        if leaves is not None:
            found.extend(leaves)
            continue
        for item in chunk:
            _fill(item, level + 1, sizes, kind, found)
    for item in value if level + 1 < rank else ():
        _fill(item, level + 1, sizes, kind, found)


def _converter(kind: str) -> Callable[[Any], Any]:
    """Return what turns one JSON value into one element of type `kind`."""
    if kind in _FLOATS:
        return lambda value: _as_float(value, kind)
    if kind in RANGES:
        return lambda value: _as_integer(value, kind)
    if kind == "bool":
        return lambda value: value if isinstance(value, bool) else _refuse(value, kind)
    if kind == "string":
        return _as_bytes
    return lambda value: _refuse(value, kind) if isinstance(value, dict) else _unknown(value, kind)


def _refuse(value: Any, kind: str) -> Any:
    raise _invalid(f"JSON Value: {quote(value)} Type: {type_name(value)} is not of expected type: {kind}")


def _unknown(value: Any, kind: str) -> Any:
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {quote(value)} to type: {kind}")


def _as_float(value: Any, kind: str) -> float:
    if type(value) not in (int, float):
        _refuse(value, kind)
    largest, whole = _FLOATS[kind]
    lossy = abs(value) > (whole if isinstance(value, int) else largest) and math.isfinite(value)
    if lossy:
        raise _invalid(f"Cannot convert JSON value: {quote(value)} to {kind} without loss of precision.")
    return float(value)


def _as_integer(value: Any, kind: str) -> int:
    low, high = RANGES[kind]
    if type(value) is not int or not low <= value <= high:
        _refuse(value, kind)
    return int(value)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return decoded_base64(value)
    return bytes(_refuse(value, "string"))


def quick(value: list[Any], argument: Argument) -> Array | None:
    """Convert a nested list whose lists have equal lengths and whose values all fit; None if not."""
    sizes = [len(value)]
    flat = value
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list} or len(sizes) >= _MAX_DIMENSIONS:
            return None
        lengths = set(map(len, flat))
        if len(lengths) > 1:
            return None
        sizes.append(lengths.pop())
        flat = list(chain.from_iterable(flat))
    kind = dtype_name(argument.number)
    if kind in _FLOATS:
        numbers = _floats(flat, kind)
        return None if numbers is None else numbers.astype(argument.dtype).reshape(sizes)
    leaves = _leaves(flat, kind)
    return None if leaves is None else _array(leaves, kind, argument.dtype).reshape(sizes)


def chunks(values: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Cut a long list, each part with its start, so that one odd value does not slow down all."""
    if len(values) <= 2 * _CHUNK:
        yield 0, values
        return
    for start in range(0, len(values), _CHUNK):
        yield start, values[start : start + _CHUNK]


def _leaves(flat: list[Any], kind: str) -> list[Any] | None:
    """Return values that all fit a type, as its elements; None if any does not, or if there is none."""
    if kind in _FLOATS:
        return None if _floats(flat, kind) is None else flat
    types = set(map(type, flat))
    if kind in RANGES:
        low, high = RANGES[kind]
        return flat if types == {int} and low <= min(flat) and max(flat) <= high else None
    if kind == "bool":
        return flat if types == {bool} else None
    if kind != "string" or not types or not types <= {str, dict}:
        return None
    if dict not in types:
        return [text.encode("utf-8", "surrogateescape") for text in flat]
    try:
        return list(map(_as_bytes, flat))
    except ServingError:
        return None


def _floats(flat: list[Any], kind: str) -> Array | None:
    """Return numbers as float64, if all can be held by `kind` without loss."""
    types = set(map(type, flat))
    if not types or not types <= {int, float}:
        return None
    largest, whole = _FLOATS[kind]
    array = np.array(flat, np.float64)
    sizes = np.abs(array)
    if (sizes <= (largest if int not in types else whole)).all():
        return array
    # NaN, infinities, and decimal numbers above the largest whole one, are rare but in order.
    if ((sizes > largest) & np.isfinite(array)).any():
        return None
    integers = [value for value in flat if type(value) is int]
    return array if not integers or max(max(integers), -min(integers)) <= whole else None


def _array(flat: list[Any], kind: str, dtype: np.dtype[Any]) -> Array:
    if kind == "string":
        found = np.empty(len(flat), object)
        found[:] = flat
        return found
    if dtype.itemsize < 4 and kind in RANGES:
        return np.asarray(flat, np.int64).astype(dtype)
    if kind == "float":  # by way of double, as upstream rounds
        return np.asarray(flat, np.float64).astype(dtype)
    return np.asarray(flat, dtype)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
