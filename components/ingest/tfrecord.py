"""Arrow batches to gzip TFRecord shards of tf.Example, without TensorFlow.

The record format is that of tensorflow/core/lib/io/record_writer.h: length, masked CRC32C of the
length, data, masked CRC32C of the data.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.components.whole_file import whole_file

__all__ = ["encode_examples", "frame_records", "shard_limits", "shard_name", "write_shard", "write_shards"]

_ENCODED_ROWS = 4096
_ENCODED_BYTES = 16 << 20
_GZIP = 31  # zlib's window bits for a gzip header; it writes no time, so equal rows give equal files
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


def write_shards(
    folder: str, batches: Iterable[pa.RecordBatch], rows: int, shards: int, level: int = 1
) -> list[str]:
    """Write rows to `data_tfrecord-*-of-*.gz`, in order, cut evenly.

    Args:
        folder: An existing folder.
        batches: Rows; int64, float64 (written as float32), string, binary or lists of float32 columns, null
            for missing.
        rows: How many rows `batches` holds, >= 1.
        shards: Files to write at most; never more than there are rows.
        level: Of gzip; 0 stores what is compressed already, as pictures are.

    Returns:
        Names of the files.
    """
    limits = shard_limits(rows, shards)
    names = [shard_name(index, len(limits)) for index in range(len(limits))]
    rest = iter(_pieces(batches, limits))
    for name, limit in zip(names, limits, strict=True):
        _write(os.path.join(folder, name), rest, limit, level)
    return names


def shard_limits(rows: int, shards: int) -> list[int]:
    """Return where each shard ends, in rows, of `rows` >= 1 cut evenly into at most `shards`."""
    shards = min(shards, rows)
    return [rows * (index + 1) // shards for index in range(shards)]


def shard_name(index: int, shards: int) -> str:
    """Return the file name of a shard."""
    return f"data_tfrecord-{index:05d}-of-{shards:05d}.gz"


def write_shard(path: str, batches: Iterable[pa.RecordBatch], rows: int, level: int = 1) -> None:
    """Write one shard, whole or not at all.

    Args:
        path: Of the file.
        batches: Its rows, as `write_shards` takes them.
        rows: How many they are.
        level: Of gzip.
    """
    with whole_file(path) as scratch:
        _write(scratch, iter(_pieces(batches, [rows])), rows, level)


def _write(path: str, pieces: Iterator[tuple[int, pa.RecordBatch]], limit: int, level: int) -> None:
    """Write pieces up to the one that ends at row `limit`."""
    encoder = _encoder()
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    with open(path, "wb") as stream:
        for end, piece in pieces:
            stream.write(packer.compress(frame_records(encode_examples(piece, encoder))))
            if end == limit:
                break
        stream.write(packer.flush())


def _encoder() -> Any:
    # Where it is used: `validate` reads rows, and needs no more than a base install.
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    return RecordBatchToExamplesEncoder()


def encode_examples(batch: pa.RecordBatch, encoder: Any = None) -> list[bytes]:
    """Serialize each row as a tf.Example; missing is a feature without a list, as CsvExampleGen writes it."""
    encoder = encoder or _encoder()
    lists = pa.RecordBatch.from_arrays(
        [_as_lists(column) for column in batch.columns], names=batch.schema.names
    )
    return encoder.encode(lists)


def frame_records(records: Sequence[bytes]) -> bytes:
    """Return records in TFRecord framing, one after another."""
    import google_crc32c

    crc = google_crc32c.value
    pack = _CRC.pack
    heads: dict[int, bytes] = {}
    parts: list[bytes] = []
    for record in records:
        size = len(record)
        head = heads.get(size)
        if head is None:
            length = _LENGTH.pack(size)
            head = heads[size] = length + pack(_masked(crc(length)))
        parts += (head, record, pack(_masked(crc(record))))
    return b"".join(parts)


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _pieces(batches: Iterable[pa.RecordBatch], limits: Sequence[int]) -> Iterable[tuple[int, pa.RecordBatch]]:
    """Cut batches into pieces that end at every limit; yield (rows so far, piece).

    A piece has at most 4096 rows and about 16 MiB.
    """
    position = 0
    shard = 0
    for batch in batches:
        start = 0
        most = max(1, min(_ENCODED_ROWS, _ENCODED_BYTES * batch.num_rows // max(batch.nbytes, 1)))
        while start < batch.num_rows:
            size = min(most, batch.num_rows - start, limits[shard] - position)
            position += size
            yield position, batch.slice(start, size)
            start += size
            if position == limits[shard]:
                shard += 1


def _as_lists(column: pa.Array) -> pa.Array:
    """Turn values into lists of one, and null into a null list, as the encoder wants them."""
    if pa.types.is_large_list(column.type):
        return column
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float32())
    elif pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    if not column.null_count:
        return pa.LargeListArray.from_arrays(pa.array(np.arange(len(column) + 1)), column)
    missing = column.is_null()
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(~missing.to_numpy(zero_copy_only=False), out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), column.drop_null(), mask=missing)
