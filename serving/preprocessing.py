"""Apply a fitted feature transform without TensorFlow: numpy and the standard library only.

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
from .siphash import hash_buckets

__all__ = ["HASH_KEY", "JOINER", "SCHEMA_VERSION", "InvalidRow", "Preprocessor"]

SCHEMA_VERSION = 1
"""Version of the format of preprocessing.json."""

HASH_KEY = (0x6865616472616365, 0x70726570726F6365)
"""Key of the hash that new transforms use; a sidecar names its own."""

JOINER = "\x1f"
"""What stands between the parts of a cross (ASCII "unit separator")."""

Tensors = dict[str, npt.NDArray[Any]]


class Preprocessor:
    """A fitted transform, ready to apply.

    Args:
        spec: Content of preprocessing.json.

    Attributes:
        columns: Raw column -> `int`, `float` or `string`.

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
            if output["op"] not in _OPERATIONS:
                raise ConfigError(
                    f"`op` must be one of {', '.join(_OPERATIONS)}. Received: {output['op']!r} "
                    f"(preprocessing.json, output {output['name']!r})"
                )
        self.columns: dict[str, str] = {column["name"]: column["type"] for column in spec["columns"]}
        self._outputs = [_Output(output, spec) for output in spec["outputs"]]

    @classmethod
    def load(cls, path: str) -> "Preprocessor":
        """Read a preprocessing.json."""
        with open(path, encoding="utf-8") as stream:
            return cls(json.load(stream))

    def transform(self, rows: Rows, ignore_unknown: bool = False) -> Tensors:
        """Turn raw rows into model inputs.

        None, NaN, "" and an absent key are missing. Integers in text columns are taken as their decimal
        text; integral floats in integer columns as integers.

        Args:
            rows: Rows as mappings, or columns as sequences of one length.
            ignore_unknown: Whether to pass over columns that the model does not read; otherwise they
                are an error, since a misspelt name would silently be missing.

        Returns:
            Output -> float32 `[rows, width]`, or int64 `[rows, width]` for categories.

        Raises:
            InvalidRow: If a column is unknown, or a value does not fit its column's type.
        """
        size, columns = read_columns(rows, self.columns, ignore_unknown)
        with np.errstate(over="ignore", invalid="ignore"):
            return {
                output.name: output.apply(columns).reshape(size, output.width) for output in self._outputs
            }


class _Output:
    """One entry of `outputs`, with what is derived from it once."""

    def __init__(self, spec: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        self.name: str = spec["name"]
        self.width: int = {"date_cycle": 2, "categories": spec.get("width", 1)}.get(spec["op"], 1)
        self.spec = spec
        self.joiner: str = whole["joiner"]
        self.key: tuple[int, int] = tuple(int(word) for word in whole["hash"]["key"])  # type: ignore[assignment]
        words = spec.get("vocabulary") or ()
        self.places = {word: place for place, word in enumerate(words, 1 + spec.get("buckets", 0))}
        self._operation = _OPERATIONS[spec["op"]]

    def apply(self, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
        """Compute the output, `[rows]` or `[rows, width]`."""
        return self._operation(self, columns)

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
    pieces = [list(filter(None, text.split(spec["separator"])))[: output.width] for text in texts]
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    found = np.full((len(pieces), output.width), -1, np.int64)
    filled = np.arange(output.width) < counts[:, np.newaxis]
    found[filled] = output.look_up([piece for row in pieces for piece in row])
    found[counts == 0, 0] = 0
    return found


def _date_cycle(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    return cycle_table(output.spec["part"])[_date_category(output, columns)]


def _date_category(output: _Output, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    return date_part(columns[output.spec["column"]].texts or [], output.spec["part"])


_OPERATIONS = {
    "number": _number,
    "missing": _missing,
    "buckets": _buckets,
    "category": _category,
    "categories": _categories,
    "date_cycle": _date_cycle,
    "date_category": _date_category,
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


def _part_texts(part: Mapping[str, Any], column: Column) -> list[str]:
    """Return the text of a category's part, "" where missing."""
    if column.texts is not None:
        return column.texts
    numbers = _cut(_floats(column), part["bounds"]) if part["bounds"] else column.numbers
    texts = list(map(str, numbers.tolist())) if numbers is not None else []
    return [text if there else "" for text, there in zip(texts, column.present.tolist(), strict=True)]
