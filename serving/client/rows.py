"""Whatever a caller holds, as rows or columns that can be cut into requests.

Tables (pandas, Arrow) are read as the pipeline reads Parquet: a value means what it meant in training.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import InvalidRow, Rows

__all__ = ["check_complete", "cut", "held", "open_files", "row_count", "to_rows"]


def to_rows(given: Any, kinds: Mapping[str, str]) -> Rows:
    """Return what was given as rows or columns.

    Args:
        given: Rows as mappings; columns as a mapping to sequences; a pandas.DataFrame; a pyarrow Table or
            RecordBatch; or, for a model that reads one column, its values: texts, pictures (paths, bytes,
            arrays of uint8 `[height, width]` or `[height, width, channels]`), lists of numbers.
        kinds: Column -> kind, as the model reads it.

    Raises:
        InvalidRow: If it is none of these.
    """
    home = type(given).__module__.partition(".")[0]
    if home == "pandas" and hasattr(given, "columns"):
        return _from_pandas(given, kinds)
    if home == "pyarrow" and hasattr(given, "schema"):
        return _from_arrow(given, kinds)
    if isinstance(given, Mapping):
        return _from_columns(given)
    if isinstance(given, str | bytes | os.PathLike):
        given = [given]
    if isinstance(given, Iterable) and not isinstance(given, Sequence | np.ndarray):
        given = list(given)
    if isinstance(given, Sequence) and all(isinstance(row, Mapping) for row in given):
        if _are_files(given, kinds):  # [{"b64": ...}] for a model of pictures
            return {next(iter(kinds)): given}
        return given
    if not isinstance(given, Sequence | np.ndarray):
        raise InvalidRow(
            "rows must be dicts, columns, a table, or values of the one column that is read. "
            f"Received: {type(given).__name__}"
        )
    if len(kinds) != 1:
        place = next((at for at, row in enumerate(given) if not isinstance(row, Mapping)), None)
        raise InvalidRow(
            f"each row must be a dict, since the model reads {len(kinds)} columns. "
            f"Received: {type(given[place or 0]).__name__ if len(given) else 'nothing'}",
            f"it reads {', '.join(map(repr, kinds))}",
            place,
        )
    return {next(iter(kinds)): given}


def held(given: Any) -> Any:
    """Return what was given; of a generator, what it yields, so that it can be read twice."""
    return list(given) if isinstance(given, Iterator) else given


def row_count(rows: Rows) -> int:
    """Return the number of rows."""
    if isinstance(rows, Mapping):
        return max((len(values) for values in rows.values()), default=0)
    return len(rows)


def cut(rows: Rows, start: int, stop: int) -> Rows:
    """Return the rows from `start` to before `stop`."""
    if isinstance(rows, Mapping):
        return {name: values[start:stop] for name, values in rows.items()}
    return rows[start:stop]


def check_complete(rows: Rows, kinds: Mapping[str, str]) -> None:
    """Check that every column is given by some row.

    Raises:
        InvalidRow: If one is not.
    """
    names = set(rows) if isinstance(rows, Mapping) else set().union(*rows)
    absent = [name for name in kinds if name not in names]
    if absent:
        raise InvalidRow(
            "every column that the model reads must be given. "
            f"Received: none for {', '.join(map(repr, absent))}",
            column=absent[0],
        )


def _are_files(given: Sequence[Any], kinds: Mapping[str, str]) -> bool:
    return (
        len(kinds) == 1
        and "b64" not in kinds
        and bool(given)
        and all(isinstance(row, Mapping) and row.keys() == {"b64"} for row in given)
    )


def _from_columns(given: Mapping[str, Any]) -> Rows:
    found: dict[str, Any] = {}
    for name, values in given.items():
        home = type(values).__module__.partition(".")[0]
        if home == "pandas" and hasattr(values, "to_numpy"):
            values = values.astype(object).where(values.notna(), None).tolist()
        elif home == "pyarrow":
            values = values.to_pylist()
        elif not isinstance(values, Sequence | np.ndarray) or isinstance(values, str | bytes):
            raise InvalidRow(
                f"a column must be a sequence. Received: {values!r}, of type {type(values).__name__}",
                "a single row is a list of one dict",
                column=str(name),
            )
        found[name] = values
    return found


def _from_pandas(frame: Any, kinds: Mapping[str, str]) -> Rows:
    import pyarrow as pa

    found: dict[str, Any] = {}
    for name in frame.columns:
        series = frame[name]
        if name not in kinds or series.dtype == object:
            values = series.astype(object)
            found[str(name)] = values.where(series.notna(), None).tolist()
        else:
            found[str(name)] = _plain(pa.Array.from_pandas(series), kinds[name])
    return found


def _from_arrow(table: Any, kinds: Mapping[str, str]) -> Rows:
    found: dict[str, Any] = {}
    for name in table.schema.names:
        values = table.column(name)
        values = values.combine_chunks() if hasattr(values, "combine_chunks") else values
        found[name] = _plain(values, kinds[name]) if name in kinds else [None] * len(values)
    return found


def _plain(values: Any, kind: str) -> Any:
    """Return an Arrow array as numbers, texts, lists or bytes, None where missing."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        values = values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_struct(values.type) and "bytes" in values.type.names:  # pictures as {bytes, path}
        values = values.field("bytes")
    kind_is_text = kind in ("string", "image")
    is_bytes = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    if kind_is_text and not is_bytes and not pa.types.is_nested(values.type):
        from headrace.data.readers.values import as_text

        return as_text(values).to_numpy(zero_copy_only=False)
    if kind in ("int", "float"):
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
        elif pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_floating(values.type) or (pa.types.is_integer(values.type) and not values.null_count):
            return values.to_numpy(zero_copy_only=False)
    if kind == "floats" and not pa.types.is_nested(values.type):
        return values.to_pylist()
    return values.to_numpy(zero_copy_only=False) if kind == "floats" else values.to_pylist()


def open_files(
    rows: Rows, kinds: Mapping[str, str], images: Collection[str] = ()
) -> tuple[Rows, dict[str, str]]:
    """Read pictures, and lay out pixels that are given as numbers.

    Args:
        rows: Rows or columns.
        kinds: Column -> kind; a `string` column whose values are files is one of pictures, since a server
            does not tell the two apart.
        images: Columns of pictures whose texts are paths; of kind `image` they always are.

    Returns:
        Rows whose pictures are bytes, and the kinds.

    Raises:
        InvalidRow: If a file cannot be read, or an array is no picture.
    """
    found = dict(kinds)
    changed: dict[str, list[Any]] = {}
    for name, kind in kinds.items():
        if kind not in ("string", "image", "floats"):
            continue
        values = _values(rows, name)
        if kind == "floats":
            if any(isinstance(value, np.ndarray) and value.ndim > 1 for value in values):
                changed[name] = [
                    np.ravel(value) if isinstance(value, np.ndarray) else value for value in values
                ]
        elif kind == "image" or name in images or _has_files(values):
            found[name] = "image"
            paths = kind == "image" or name in images
            changed[name] = [_file(value, paths, row, name) for row, value in enumerate(values)]
    if not changed:
        return rows, found
    if isinstance(rows, Mapping):
        return {**rows, **changed}, found
    pairs = [dict(zip(changed, row, strict=True)) for row in zip(*changed.values(), strict=True)]
    return [{**row, **pair} for row, pair in zip(rows, pairs, strict=True)], found


def _values(rows: Rows, name: str) -> Sequence[Any] | np.ndarray[Any, Any]:
    if isinstance(rows, Mapping):
        return rows.get(name, ())
    return [row.get(name) for row in rows]


def _has_files(values: Sequence[Any] | np.ndarray[Any, Any]) -> bool:
    """Tell whether texts are none, but files: paths, arrays, base64, or bytes and nothing else."""
    kinds = set(map(type, values))
    if kinds <= {str, type(None)}:
        return False
    return any(issubclass(kind, os.PathLike | np.ndarray | Mapping) for kind in kinds) or kinds <= {
        bytes,
        type(None),
    }


def _file(value: Any, paths: bool, row: int, name: str) -> Any:
    if isinstance(value, os.PathLike) or (paths and isinstance(value, str) and value):
        try:
            return Path(value).read_bytes()
        except (OSError, ValueError) as error:
            raise InvalidRow(
                f"a picture's file must be readable. Received: {error}", row=row, column=name
            ) from error
    if isinstance(value, np.ndarray):
        try:
            return _png(value)
        except InvalidRow as error:
            raise InvalidRow(error.text, row=row, column=name) from None
    return value


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    from ..images import encode_png

    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in (1, 3) or not pixels.size:
        raise InvalidRow(
            "an array of pixels must be uint8 [height, width] or [height, width, 1 or 3], 0 to 255. "
            f"Received: {pixels.dtype} {list(pixels.shape)}"
        )
    whole = pixels.reshape(*pixels.shape[:2], channels)
    return encode_png(np.repeat(whole, 3 // channels, axis=2))
