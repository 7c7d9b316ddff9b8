"""Values and nested lists of JSON as tensors of one type.

Lists are flattened level by level and converted at once, at numpy's speed; where that does not work the first
fault is looked for and named.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from .errors import Code, ServingError
from .json_text import quote, type_name
from .servable import Argument
from .tensors import dtype_name

__all__ = ["RANGES", "decoded_base64", "is_base64", "tensor"]

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
_KINDS: Mapping[str, frozenset[type]] = {
    # type of a tensor -> types of JSON values that it takes
    "float": frozenset({int, float}),
    "double": frozenset({int, float}),
    "bool": frozenset({bool}),
    "string": frozenset({str, dict}),
    **dict.fromkeys(RANGES, frozenset({int})),
}
_MAX_DIMENSIONS = 32


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
    kind = dtype_name(argument.number)
    sizes = _sizes(value)
    flat = [value]
    for size in sizes:
        if set(map(type, flat)) - {list} or set(map(len, flat)) - {size}:
            _fault(value, 0, sizes, kind)
        flat = list(chain.from_iterable(flat))
    if list in map(type, flat):
        _fault(value, 0, sizes, kind)
    return _array(flat, kind, argument.dtype).reshape(sizes)


def _sizes(value: Any) -> list[int]:
    """Return the shape that the first value of every list tells."""
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        if len(sizes) > _MAX_DIMENSIONS:
            raise _invalid(f"a tensor must have at most {_MAX_DIMENSIONS} dimensions. Received: more")
        value = value[0] if value else None
    return sizes


def _fault(value: Any, level: int, sizes: Sequence[int], kind: str) -> None:
    """Raise for the first part of a nested list that is out of place or of another type."""
    rank = len(sizes)
    if not isinstance(value, list):
        if level != rank:
            raise _invalid(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        _check([value], kind)
        if isinstance(value, dict):
            decoded_base64(value)
        return
    if level >= rank:
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != sizes[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{sizes[level]}"
        )
    for item in value:
        _fault(item, level + 1, sizes, kind)


def _array(flat: list[Any], kind: str, dtype: np.dtype[Any]) -> Array:
    """Return values of JSON as elements of type `kind`, [n]."""
    _check(flat, kind)
    if kind == "string":
        found = np.empty(len(flat), object)
        found[:] = [_as_bytes(value) for value in flat]
        return found
    if kind not in ("float", "double"):
        return np.array(flat, np.int64 if dtype.itemsize < 4 else dtype).astype(dtype)
    with np.errstate(over="ignore"):  # what a float cannot hold becomes infinite, by way of double
        return np.array(flat, np.float64).astype(dtype)


def _check(flat: list[Any], kind: str) -> None:
    """Raise for the first of some values that is no element of type `kind`."""
    allowed = _KINDS.get(kind)
    if allowed is None:
        for value in flat:
            _refuse(value, kind, unknown=not isinstance(value, dict))
        return
    if set(map(type, flat)) - allowed:
        for value in flat:
            if type(value) not in allowed:
                _refuse(value, kind)
            if type(value) is dict:
                decoded_base64(value)
    if kind in RANGES and flat:
        low, high = RANGES[kind]
        if min(flat) < low or max(flat) > high:
            _refuse(next(value for value in flat if not low <= value <= high), kind)


def _refuse(value: Any, kind: str, *, unknown: bool = False) -> NoReturn:
    if unknown:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {quote(value)} to type: {kind}")
    raise _invalid(f"JSON Value: {quote(value)} Type: {type_name(value)} is not of expected type: {kind}")


def _as_bytes(value: Any) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else decoded_base64(value)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
