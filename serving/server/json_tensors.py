"""Tensors in JSON: requests in row or column form into arrays, arrays into answers.

The rules are those of TensorFlow Serving's `json_tensor.cc`. Rows are converted together; where one does not
fit, the first fault is named in upstream's words.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .errors import Code, ServingError
from .json_text import parse, quote
from .json_values import RANGES, is_base64, tensor
from .servable import Argument, Method
from .tensors import DTYPES, dtype_name

__all__ = ["Request", "predict_inputs", "predict_request", "write_outputs"]

Array = np.ndarray[Any, Any]

_DECIMAL = ("float", "double")
_WRITTEN = {*RANGES, *_DECIMAL, "bool", "string"}
_FAULT_CHUNK = 1024
"""So many rows at a time are tried when one of them is at fault: one by one is slow."""
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
            raise _invalid(f"JSON Value: {quote(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise _invalid(f"JSON Value: {quote(document)} No values in 'instances' array")
        return _rows(rows, method.inputs), True
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


def _rows(rows: list[Any], inputs: Mapping[str, Argument]) -> dict[str, Array]:
    """Return one tensor for each input of the rows of a request, at least one."""
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    objects = _is_row_object(rows[0])
    try:
        return _together(rows, inputs, objects)
    except (KeyError, ServingError):
        _find_fault(rows, inputs, objects)
        raise  # what no row shows alone, such as one dimension too many


def _find_fault(rows: list[Any], inputs: Mapping[str, Argument], objects: bool) -> None:
    """Raise for the first row that is at fault."""
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(rows), _FAULT_CHUNK):
        part = rows[start : start + _FAULT_CHUNK]
        try:
            _together([rows[0], *part], inputs, objects)  # with the first, whose shape all must have
        except (KeyError, ServingError):
            _check_row(rows[0], 0, objects, inputs, shapes)
            for index, row in enumerate(part, start):
                _check_row(row, index, objects, inputs, shapes)


def _is_row_object(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _together(rows: list[Any], inputs: Mapping[str, Argument], objects: bool) -> dict[str, Array]:
    """Convert all rows at once.

    Raises:
        KeyError: If a row has other inputs or another form.
        ServingError: If a value does not fit; not necessarily the first one.
    """
    if not objects:
        ((name, argument),) = inputs.items()
        if any(isinstance(row, dict) and not is_base64(row) for row in rows):
            raise KeyError
        return {name: tensor(rows, argument)}
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(inputs)}:
        raise KeyError
    if len(inputs) == 1 and any(map(is_base64, rows)):
        raise KeyError
    return {name: tensor([row[name] for row in rows], argument) for name, argument in inputs.items()}


def _check_row(
    row: Any,
    index: int,
    objects: bool,
    inputs: Mapping[str, Argument],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Raise if a row is at fault, in upstream's order of checks; keep the shapes of the first one."""
    if objects and not _is_row_object(row):
        raise _invalid(f"Expecting object but got list at item {index} of input list")
    if not objects and _is_row_object(row):
        raise _invalid(f"Expecting value/list but got object at item {index} of input list")
    for name, item in (row if objects else {next(iter(inputs)): row}).items():
        try:
            _check_item(name, item, inputs, shapes)
        except ServingError as error:
            key = f" key: {name}" if objects else ""
            raise _invalid(
                f"Failed to process element: {index}{key} of 'instances' list. Error: "
                f"{error.code.name}: {error.message}"
            ) from error
    if objects and set(row) != set(inputs):
        raise _invalid(
            f"Failed to process element: {index} of 'instances' list. JSON object: {quote(row)} keys must be "
            f"equal to: {','.join(sorted(inputs))}"
        )


def _check_item(
    name: str, item: Any, inputs: Mapping[str, Argument], shapes: dict[str, tuple[int, ...]]
) -> None:
    if name not in inputs:
        raise _invalid(f"JSON object: does not have named input: {name}")
    shape = tensor(item, inputs[name]).shape
    first = shapes.setdefault(name, shape)
    if math.prod(first) != math.prod(shape):
        raise _invalid(f"Expecting tensor size: {math.prod(first)} but got: {math.prod(shape)}")
    if first != shape:
        raise _invalid(f"Expecting shape {_shape_text(first)} but got: {_shape_text(shape)}")


def _check_rows(outputs: Mapping[str, Array]) -> None:
    size: int | None = None
    for name in sorted(outputs):
        array = outputs[name]
        if not array.ndim:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(array) != size:
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


def _shape_text(shape: Sequence[int]) -> str:
    """Return a shape as upstream writes it."""
    return f"[{','.join(map(str, shape))}]"


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
