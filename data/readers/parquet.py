"""Parquet, streamed through Arrow."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ..columns import RawColumn
from ..errors import ConfigError, DataRejected
from .block import Block
from .values import as_text, clean

__all__ = ["check_types", "read_parquet", "read_schema"]

_BATCH_ROWS = 65_536


def read_parquet(path: str, columns: Sequence[RawColumn]) -> Iterator[Block]:
    """Yield the rows of one file in blocks of at most 65,536 rows.

    Args:
        path: The file.
        columns: Columns to read; each must be in its schema with a type that fits.

    Raises:
        DataRejected: If a page cannot be read.
    """
    row = 1
    names = [column.name for column in columns]
    try:
        with pq.ParquetFile(path) as file:
            # `iter_batches` gives the file's order of columns, not the one asked for.
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                arrays = [_plain(batch.column(column.name), column) for column in columns]
                if batch.num_rows:
                    yield clean(Block(path, row, pa.RecordBatch.from_arrays(arrays, names=names)), columns)
                    row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataRejected(
            f"the Parquet file must be readable. Received: {error} (from row {row} of {path})"
        ) from error


def read_schema(path: str) -> tuple[pa.Schema, int]:
    """Return the Arrow schema and the number of rows, from the footer alone.

    Raises:
        ConfigError: If the file is not Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        first = str(error).split(". ")[0]
        raise ConfigError(f"the file must be Parquet. Received: {first} ({path})") from error


def check_types(path: str, schema: pa.Schema, columns: Sequence[RawColumn]) -> None:
    """Check that each column can be read as its type.

    Raises:
        ConfigError: If one cannot.
    """
    for column in columns:
        found = schema.field(column.name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        number = (
            pa.types.is_integer(found)
            or pa.types.is_floating(found)
            or pa.types.is_boolean(found)
            or pa.types.is_decimal(found)
        )
        text = (
            pa.types.is_string(found)
            or pa.types.is_large_string(found)
            or pa.types.is_string_view(found)
            or pa.types.is_temporal(found)
        )
        if not number and (column.type != "string" or not text):
            raise ConfigError(
                f"column {column.name!r} is read as {column.type}. Received: Parquet type {found} ({path})",
                f"use it as a category or a date, or set `data.columns.{column.name}`" if text else "",
            )


def _plain(array: pa.Array, column: RawColumn) -> pa.Array:
    """Return text for `string` columns and integers or floats for the others."""
    if column.type == "string":
        return as_text(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8())
    return array.cast(pa.float64()) if pa.types.is_decimal(array.type) else array
