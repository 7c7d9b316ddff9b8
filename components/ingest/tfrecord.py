"""Arrow batches to gzip TFRecord shards of tf.Example, without TensorFlow.

The record format is that of tensorflow/core/lib/io/record_writer.h: length, masked CRC32C of the
length, data, masked CRC32C of the data.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Sequence

import google_crc32c
import numpy as np
import pyarrow as pa
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

__all__ = ["encode_examples", "frame_records", "write_shards"]

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
    shards = min(shards, rows)
    limits = [rows * (index + 1) // shards for index in range(shards)]
    names = [f"data_tfrecord-{index:05d}-of-{shards:05d}.gz" for index in range(shards)]
    encoder = RecordBatchToExamplesEncoder()
    rest = iter(_pieces(batches, limits))
    for name, limit in zip(names, limits, strict=True):
        packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        with open(os.path.join(folder, name), "wb") as stream:
            for end, piece in rest:
                stream.write(packer.compress(frame_records(encode_examples(piece, encoder))))
                if end == limit:
                    break
            stream.write(packer.flush())
    return names


def encode_examples(
    batch: pa.RecordBatch, encoder: RecordBatchToExamplesEncoder | None = None
) -> list[bytes]:
    """Serialize each row as a tf.Example; missing is a feature without a list, as CsvExampleGen writes it."""
    encoder = encoder or RecordBatchToExamplesEncoder()
    lists = pa.RecordBatch.from_arrays(
        [_as_lists(column) for column in batch.columns], names=batch.schema.names
    )
    return encoder.encode(lists)


def frame_records(records: Sequence[bytes]) -> bytes:
    """Return records in TFRecord framing, one after another."""
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
