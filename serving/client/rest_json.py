"""Requests and answers of the REST API as JSON text, in column form.

With orjson numbers are written at the length of their own type (0.1, not 0.10000000149011612), which is
faster on both sides; without it the standard library writes the same numbers.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .failures import Code, RequestFailed, code_of_status
from .signatures import NUMPY_TYPES, ModelSignature, Tensor

try:
    from orjson import OPT_SERIALIZE_NUMPY, dumps, loads
except ImportError:  # it comes with the server, not with a client
    _HAS_ORJSON = False
else:
    _HAS_ORJSON = True

__all__ = ["read_outputs", "read_signatures", "refusal", "write_request"]

Array = np.ndarray[Any, Any]

_SHOWN = 300
_FAST = ("float32", "float64", "int32", "int64", "uint32", "uint64")


def write_request(inputs: Mapping[str, Array], signature: str) -> bytes:
    """Return the body of a predict request."""
    head = b'"signature_name":' + _text(signature) + b"," if signature else b""
    columns = b",".join(_text(name) + b":" + _column(np.asarray(array)) for name, array in inputs.items())
    return b"{" + head + b'"inputs":{' + columns + b"}}"


def read_outputs(body: bytes, wanted: Mapping[str, Tensor] | None, place: str) -> dict[str, Array]:
    """Return the outputs in an answer.

    Args:
        body: The body.
        wanted: Output -> its type and shape, where they are known.
        place: URL of the model, for the error.

    Raises:
        RequestFailed: If it is no answer of the API.
    """
    try:
        found = _parsed(body)["outputs"]
        if not isinstance(found, dict):  # a single output comes without its name
            found = {next(iter(wanted)) if wanted and len(wanted) == 1 else "outputs": found}
        return {name: _array(value, (wanted or {}).get(name)) for name, value in found.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise _no_answer(body, place) from error


def read_signatures(body: bytes, place: str) -> dict[str, ModelSignature]:
    """Return the signatures in a metadata answer.

    Raises:
        RequestFailed: If it is no answer of the API.
    """
    try:
        whole = json.loads(body)
        version = int(whole["model_spec"]["version"])
        found = whole["metadata"]["signature_def"]["signature_def"]
        return {
            name: ModelSignature(name, _tensors(parts["inputs"]), _tensors(parts["outputs"]), version)
            for name, parts in found.items()
            if not name.startswith("__")
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_answer(body, place) from error


def refusal(status: int, body: bytes, place: str) -> RequestFailed:
    """Return the error that an answer with an error status is."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        text = body.decode("utf-8", "replace")[:_SHOWN].strip() or f"HTTP status {status}"
    return RequestFailed(code_of_status(status), text, place)


def _no_answer(body: bytes, place: str) -> RequestFailed:
    shown = body[:_SHOWN].decode("utf-8", "replace")
    return RequestFailed(Code.UNKNOWN, f"no answer of TensorFlow Serving's API: {shown}", place)


def _tensors(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(_dtype(part["dtype"]), _shape(part["tensor_shape"]))
        for name, part in sorted(parts.items())
    }


def _dtype(name: str) -> str:
    return NUMPY_TYPES.get(name, name)


def _shape(shape: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    if shape.get("unknown_rank"):
        return None
    sizes = [int(dim["size"]) for dim in shape.get("dim", ())]
    return tuple(None if size < 0 else size for size in sizes)


def _text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _column(array: Array) -> bytes:
    """Return a tensor as JSON; missing numbers as NaN, which TensorFlow Serving reads."""
    if array.dtype.kind in "OUS":
        return json.dumps(_texts(array.tolist()), ensure_ascii=False).encode()
    if not _HAS_ORJSON or array.dtype.name not in _FAST or np.isinf(array).any():
        return json.dumps(array.tolist()).encode()
    # orjson writes null for NaN, and nothing else of a numeric array gives one.
    packed = dumps(np.ascontiguousarray(array), option=OPT_SERIALIZE_NUMPY)
    return packed.replace(b"null", b"NaN")


def _parsed(body: bytes) -> Any:
    if _HAS_ORJSON:
        try:
            return loads(body)
        except ValueError:  # NaN and Infinity
            pass
    return json.loads(body)


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(part) for part in value]
    content = value if isinstance(value, bytes) else str(value).encode()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(content).decode()}


def _array(value: Any, tensor: Tensor | None) -> Array:
    dtype = tensor.dtype if tensor is not None else ""
    if dtype in ("", "object"):
        found = np.array(value)
        if dtype == "object" or found.dtype.kind in "UO":
            return _bytes(value)
        return found
    return np.array(value, dtype)


def _bytes(value: Any) -> Array:
    """Return nested lists of texts and `{"b64": text}` as an array of bytes."""
    flat = np.array(value, object)
    found = np.empty(flat.shape, object)
    for place, part in np.ndenumerate(flat):
        found[place] = base64.b64decode(part["b64"]) if isinstance(part, dict) else str(part).encode()
    return found
