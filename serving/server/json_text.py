"""JSON as TensorFlow Serving reads and quotes it: NaN and Infinity are numbers, and errors have its words.

Its parser is RapidJSON with NaN and Infinity. orjson reads what is plain JSON; what it refuses is read again
by the standard library, or by the slow parser here, which finds the place and the name of the fault.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from .errors import Code, ServingError

__all__ = ["MAX_DEPTH", "MAX_QUOTED", "parse", "quote", "type_name"]

MAX_DEPTH = 254
"""Deepest nesting that is read: a tensor has at most so many dimensions."""

MAX_QUOTED = 1 << 15
"""Most characters of a value that an error repeats."""

_SLOW_UP_TO = 1 << 16
_ENCODER = json.JSONEncoder(indent=4, ensure_ascii=False)
_BOM = b"\xef\xbb\xbf"
_PAIRED = re.compile(  # escapes whose surrogates come in pairs; possessive, so that it never looks back
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F])*+", re.DOTALL
)
_MEMBERS = (b'"instances"', b'"inputs"', b'"signature_name"', b'"examples"', b'"context"')
_FAULTS = (
    # What the standard library says -> what RapidJSON says.
    ("Expecting property name", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Expecting ','", "Missing a comma or ] after an array element."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid \\uXXXX", "Incorrect hex digit after \\u escape in string."),
    ("Invalid ", "Invalid escape character in string."),
    ("Extra data", "The document root must not be followed by other values."),
)
_SPACE = re.compile(rb"[ \t\n\r]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TOKEN = re.compile(rb"-?(?:NaN|Infinity|Inf)")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_LITERALS = ((b"null", None), (b"true", True), (b"false", False))
_ESCAPES = {0x22: '"', 0x5C: "\\", 0x2F: "/", 0x62: "\b", 0x66: "\f", 0x6E: "\n", 0x72: "\r", 0x74: "\t"}


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; bytes of strings that are no UTF-8 come as surrogate escapes.

    Of members of a request with the same name the first one counts, and of columns of a row.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is no JSON, or no object.
    """
    if not body:
        raise ServingError(Code.INVALID_ARGUMENT, "JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
        if _repeats(body) or _repeats_columns(body, document):
            document = _again(body)
    except orjson.JSONDecodeError:
        document = _again(body.removeprefix(_BOM))
    if not isinstance(document, dict):
        raise ServingError(Code.INVALID_ARGUMENT, f"JSON Value: {quote(document)} Is not object")
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
    """Return a value as errors show it: indented by four, whole floats with ".0", cut after `MAX_QUOTED`."""
    if isinstance(value, float):
        return _decimal(value)
    parts: list[str] = []
    size = 0
    try:
        for part in _ENCODER.iterencode(value):
            parts.append(part)
            size += len(part)
            if size > MAX_QUOTED:  # the rest is not even looked at
                return "".join(parts)[:MAX_QUOTED] + "..."
    except RecursionError:
        return "..."
    return "".join(parts)


def _decimal(value: float) -> str:
    """Write a number with six digits, or with as many as its type needs to be read back the same."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    narrow = abs(value) <= float(np.finfo(np.float32).max)
    text = f"{value:g}"
    kind = np.float32 if narrow else np.float64
    if kind(text) != kind(value):
        text = f"{float(kind(value)):.{9 if narrow else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def _again(body: bytes) -> Any:
    """Read what orjson refused, or what it reads in another way."""
    small = len(body) <= _SLOW_UP_TO
    paired = _PAIRED.match(body)
    if paired is not None and paired.end() < len(body):
        if small:
            return _Parser(body).document()
        raise _fault("The surrogate pair in string is invalid.", paired.end())
    try:
        if _repeats(body):
            return _loaded(body, _first_of_each)
        document = _loaded(body, None)
        return _loaded(body, _first_of_each) if _repeats_columns(body, document) else document
    except (json.JSONDecodeError, RecursionError, ServingError) as error:
        if small:
            return _Parser(body).document()
        raise _as_fault(error) from error


def _loaded(body: bytes, hook: Callable[[list[tuple[str, Any]]], Any] | None) -> Any:
    return json.loads(
        body.decode("utf-8", "surrogateescape"),
        parse_int=_integer,
        parse_float=_finite,
        object_pairs_hook=hook,
    )


def _repeats(body: bytes) -> bool:
    return any(body.count(name) > 1 for name in _MEMBERS)


def _repeats_columns(body: bytes, document: Any) -> bool:
    """Tell whether a row or the columns may have a name twice, of which orjson keeps the last."""
    if not isinstance(document, dict):
        return False
    found = document.get("instances", document.get("inputs"))
    rows = found if isinstance(found, list) else [found]
    if not rows or type(rows[0]) is not dict:
        return False
    names = len(document) + sum(len(row) for row in rows if type(row) is dict)
    if body.count(b":") == names or (body.count(b'":') == names and b'" :' not in body):
        return False  # the common cases cost no more than this
    return any(body.count(b'"%b"' % name.encode("utf-8", "surrogatepass")) > len(rows) for name in rows[0])


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > 1 and all(name == "b64" for name, _ in pairs):
        return {"b64": None}  # with two members it is no binary value
    return dict(reversed(pairs))


def _as_fault(error: Exception) -> ServingError:
    """Return what the standard library found wrong, in RapidJSON's words."""
    if isinstance(error, json.JSONDecodeError):
        known = (text for start, text in _FAULTS if error.msg.startswith(start))
        at = len(error.doc[: error.pos].encode("utf-8", "surrogateescape"))
        return _fault(next(known, "Invalid value."), at)
    if isinstance(error, ServingError):
        return error
    return _fault("Terminate parsing due to Handler error.", 0)


def _fault(text: str, at: int) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"JSON Parse error: {text} at offset: {at}")


def _finite(text: str) -> float:
    """Return a decimal number.

    Raises:
        ServingError: INVALID_ARGUMENT, if a double cannot hold it.
    """
    value = float(text)
    if math.isinf(value):
        raise _fault("Number too big to be stored in double.", 0)
    return value


def _integer(text: str) -> int | float:
    """Return a whole number; a double if it has more than 64 bits, as RapidJSON does."""
    if len(text) > 20:
        return _finite(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(text)


class _Parser:
    """Reads one document, and says what is wrong where.

    Args:
        body: The document.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._depth = 0

    def document(self) -> Any:
        """Return the value of the whole body."""
        self._skip()
        if self._at >= len(self._body):
            raise _fault("The document is empty.", self._at)
        value = self._value()
        self._skip()
        if self._at < len(self._body):
            raise _fault("The document root must not be followed by other values.", self._at)
        return value

    def _skip(self) -> None:
        found = _SPACE.match(self._body, self._at)
        if found:
            self._at = found.end()

    def _peek(self) -> int:
        return self._body[self._at] if self._at < len(self._body) else 0

    def _value(self) -> Any:
        byte = self._peek()
        if byte in (0x7B, 0x5B):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise _fault("Terminate parsing due to Handler error.", self._at)
            found = self._object() if byte == 0x7B else self._array()
            self._depth -= 1
            return found
        if byte == 0x22:
            return self._string()
        for text, value in _LITERALS:
            if byte == text[0]:
                return self._literal(text, value)
        return self._number()

    def _literal(self, text: bytes, value: Any) -> Any:
        start = self._at
        for offset, byte in enumerate(text):
            if self._body[start + offset : start + offset + 1] != bytes((byte,)):
                raise _fault("Invalid value.", start + offset)
        self._at += len(text)
        return value

    def _number(self) -> int | float:
        token = _TOKEN.match(self._body, self._at)
        if token:
            self._at = token.end()
            sign = -1.0 if token[0].startswith(b"-") else 1.0
            return math.nan if token[0].endswith(b"NaN") else sign * math.inf
        found = _NUMBER.match(self._body, self._at)
        if not found:
            raise _fault("Invalid value.", self._at + (self._peek() == 0x2D))
        start, self._at = self._at, found.end()
        rest = self._body[self._at : self._at + 1]
        if rest == b"." and found[1] is None:
            raise _fault("Miss fraction part in number.", self._at + 1)
        if rest in (b"e", b"E") and found[2] is None:
            sign = int(self._body[self._at + 1 : self._at + 2] in (b"+", b"-"))
            raise _fault("Miss exponent in number.", self._at + 1 + sign)
        text = found[0].decode()
        value = float(text) if found[1] or found[2] or len(text) > 20 else _integer(text)
        if isinstance(value, float) and math.isinf(value):
            raise _fault("Number too big to be stored in double.", start)
        return value

    def _array(self) -> list[Any]:
        self._at += 1
        self._skip()
        found: list[Any] = []
        if self._peek() == 0x5D:
            self._at += 1
            return found
        while True:
            found.append(self._value())
            self._skip()
            byte = self._peek()
            if byte == 0x2C:
                self._at += 1
                self._skip()
            elif byte == 0x5D:
                self._at += 1
                return found
            else:
                raise _fault("Missing a comma or ] after an array element.", self._at)

    def _object(self) -> dict[str, Any]:
        self._at += 1
        self._skip()
        found: dict[str, Any] = {}
        if self._peek() == 0x7D:
            self._at += 1
            return found
        while True:
            if self._peek() != 0x22:
                raise _fault("Missing a name for object member.", self._at)
            name = self._string()
            self._skip()
            if self._peek() != 0x3A:
                raise _fault("Missing a colon after a name of object member.", self._at)
            self._at += 1
            self._skip()
            found.setdefault(name, self._value())
            self._skip()
            byte = self._peek()
            if byte == 0x2C:
                self._at += 1
                self._skip()
            elif byte == 0x7D:
                self._at += 1
                return found
            else:
                raise _fault("Missing a comma or } after an object member.", self._at)

    def _string(self) -> str:
        self._at += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN.match(self._body, self._at)
            if plain and plain.end() > self._at:
                parts.append(plain[0].decode("utf-8", "surrogateescape"))
                self._at = plain.end()
            byte = self._peek()
            if byte == 0x22:
                self._at += 1
                return "".join(parts)
            if byte == 0x5C:
                parts.append(self._escape())
            elif byte == 0:
                raise _fault("Missing a closing quotation mark in string.", self._at)
            else:
                raise _fault("Invalid escape character in string.", self._at)

    def _escape(self) -> str:
        start = self._at
        kind = self._body[start + 1] if start + 1 < len(self._body) else 0
        self._at += 2
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if kind != 0x75:
            raise _fault("Invalid escape character in string.", start)
        unit = self._unit(start)
        if 0xD800 <= unit <= 0xDFFF:
            low = 0
            if unit <= 0xDBFF and self._body[self._at : self._at + 2] == b"\\u":
                self._at += 2
                low = self._unit(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise _fault("The surrogate pair in string is invalid.", start)
            unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
        return chr(unit)

    def _unit(self, start: int) -> int:
        found = _HEX.match(self._body, self._at)
        if not found:
            raise _fault("Incorrect hex digit after \\u escape in string.", start)
        self._at = found.end()
        return int(found[0], 16)
