"""Tensors in JSON: requests in row or column form into arrays, arrays into answers.

The rules and the words are those of TensorFlow Serving's REST API. What is well formed is converted list by
list, at numpy's speed; anything else is walked through value by value, to name the first fault.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from .errors import Code, ServingError
from .json_rows import quick_row
from .json_text import parse, quote, type_name
from .servable import Argument, Method
from .tensors import DTYPES, dtype_name

__all__ = ["Request", "decoded_base64", "is_base64", "predict_inputs", "predict_request", "write_outputs"]

Array = np.ndarray[Any, Any]

_INT32 = (-(2**31), 2**31 - 1)
_RANGES: Mapping[str, tuple[int, int]] = {
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
_WRITTEN = {*_RANGES, *_FLOATS, "bool", "string"}
_MAX_DIMENSIONS = 32
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """The members of a request that are read before its signature is known.

    Attributes:
        document: The JSON object.
        signature: Name of the signature; empty for the default.
    """

    document: dict[str, Any]
    signature: str


def predict_request(body: bytes) -> Request:
    """Read the body of a predict, classify or regress request.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is no JSON object, or its signature name no string.
    """
    document = parse(body)
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise _invalid(
            f"JSON Value: {quote(document)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return Request(document, signature)


def predict_inputs(request: Request, method: Method) -> tuple[dict[str, Array], bool]:
    """Return the tensors of a predict request, and whether it has the row form.

    Raises:
        ServingError: With upstream's code and text.
    """
    document = request.document
    if not method.inputs:
        raise _invalid(f"Failed to get input map for signature: {request.signature or 'DEFAULT'}")
    if "instances" in document:
        if "inputs" in document:
            raise _invalid(
                f"JSON Value: {quote(document)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist "
            )
        rows = document["instances"]
        if not isinstance(rows, list):
            raise _invalid(f"JSON Value: {quote(document)} Excepting 'instances' to be an list/array")
        if not rows:
            raise _invalid(f"JSON Value: {quote(document)} No values in 'instances' array")
        one = quick_row(rows[0], method) if len(rows) == 1 and isinstance(rows[0], dict) else None
        return one or _quick_rows(rows, method) or _rows(rows, method), True
    if "inputs" in document:
        return _columns(document["inputs"], method), False
    raise _invalid("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Mapping[str, Array], rows: bool) -> bytes:
    """Return the answer to a predict request.

    Args:
        outputs: Alias -> array. A single one is written without its name.
        rows: Write one object or value for each row, under "predictions", instead of whole tensors.

    Raises:
        ServingError: INVALID_ARGUMENT, if a type or shape cannot be written so.
    """
    if not outputs:
        raise _invalid("Cannot convert empty tensor map to JSON")
    if rows:
        _check_rows(outputs)
    finite = True
    columns: dict[str, Any] = {}
    for name in sorted(outputs):
        array = outputs[name]
        number = _NUMBERS.get(array.dtype)
        kind = str(array.dtype) if number is None else dtype_name(number)
        if kind not in _WRITTEN and array.size:
            raise _invalid(f"Failed to write JSON value for tensor type: {kind}")
        if kind == "string":
            columns[name] = _texts(array, name.endswith("_bytes"))
        else:
            finite = finite and (kind not in _FLOATS or bool(np.isfinite(array).all()))
            columns[name] = np.ascontiguousarray(array) if array.ndim else array[()]
    if not finite:
        columns = {name: _listed(column) for name, column in columns.items()}
    key = "predictions" if rows else "outputs"
    if len(columns) == 1:
        (answer,) = columns.values()
    elif rows:
        names = list(columns)
        answer = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        answer = columns
    if finite:
        return orjson.dumps({key: answer}, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps({key: answer}, ensure_ascii=False).encode("utf-8")


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


def _columns(value: Any, method: Method) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(method.inputs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        ((name, argument),) = method.inputs.items()
        return {name: _tensor(value, argument)}
    found = {}
    for name, argument in method.inputs.items():
        if name not in value:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        found[name] = _tensor(value[name], argument)
    return found


def _quick_rows(rows: list[Any], method: Method) -> dict[str, Array] | None:
    """Convert rows that are in order; None if any is not."""
    names = list(method.inputs)
    first = rows[0]
    if not isinstance(first, dict) or is_base64(first):
        if len(names) > 1:
            return None
        if isinstance(first, dict):
            columns: list[list[Any]] = [rows]
        elif dict in set(map(type, rows)):
            return None
        else:
            columns = [rows]
    else:
        if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(names)}:
            return None
        if len(names) == 1 and any(map(is_base64, rows)):
            return None
        try:
            columns = [[row[name] for row in rows] for name in names]
        except KeyError:
            return None
    found: dict[str, Array] = {}
    for name, column in zip(names, columns, strict=True):
        array = _quick(column, method.inputs[name])
        if array is None:
            return None
        found[name] = array
    return found


def _rows(rows: list[Any], method: Method) -> dict[str, Array]:
    """Convert rows one by one, in upstream's order of checks."""
    inputs = method.inputs
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    objects = isinstance(rows[0], dict) and not is_base64(rows[0])
    parts: dict[str, list[Array]] = {}
    for index, row in enumerate(rows):
        plain = not isinstance(row, dict) or is_base64(row)
        if objects and plain:
            raise _invalid(f"Expecting object but got list at item {index} of input list")
        if not objects and not plain:
            raise _invalid(f"Expecting value/list but got object at item {index} of input list")
        items = row if objects else {next(iter(inputs)): row}
        for name, item in items.items():
            try:
                _add_item(parts, name, item, inputs)
            except ServingError as error:
                key = f" key: {name}" if objects else ""
                raise _invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: "
                    f"{error.code.name}: {error.message}"
                ) from error
        if objects and set(row) != set(inputs):
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {quote(row)} must "
                f"only have keys: {','.join(sorted(inputs))}"
            )
    return {name: np.stack(arrays) for name, arrays in parts.items()}


def _add_item(parts: dict[str, list[Array]], name: str, item: Any, inputs: Mapping[str, Argument]) -> None:
    if name not in inputs:
        raise _invalid(f"JSON object: does not have named input: {name}")
    array = _tensor(item, inputs[name])
    held = parts.setdefault(name, [])
    if held and held[0].size != array.size:
        raise _invalid(f"Expecting tensor size: {held[0].size} but got: {array.size}")
    if held and held[0].shape != array.shape:
        raise _invalid(f"Expecting shape {_shape_text(held[0])} but got: {_shape_text(array)}")
    held.append(array)


def _tensor(value: Any, argument: Argument) -> Array:
    """Return a value or nested list as a tensor.

    Raises:
        ServingError: INVALID_ARGUMENT or UNIMPLEMENTED, naming the first value that does not fit.
    """
    if isinstance(value, list):
        quick = _quick(value, argument)
        if quick is not None:
            return quick
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
    _fill(value, 0, sizes, _converter(kind), found)
    return _array(found, kind, argument.dtype).reshape(sizes)


def _fill(
    value: Any, level: int, sizes: Sequence[int], convert: Callable[[Any], Any], found: list[Any]
) -> None:
    rank = len(sizes)
    if not isinstance(value, list):
        if level != rank:
            raise _invalid(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        found.append(convert(value))
        return
    if level >= rank:
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != sizes[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{sizes[level]}"
        )
    for item in value:
        _fill(item, level + 1, sizes, convert, found)


def _converter(kind: str) -> Callable[[Any], Any]:
    """Return what turns one JSON value into one element of type `kind`."""
    if kind in _FLOATS:
        return lambda value: _as_float(value, kind)
    if kind in _RANGES:
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
    low, high = _RANGES[kind]
    if type(value) is not int or not low <= value <= high:
        _refuse(value, kind)
    return int(value)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return decoded_base64(value)
    return bytes(_refuse(value, "string"))


def _quick(value: list[Any], argument: Argument) -> Array | None:
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
    types = set(map(type, flat))
    if kind == "string":
        if types == {str}:
            return _array(
                [text.encode("utf-8", "surrogateescape") for text in flat], kind, argument.dtype
            ).reshape(sizes)
        return None
    if kind in _FLOATS:
        numbers = _floats(flat, types, kind)
        return None if numbers is None else numbers.astype(argument.dtype).reshape(sizes)
    if not flat or (types != {bool} if kind == "bool" else not _fitting(flat, types, kind)):
        return None
    return _array(flat, kind, argument.dtype).reshape(sizes)


def _fitting(flat: list[Any], types: set[type], kind: str) -> bool:
    """Return whether every whole number is in the range of its type."""
    if kind not in _RANGES or types != {int}:
        return False
    low, high = _RANGES[kind]
    return low <= min(flat) and max(flat) <= high


def _floats(flat: list[Any], types: set[type], kind: str) -> Array | None:
    """Return numbers as float64, if all can be held by `kind` without loss."""
    if not flat or not types <= {int, float}:
        return None
    largest, whole = _FLOATS[kind]
    limit = largest if types == {float} else whole
    array = np.array(flat, np.float64)
    return array if bool((np.abs(array) <= limit).all()) else None


def _array(flat: list[Any], kind: str, dtype: np.dtype[Any]) -> Array:
    if kind == "string":
        found = np.empty(len(flat), object)
        found[:] = flat
        return found
    if dtype.itemsize < 4 and kind in _RANGES:
        return np.asarray(flat, np.int64).astype(dtype)
    if kind == "float":  # by way of double, as upstream rounds
        return np.asarray(flat, np.float64).astype(dtype)
    return np.asarray(flat, dtype)


def _check_rows(outputs: Mapping[str, Array]) -> None:
    size = 0
    for name in sorted(outputs):
        array = outputs[name]
        if not array.ndim:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise _invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if size and len(array) != size:
            raise _invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)


def _texts(array: Array, binary: bool) -> Any:
    """Return strings as nested lists; text that is no UTF-8 is written with replacement characters."""
    found = np.empty(array.size, object)
    for index, value in enumerate(array.ravel()):
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        if binary:
            found[index] = {"b64": base64.b64encode(raw).decode("ascii")}
        else:
            found[index] = raw.decode("utf-8", errors="replace")
    return found.reshape(array.shape).tolist()


def _listed(column: Any) -> Any:
    """Return an array as nested lists, float32 with no more digits than it has."""
    if not isinstance(column, np.ndarray | np.generic):
        return column
    array = np.asarray(column)
    if array.dtype == np.float32:
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _shape_text(array: Array) -> str:
    return f"[{','.join(str(size) for size in array.shape)}]"


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
