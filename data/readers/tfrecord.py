"""TFRecord files of tf.Example, without TensorFlow.

The record format is that of tensorflow/core/lib/io/record_writer.h: length, masked CRC32C of the length,
data, masked CRC32C of the data.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..columns import RawColumn
from ..config import DataConfig
from ..errors import ConfigError, DataRejected, EnvironmentProblem
from ..extras import how_to_install
from ..row_hashes import HashedColumns, hash_batch
from .block import Block
from .files import READ_ERRORS, open_bytes
from .values import ARROW_TYPES, as_text, clean, first_true

__all__ = ["check_examples", "example_names", "kinds_of_examples", "read_records", "read_tfrecord"]

_BATCH_ROWS = 8192
_BATCH_BYTES = 32 << 20
_PEEKED = 256
_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MAX_RECORD = 1 << 31


def read_tfrecord(
    path: str, data: DataConfig, columns: Sequence[RawColumn], hashed: HashedColumns | None = None
) -> Iterator[Block]:
    """Yield the examples of one file in blocks of at most 8,192 rows and about 32 MiB.

    A feature that an example lacks, or has without values, is missing. Lists become `floats`; with
    `task: multilabel` the label's values are joined by `data.label_separator`.

    Args:
        path: The file; .gz is decompressed on the way.
        data: The `data` section.
        columns: Columns to read.
        hashed: Columns to hash the rows by.

    Raises:
        DataRejected: If the file is damaged, a record is no tf.Example, or a value does not fit its column.
    """
    decoder = _decoder()
    separator = data.label_separator if data.task == "multilabel" else None
    row = 1
    for records in _batches(path):
        batch = _decode(decoder, records, path, row)
        block = Block(path, row, batch)
        arrays = [
            _plain(block, column, separator if column.name == data.label else None) for column in columns
        ]
        names = [column.name for column in columns]
        hashes = hash_batch(batch, hashed, columns, path)
        plain = pa.RecordBatch.from_arrays(arrays, names=names)
        yield clean(Block(path, row, plain, hashes=hashes), columns)
        row += len(records)


def read_records(stream: IO[bytes], path: str) -> Iterator[bytes]:
    """Yield the records of a stream and hold each to its checksums.

    Raises:
        DataRejected: If the file is cut short, does not decompress or a checksum does not agree.
    """
    checksum = _checksum()
    number = 1
    try:
        while head := stream.read(_HEAD.size):
            if len(head) < _HEAD.size:
                raise EOFError
            size, crc = _HEAD.unpack(head)
            if checksum(head[:8]) != crc or size > _MAX_RECORD:
                raise DataRejected(
                    "a TFRecord file must hold whole records. Received: a length that its checksum does not "
                    f"confirm (record {number} of {path})"
                )
            record = stream.read(size)
            end = stream.read(_CRC.size)
            if len(record) < size or len(end) < _CRC.size:
                raise EOFError
            if checksum(record) != _CRC.unpack(end)[0]:
                raise DataRejected(
                    "a TFRecord file must hold whole records. Received: data that its checksum does not "
                    f"confirm (record {number} of {path})"
                )
            yield record
            number += 1
    except READ_ERRORS as error:
        told = str(error) or "the file ends within it"
        raise DataRejected(
            f"a TFRecord file must hold whole records. Received: {told} (record {number} of {path})"
        ) from error


def example_names(path: str) -> list[str]:
    """Return the features that the first 256 examples have, sorted.

    Raises:
        ConfigError: If the file has no records, or they are not of tf.Example.
    """
    return sorted(_peek(path).schema.names)


def kinds_of_examples(path: str) -> dict[str, str]:
    """Tell of each feature what the first 256 examples hold: `plain` values, a `list` of numbers, a `picture`
    or something `else`.

    Raises:
        ConfigError: If the file has no records, or they are not of tf.Example.
    """
    batch = _peek(path)
    return {name: _kind_of(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _kind_of(lists: pa.Array) -> str:
    many = (
        (pc.max(pc.list_value_length(lists)).as_py() or 0) > 1 if not pa.types.is_null(lists.type) else False
    )
    if pa.types.is_null(lists.type) or not _is_bytes(lists.type.value_type):
        return "list" if many else "plain"
    values = lists.flatten().to_pylist()
    if not many and all(value.startswith((b"\xff\xd8\xff", b"\x89PNG")) for value in values):
        return "picture"
    return "plain" if not many and all(map(_is_utf8, values)) else "else"


def check_examples(path: str, data: DataConfig, columns: Sequence[RawColumn]) -> None:
    """Check by the first 256 examples that each column can be read as its type.

    Raises:
        ConfigError: If one cannot.
    """
    batch = _peek(path)
    for column in columns:
        place = batch.schema.get_field_index(column.name)
        if place < 0 or pa.types.is_null(batch.schema.field(place).type):
            continue
        found = batch.column(place)
        kind = found.type.value_type
        joined = column.name == data.label and data.task == "multilabel"
        many = (
            column.type != "floats" and not joined and (pc.max(pc.list_value_length(found)).as_py() or 0) > 1
        )
        is_bytes = _is_bytes(kind)
        wrong = not _fits(is_bytes, column)
        if many or wrong:
            what = "several values in an example" if many else "bytes_list" if is_bytes else f"{kind} values"
            raise ConfigError(
                f"column {column.name!r} is read as {column.type}. Received: {what} ({path})",
                "read it by a feature of kind series" if many and not is_bytes else "",
            )


def _peek(path: str) -> pa.RecordBatch:
    decoder = _decoder()
    with _open(path) as stream:
        records: list[bytes] = []
        try:
            for record in read_records(stream, path):
                records.append(record)
                if len(records) == _PEEKED:
                    break
            if not records:
                raise ConfigError(f"a data file must have rows. Received: no records ({path})")
            return _decode(decoder, records, path, 1)
        except DataRejected as error:
            hint = "" if path.endswith(".gz") else _gzip_hint(path)
            raise ConfigError(error.message, error.hint or hint) from error


def _gzip_hint(path: str) -> str:
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return "it is compressed: its name must end in .gz" if packed else ""


def _batches(path: str) -> Iterator[list[bytes]]:
    with _open(path) as stream:
        records: list[bytes] = []
        size = 0
        for record in read_records(stream, path):
            records.append(record)
            size += len(record)
            if len(records) == _BATCH_ROWS or size >= _BATCH_BYTES:
                yield records
                records, size = [], 0
        if records:
            yield records


def _open(path: str) -> IO[bytes]:
    """Open with a buffer, since records are read in small pieces."""
    stream: Any = open_bytes(path)
    return io.BufferedReader(stream, 1 << 20) if path.endswith(".gz") else stream


def _decode(decoder: Any, records: Sequence[bytes], path: str, row: int) -> pa.RecordBatch:
    try:
        return decoder.DecodeBatch(list(records))
    except (ValueError, RuntimeError) as error:
        raise DataRejected(
            f"records must be of tf.Example. Received: {' '.join(str(error).split())[:200]} "
            f"(in records {row} to {row + len(records) - 1} of {path})"
        ) from error


def _plain(block: Block, column: RawColumn, separator: str | None) -> pa.Array:
    """Return values of lists, as `clean` takes them."""
    place = block.batch.schema.get_field_index(column.name)
    if place < 0 or pa.types.is_null(block.batch.schema.field(place).type):
        kind = ARROW_TYPES[column.type]
        return pa.nulls(block.batch.num_rows, kind)
    lists = block.batch.column(place)
    is_bytes = _is_bytes(lists.type.value_type)
    if not _fits(is_bytes, column):
        held = "bytes" if is_bytes else f"{lists.type.value_type} values"
        raise DataRejected(
            f"column {column.name!r} is read as {column.type}. Received: {held} ({block.place(0)} or after)"
        )
    if column.type == "floats":
        return lists
    if column.type == "string" and is_bytes:
        lists = _texts(block, column.name, lists)
        if separator is not None:
            return pc.binary_join(lists, separator)
    many = first_true(pc.greater(pc.list_value_length(lists), 1))
    if many is not None:
        raise DataRejected(
            f"column {column.name!r} must have one value in an example. Received: {len(lists[many])} "
            f"({block.place(many)})"
        )
    values = _first(lists)
    return as_text(values) if column.type == "string" else values


def _first(lists: pa.Array) -> pa.Array:
    """Return the only value of each list, null where it is empty or null."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    places = np.cumsum(lengths) - 1
    return lists.flatten().take(pa.array(places, mask=lengths == 0))


def _texts(block: Block, name: str, lists: pa.Array) -> pa.Array:
    try:
        values = lists.flatten().cast(pa.string())
    except pa.ArrowInvalid as error:
        at = next(
            index
            for index, found in enumerate(lists.to_pylist())
            if any(not _is_utf8(item) for item in found or ())
        )
        raise DataRejected(
            f"column {name!r} must be UTF-8. Received: other bytes ({block.place(at)})"
        ) from error
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(lengths == 0))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fits(is_bytes: bool, column: RawColumn) -> bool:
    """Tell whether values, bytes or numbers, can be read as a column's type; numbers can as text."""
    return column.type == "string" or is_bytes == (column.type == "image")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _decoder() -> Any:
    """Return the C++ decoder of tf.Example.

    Raises:
        EnvironmentProblem: If it is not installed.
    """
    try:
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
    except ImportError as error:
        raise _not_installed(error) from error
    return ExamplesToRecordBatchDecoder()


def _checksum() -> Callable[[bytes], int]:
    """Return the masked CRC32C of the format."""
    try:
        from google_crc32c import value
    except ImportError as error:
        raise _not_installed(error) from error

    def masked(content: bytes) -> int:
        crc = value(content)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    return masked


def _not_installed(error: ImportError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"TFRecord files need the packages of a pipeline. Received: {error}",
        how_to_install("pipeline"),
    )
