"""Parquet, streamed through Arrow."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..columns import RawColumn
from ..config import DataConfig, RawType
from ..errors import ConfigError, DataRejected
from ..row_hashes import HashedColumns, hash_batch
from .block import Block
from .values import as_text, clean, is_list

__all__ = ["check_types", "read_parquet", "read_schema"]

_BATCH_ROWS = 65_536
_BATCH_BYTES = 64 << 20


def read_parquet(
    path: str, data: DataConfig, columns: Sequence[RawColumn], hashed: HashedColumns | None = None
) -> Iterator[Block]:
    """Yield the rows of one file in blocks of at most 65,536 rows and about 64 MiB.

    Args:
        path: The file.
        data: The `data` section; with `task: multilabel` a label may be a list of texts.
        columns: Columns to read; each must be in its schema with a type that fits.
        hashed: Columns to hash the rows by; one that is not in the schema is missing in every row.

    Raises:
        DataRejected: If a page cannot be read.
    """
    row = 1
    names = [column.name for column in columns]
    try:
        with pq.ParquetFile(path) as file:
            # `iter_batches` gives the file's order of columns, not the one asked for.
            wanted = [*names, *_beyond(file, columns, hashed)]
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), columns=wanted):
                arrays = [_plain(batch.column(column.name), data, column) for column in columns]
                if batch.num_rows:
                    plain = pa.RecordBatch.from_arrays(arrays, names=names)
                    hashes = hash_batch(batch, hashed, columns, path)
                    yield clean(Block(path, row, plain, hashes=hashes), columns)
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


def check_types(path: str, schema: pa.Schema, data: DataConfig, columns: Sequence[RawColumn]) -> None:
    """Check that each column can be read as its type.

    Raises:
        ConfigError: If one cannot.
    """
    for column in columns:
        found = _value_type(schema.field(column.name).type)
        if not (_fits(found, column.type) or (_is_list_of_text(found) and _is_joined(data, column))):
            text = _is_text(found)
            hint = f"use it as a category or a date, or set `data.columns.{column.name}`" if text else ""
            if is_list(found) and _is_number(_value_type(found.value_type)):
                hint = "read it by a feature of kind series, or image for rows of pixels"
            raise ConfigError(
                f"column {column.name!r} is read as {column.type}. Received: Parquet type {found} ({path})",
                hint,
            )


def _beyond(file: pq.ParquetFile, columns: Sequence[RawColumn], hashed: HashedColumns | None) -> list[str]:
    names = {*file.schema_arrow.names}
    return [column.name for column in (hashed.beyond(columns) if hashed else ()) if column.name in names]


def _batch_rows(metadata: pq.FileMetaData) -> int:
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * metadata.num_rows // max(size, 1)))


def _fits(found: pa.DataType, kind: RawType) -> bool:
    if kind == "floats":
        return is_list(found) and _is_number(_value_type(found.value_type))
    if kind == "image":
        return _is_text(found) or _is_bytes(found) or _is_bytes(_bytes_field(found))
    if kind == "string":
        return _is_number(found) or _is_text(found) or bool(pa.types.is_temporal(found))
    return _is_number(found)


def _is_number(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(found)
        or pa.types.is_floating(found)
        or pa.types.is_boolean(found)
        or pa.types.is_decimal(found)
    )


def _is_text(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    )


def _is_list_of_text(found: pa.DataType) -> bool:
    return is_list(found) and _is_text(_value_type(found.value_type))


def _is_joined(data: DataConfig, column: RawColumn) -> bool:
    """Tell whether the values of a list become one text."""
    return data.task == "multilabel" and column.name == data.label


def _is_bytes(found: pa.DataType | None) -> bool:
    if found is None:
        return False
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))


def _bytes_field(found: pa.DataType) -> pa.DataType | None:
    """Return the type of field `bytes`, where pictures are stored as {bytes, path}."""
    return found.field("bytes").type if pa.types.is_struct(found) and "bytes" in found.names else None


def _value_type(found: pa.DataType) -> pa.DataType:
    return found.value_type if pa.types.is_dictionary(found) else found


def _plain(array: pa.Array, data: DataConfig, column: RawColumn) -> pa.Array:
    """Return text for `string` columns, lists or bytes as they are, and integers or floats for the others."""
    if column.type == "string":
        joined = is_list(array.type) and _is_joined(data, column)
        return pc.binary_join(array, data.label_separator) if joined else as_text(array)
    if column.type == "image":
        return _picture(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8())
    return array.cast(pa.float64()) if pa.types.is_decimal(array.type) else array


def _picture(array: pa.Array) -> pa.Array:
    if pa.types.is_struct(array.type):
        array = pc.struct_field(array, "bytes")
    return as_text(array) if _is_text(_value_type(array.type)) else array
