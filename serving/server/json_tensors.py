"""Tensors in JSON: requests in row or column form into arrays, arrays into answers.

The rules and the words are those of TensorFlow Serving's REST API. Rows that are well formed are converted
together; the others one by one, to name the first fault.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .errors import Code, ServingError
from .json_rows import quick_row
from .json_text import parse, quote
from .json_values import RANGES, chunks, is_base64, quick, tensor
from .servable import Argument, Method
from .tensors import DTYPES, dtype_name

__all__ = ["Request", "predict_inputs", "predict_request", "write_outputs"]

Array = np.ndarray[Any, Any]

_DECIMAL = ("float", "double")
_WRITTEN = {*RANGES, *_DECIMAL, "bool", "string"}
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
        return one or _rows(rows, method), True
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
            finite = finite and (kind not in _DECIMAL or bool(np.isfinite(array).all()))
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


def _columns(value: Any, method: Method) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(method.inputs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        ((name, argument),) = method.inputs.items()
        return {name: tensor(value, argument)}
    found = {}
    for name, argument in method.inputs.items():
        if name not in value:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        found[name] = tensor(value[name], argument)
    return found


def _quick_rows(rows: list[Any], method: Method, objects: bool) -> dict[str, Array] | None:
    """Convert rows that are in order; None if any is not."""
    names = list(method.inputs)
    if not objects:
        if len(names) > 1:
            return None
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
        array = quick(column, method.inputs[name])
        if array is None:
            return None
        found[name] = array
    return found


def _rows(rows: list[Any], method: Method) -> dict[str, Array]:
    """Convert rows: together where they are in order, else one by one in upstream's order of checks."""
    inputs = method.inputs
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    objects = isinstance(rows[0], dict) and not is_base64(rows[0])
    parts: dict[str, list[Array]] = {}
    for start, chunk in chunks(rows):
        found = _quick_rows(chunk, method, objects)
        if found is None or not _follow(parts, found):
            _slow_rows(chunk, start, objects, inputs, parts)
    return {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in parts.items()}


def _follow(parts: dict[str, list[Array]], found: Mapping[str, Array]) -> bool:
    """Add more rows, if they have the shape of the earlier ones."""
    if any(parts[name][0].shape[1:] != found[name].shape[1:] for name in parts):
        return False
    for name, array in found.items():
        parts.setdefault(name, []).append(array)
    return True


def _slow_rows(
    rows: list[Any],
    start: int,
    objects: bool,
    inputs: Mapping[str, Argument],
    parts: dict[str, list[Array]],
) -> None:
    """Add rows one by one; `start` is the index of the first."""
    for index, row in enumerate(rows, start):
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


def _add_item(parts: dict[str, list[Array]], name: str, item: Any, inputs: Mapping[str, Argument]) -> None:
    if name not in inputs:
        raise _invalid(f"JSON object: does not have named input: {name}")
    array = tensor(item, inputs[name])[np.newaxis]
    held = parts.setdefault(name, [])
    if held and held[0][:1].size != array.size:
        raise _invalid(f"Expecting tensor size: {held[0][:1].size} but got: {array.size}")
    if held and held[0].shape[1:] != array.shape[1:]:
        raise _invalid(f"Expecting shape {_shape_text(held[0])} but got: {_shape_text(array)}")
    held.append(array)


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


def _shape_text(rows: Array) -> str:
    """Return the shape of one row as upstream writes it."""
    return f"[{','.join(str(size) for size in rows.shape[1:])}]"


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
