"""JSON as TensorFlow Serving reads and quotes it: NaN, Infinity and Inf are numbers.

orjson reads what is plain JSON; what it refuses is read again by the standard library.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

from .errors import Code, ServingError

__all__ = ["MAX_QUOTED", "parse", "quote", "type_name"]

MAX_QUOTED = 256
"""Most bytes of a request that an error repeats (`kMaxJsonDebugStringBytes`)."""

_BOM = b"\xef\xbb\xbf"
_INDENT = " " * 4
_PAIRED = re.compile(  # escapes whose surrogates come in pairs; possessive, so that it never looks back
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F])*+", re.DOTALL
)
_ODD_TOKEN = re.compile(rb"Inf(?!inity)|-NaN")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|Inf(?:inity)?|-NaN', re.DOTALL)
_SPELLED = {b"Inf": b"Infinity", b"-NaN": b"NaN"}


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; bytes of strings that are no UTF-8 come as surrogate escapes.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is no JSON, or no object.
    """
    if not body:
        raise _invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _again(body.removeprefix(_BOM))
    if not isinstance(document, dict):
        raise _invalid(f"JSON Value: {quote(document)} Is not object")
    return document


def type_name(value: Any) -> str:
    """Return RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"


def quote(value: Any) -> str:
    """Return a value as errors show it: lists in one line, objects indented by four, cut at `MAX_QUOTED`."""
    parts: list[str] = []
    size = 0
    for part in _written(value, 0):
        parts.append(part)
        size += len(part)
        if size > MAX_QUOTED:  # the rest is not even looked at
            break
    return "".join(parts).encode("utf-8", "replace")[:MAX_QUOTED].decode("utf-8", "ignore")


def _written(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _written(item, depth + 1)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for index, (name, item) in enumerate(value.items()):
            yield f"{',' if index else ''}\n{_INDENT * (depth + 1)}{_plain(name)}: "
            yield from _written(item, depth + 1)
        yield f"\n{_INDENT * depth}}}" if value else "}"
    else:
        yield _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value[:MAX_QUOTED] if isinstance(value, str) else value, ensure_ascii=False)


def _again(body: bytes) -> Any:
    """Read what orjson refused: tokens that are no JSON, and strings that are no UTF-8."""
    if _ODD_TOKEN.search(body):
        body = _TOKENS.sub(lambda found: _SPELLED.get(found[0], found[0]), body)
    try:
        if b"\\u" in body and not _PAIRED.fullmatch(body):
            raise ValueError("the surrogate pairs of a string must be whole")
        text = body.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_int=_integer, parse_float=_finite)
    except ValueError as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    except RecursionError as error:
        raise _invalid("JSON Parse error: a document must not be nested as deep as this one") from error


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number must fit into a double")
    return value


def _integer(text: str) -> int | float:
    """Return a whole number; a double if it has more than 64 bits, as RapidJSON does."""
    if len(text) > 20:
        return _finite(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(text)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
