"""The rows of a whole data set, whatever its files are."""

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from ..columns import RawColumn
from ..config import DataConfig
from ..derived import packed_columns, unpacked
from ..row_hashes import HashedColumns
from .block import Block
from .csv import read_csv
from .files import data_path, format_of
from .folder import read_folder
from .images import load_images
from .pack import pack_block
from .parquet import read_parquet
from .tfrecord import read_tfrecord

__all__ = ["read_blocks", "referenced_files"]


def read_blocks(
    paths: Sequence[str],
    data: DataConfig,
    columns: Sequence[RawColumn],
    hashed: HashedColumns | None = None,
) -> Iterator[Block]:
    """Yield the rows of all files, in order.

    Args:
        paths: Files, from `find_files`; `check_source` must have found them sound.
        data: The `data` section.
        columns: Columns of each block: int64 for `int`, float64 for `float`, string, large_list of float32
            for `floats`, large_binary for `image`; missing is null.
        hashed: Columns to hash the rows by, whether they are among `columns` or not; None: no hashes.

    Raises:
        DataRejected: If the content cannot be read as that.
    """
    packed = {
        name: parts for name, parts in packed_columns(data).items() if name in {c.name for c in columns}
    }
    wanted = unpacked(data, columns)
    if data.format == "images":
        yield from load_images(read_folder(data_path(data), paths, data, wanted, hashed), columns, hashed)
        return
    for path in paths:
        blocks = _read_file(path, data, wanted, hashed)
        if packed:
            blocks = (pack_block(block, columns, packed) for block in blocks)
        yield from load_images(blocks, columns, hashed)


def referenced_files(paths: Sequence[str], data: DataConfig, columns: Sequence[RawColumn]) -> list[str]:
    """List the pictures that exist among those that files name, sorted.

    Args:
        paths: The data's files, from `find_files`.
        data: The `data` section.
        columns: The columns that are read.
    """
    pictures = [column for column in columns if column.type == "image"]
    found: set[str] = set()
    if not pictures or data.format == "images":
        return []
    for path in paths:
        for block in _read_file(path, data, pictures):
            names = [array for array in block.batch.columns if pa.types.is_string(array.type)]
            if not names:
                break  # the pictures lie in the file itself
            for array in names:
                found |= {os.path.join(os.path.dirname(path), name) for name in array.drop_null().to_pylist()}
    return sorted(path for path in found if os.path.isfile(path))


def _read_file(
    path: str, data: DataConfig, columns: Sequence[RawColumn], hashed: HashedColumns | None = None
) -> Iterator[Block]:
    kind = format_of(path, data)
    if kind == "parquet":
        return read_parquet(path, data, columns, hashed)
    if kind == "tfrecord":
        return read_tfrecord(path, data, columns, hashed)
    return read_csv(path, data, columns, hashed)
