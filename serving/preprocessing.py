"""Apply a fitted feature transform without TensorFlow: numpy alone, and Pillow to decode pictures.

The transform is described by `preprocessing.json`, which the transform node writes beside the graph.
Its format is published as docs/preprocessing.schema.json; this is the reference implementation. Numbers
agree with the TensorFlow graph within 1e-5 * max(1, |a|), categories exactly.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.data.errors import ConfigError

from .columns import Column, InvalidRow, Rows, read_columns
from .dates import cycle_table, date_part
from .images import InvalidImage, decode_image, resize, to_grey
from .series import fit_series
from .siphash import hash_buckets
from .text import Tokenizer, bag_of, sequence_of

__all__ = ["HASH_KEY", "JOINER", "LARGEST_INT", "SCHEMA_VERSION", "InvalidRow", "Preprocessor"]

SCHEMA_VERSION = 1
"""Version of the format of preprocessing.json."""

HASH_KEY = (0x6865616472616365, 0x70726570726F6365)
"""Key of the hash that new transforms use; a sidecar names its own."""

JOINER = "\x1f"
"""What stands between the parts of a cross (ASCII "unit separator")."""

LARGEST_INT = float(np.nextafter(np.float32(2**63), np.float32(0)))
"""The largest float32 that is an int64, too."""

Tensors = dict[str, npt.NDArray[Any]]

_COMPANIONS = {"bag_weights": "bag", "series_length": "series"}
"""Operation that comes with another -> that one."""


class Preprocessor:
    """A fitted transform, ready to apply.

    Args:
        spec: Content of preprocessing.json.

    Attributes:
        columns: Raw column -> `int`, `float`, `string`, `floats` or `image`.

    Raises:
        ConfigError: If `spec` is of another version or holds an unknown operation.

    Example:
        >>> spec = {
        ...     "schema_version": 1, "hash": {"function": "siphash-2-4", "key": [1, 2]}, "joiner": "|",
        ...     "columns": [{"name": "distance", "type": "float"}],
        ...     "outputs": [{"name": "distance", "op": "number", "column": "distance", "impute": 3.0,
        ...                  "log": False, "clip": None, "subtract": 1.0, "divide": 2.0}],
        ... }
        >>> Preprocessor(spec).transform([{"distance": 5}, {"distance": None}])["distance"].tolist()
        [[2.0], [1.0]]
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if spec.get("schema_version") != SCHEMA_VERSION:
            raise ConfigError(
                f"`schema_version` must be {SCHEMA_VERSION}. Received: {spec.get('schema_version')!r} "
                "(preprocessing.json)",
                "apply it with the version of headrace that wrote it",
            )
        if spec["hash"]["function"] != "siphash-2-4":
            raise ConfigError(
                f"the hash must be siphash-2-4. Received: {spec['hash']['function']!r} (preprocessing.json)"
            )
        for output in spec["outputs"]:
            if output["op"] not in (*_OPERATIONS, *_COMPANIONS):
                raise ConfigError(
                    f"`op` must be one of {', '.join((*_OPERATIONS, *_COMPANIONS))}. "
                    f"Received: {output['op']!r} (preprocessing.json, output {output['name']!r})"
                )
        self.columns: dict[str, str] = {column["name"]: column["type"] for column in spec["columns"]}
        self._names = [output["name"] for output in spec["outputs"]]
        self._outputs = [_Output(output, spec) for output in spec["outputs"] if output["op"] in _OPERATIONS]
        self._companions = {output["of"]: output["name"] for output in spec["outputs"] if "of" in output}

    @classmethod
    def load(cls, path: str) -> "Preprocessor":
        """Read a preprocessing.json."""
        with open(path, encoding="utf-8") as stream:
            return cls(json.load(stream))

    def transform(self, rows: Rows, ignore_unknown: bool = False) -> Tensors:
        """Turn raw rows into model inputs.

        None, NaN, "" and an absent key are missing. Integers in text columns are taken as their decimal
        text; integral floats in integer columns as integers. Pictures are bytes or `{"b64": text}`.

        Args:
            rows: Rows as mappings, or columns as sequences of one length.
            ignore_unknown: Whether to pass over columns that the model does not read; otherwise they
                are an error, since a misspelt name would silently be missing.

        Returns:
            Output -> float32 `[rows, width]`, or int64 `[rows, width]` for categories; pictures float32
            `[rows, height, width, channels]`, series float32 `[rows, length, channels]`.

        Raises:
            InvalidRow: If a column is unknown, a value does not fit its column's type, or a picture cannot
                be decoded.
        """
        size, columns = read_columns(rows, self.columns, ignore_unknown)
        found: Tensors = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for output in self._outputs:
                tensor, companion = output.apply(columns)
                found[output.name] = tensor.reshape(size, *output.shape)
                if output.name in self._companions:
                    found[self._companions[output.name]] = companion.reshape(size, -1)
        return {name: found[name] for name in self._names}


class _Output:
    """One entry of `outputs`, with what is derived from it once."""

    def __init__(self, spec: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.joiner: str = whole["joiner"]
        self.key: tuple[int, int] = tuple(int(word) for word in whole["hash"]["key"])  # type: ignore[assignment]
        words = spec.get("vocabulary") or ()
        self.places = {word: place for place, word in enumerate(words, 1 + spec.get("buckets", 0))}
        self.tokenizer: Tokenizer | None = None
        if spec["op"] in ("tokens", "bag"):
            options = (spec[key] for key in ("lowercase", "strip_accents", "tokens", "ngrams"))
            self.tokenizer = Tokenizer(whole["characters"], *options)
        self._operation = _OPERATIONS[spec["op"]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        spec = self.spec
        match spec["op"]:
            case "picture":
                return spec["height"], spec["width"], spec["channels"]
            case "series":
                return spec["length"], len(spec["columns"])
            case "date_cycle":
                return (2,)
            case _:
                return (spec.get("width", 1),)

    def apply(self, columns: Mapping[str, Column]) -> tuple[npt.NDArray[Any], Any]:
        """Compute the output, `[rows, ...]`, and its companion, if its operation has one."""
        found = self._operation(self, columns)
        return found if isinstance(found, tuple) else (found, None)

    def look_up(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the category of each text: a place in the vocabulary, else a hash bucket from 1."""
        found = np.fromiter(map(self.places.get, texts, repeat(0)), np.int64, len(texts))
        unknown = np.flatnonzero(found == 0)
        if len(unknown):
            encoded = [texts[index].encode("utf-8", "surrogateescape") for index in unknown.tolist()]
            found[unknown] = 1 + hash_buckets(encoded, self.spec["buckets"], self.key)
        return found


def _number(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    spec, column = output.spec, columns[output.spec["column"]]
    filled = np.where(column.present, _floats(column), np.float32(spec["impute"]))
    return (_shape(filled, spec) - np.float32(spec["subtract"])) / np.float32(spec["divide"])


def _missing(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    return (~columns[output.spec["column"]].present).astype(np.float32)


def _buckets(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    spec, column = output.spec, columns[output.spec["column"]]
    places = _cut(_shape(_floats(column), spec), spec["bounds"])
    return np.where(column.present, places, len(spec["bounds"]) + 1)


def _category(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    parts = output.spec["parts"]
    texts = [_part_texts(part, columns[part["column"]]) for part in parts]
    present = np.logical_or.reduce([columns[part["column"]].present for part in parts])
    joined = texts[0] if len(texts) == 1 else list(map(output.joiner.join, zip(*texts, strict=True)))
    if present.all():
        return output.look_up(joined)
    found = np.zeros(len(joined), np.int64)
    rows = np.flatnonzero(present)
    found[rows] = output.look_up([joined[row] for row in rows])
    return found


def _categories(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    spec, texts = output.spec, columns[output.spec["column"]].texts or []
    width = spec["width"]
    pieces = [list(filter(None, text.split(spec["separator"])))[:width] for text in texts]
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    found = np.full((len(pieces), width), -1, np.int64)
    filled = np.arange(width) < counts[:, np.newaxis]
    found[filled] = output.look_up([piece for row in pieces for piece in row])
    found[counts == 0, 0] = 0
    return found


def _date_cycle(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    return cycle_table(output.spec["part"])[_date_category(output, columns)]


def _date_category(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    texts = columns[output.spec["column"]].texts or []
    return date_part(texts, output.spec["part"], output.spec.get("format"))


def _picture(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    spec, column = output.spec, columns[output.spec["column"]]
    target = (spec["height"], spec["width"])
    subtract, divide = np.array(spec["subtract"], np.float32), np.array(spec["divide"], np.float32)
    found = np.zeros((len(column.present), *target, spec["channels"]), np.float32)
    for row in np.flatnonzero(column.present).tolist():
        pixels = _unpack(output, column, row) if spec["pixels"] else _decode(output, column, row)
        found[row] = (resize(pixels, target, spec["fit"], spec["antialias"]) - subtract) / divide
    return found


def _decode(output: _Output, column: Column, row: int) -> npt.NDArray[Any]:
    """Return the picture of a row, `[height, width, channels]`, 0 to 255."""
    try:
        pixels = decode_image((column.files or [])[row])
    except InvalidImage as error:
        raise InvalidRow(
            f"a picture must be a whole JPEG or PNG file. Received: {error}",
            row=row,
            column=output.spec["column"],
        ) from error
    return to_grey(pixels.astype(np.float32)) if output.spec["channels"] == 1 else pixels


def _unpack(output: _Output, column: Column, row: int) -> npt.NDArray[Any]:
    """Return the picture that a row of pixels holds; a pixel without a number is 0."""
    spec = output.spec["pixels"]
    shape = (spec["height"], spec["width"], output.spec["channels"])
    assert column.lists is not None
    numbers = column.lists[row]
    size = int(np.flatnonzero(~np.isnan(numbers))[-1]) + 1
    if size != shape[0] * shape[1] * shape[2]:
        raise InvalidRow(
            f"a row of pixels must hold {shape[0]} x {shape[1]} x {shape[2]} numbers. Received: {size}",
            row=row,
            column=output.spec["column"],
        )
    pixels = np.nan_to_num(numbers[:size]).reshape(shape)
    return pixels if spec["max_value"] == 255 else pixels * np.float32(255 / spec["max_value"])


def _tokens(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    assert output.tokenizer is not None
    width = output.spec["width"]
    kept = [row[:width] for row in output.tokenizer.split(columns[output.spec["column"]].texts or [])]
    places = output.look_up([token for row in kept for token in row])
    return sequence_of(places, np.fromiter(map(len, kept), np.int64, len(kept)), width)


def _bag(output: _Output, columns: Mapping[str, Column]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    assert output.tokenizer is not None
    rows = output.tokenizer.split(columns[output.spec["column"]].texts or [])
    places = output.look_up([token for row in rows for token in row])
    idf = output.spec["idf"]
    if idf is not None:  # missing is never in a bag; hash buckets weigh as what is in every row
        idf = np.array([0.0] + [1.0] * output.spec["buckets"] + idf, np.float32)
    return bag_of(places, np.fromiter(map(len, rows), np.int64, len(rows)), output.spec["width"], idf)


def _series(output: _Output, columns: Mapping[str, Column]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    spec = output.spec
    channels = [columns[name].lists for name in spec["columns"]]
    impute, subtract, divide = (np.array(spec[key], np.float32) for key in ("impute", "subtract", "divide"))
    return fit_series(channels, spec["length"], spec["keep"], impute, subtract, divide)  # type: ignore[arg-type]


_OPERATIONS: Mapping[str, Any] = {
    "number": _number,
    "missing": _missing,
    "buckets": _buckets,
    "category": _category,
    "categories": _categories,
    "date_cycle": _date_cycle,
    "date_category": _date_category,
    "picture": _picture,
    "tokens": _tokens,
    "bag": _bag,
    "series": _series,
}


def _floats(column: Column) -> npt.NDArray[np.float32]:
    numbers = column.numbers if column.numbers is not None else np.zeros(len(column.present))
    return numbers.astype(np.float32, copy=False)


def _shape(values: npt.NDArray[np.float32], spec: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Apply log and clip; the logarithm in float64, so that rounding hides how it is computed."""
    if spec["log"]:
        values = np.log1p(np.maximum(values.astype(np.float64), 0.0)).astype(np.float32)
    if spec["clip"] is not None:
        low, high = spec["clip"]
        values = np.clip(values, np.float32(low), np.float32(high))
    return values


def _cut(values: npt.NDArray[np.float32], bounds: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return how many of `bounds` (rounded to float32) each value has reached."""
    return np.searchsorted(np.array(bounds, np.float32), values, side="right").astype(np.int64, copy=False)


def _whole_numbers(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.clip(numbers, np.float32(-LARGEST_INT), np.float32(LARGEST_INT)).astype(np.int64)


def _part_texts(part: Mapping[str, Any], column: Column) -> list[str]:
    """Return the text of a category's part, "" where missing."""
    if column.texts is not None:
        return column.texts
    numbers = _floats(column)
    # Whole numbers are rounded to float32, as the server receives them.
    whole = _cut(numbers, part["bounds"]) if part["bounds"] else _whole_numbers(numbers)
    texts = list(map(str, whole.tolist()))
    return [text if there else "" for text, there in zip(texts, column.present.tolist(), strict=True)]
