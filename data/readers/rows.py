"""The rows of a whole data set, whatever its files are."""

from collections.abc import Iterator, Sequence

from ..columns import RawColumn
from ..config import DataConfig
from ..derived import packed_columns, unpacked
from .block import Block
from .csv import read_csv
from .files import format_of
from .folder import read_folder
from .images import load_images
from .pack import pack_block
from .parquet import read_parquet

__all__ = ["read_blocks"]


def read_blocks(paths: Sequence[str], data: DataConfig, columns: Sequence[RawColumn]) -> Iterator[Block]:
    """Yield the rows of all files, in order.

    Args:
        paths: Files, from `find_files`; `check_source` must have found them sound.
        data: The `data` section.
        columns: Columns of each block: int64 for `int`, float64 for `float`, string, large_list of float32
            for `floats`, large_binary for `image`; missing is null.

    Raises:
        DataRejected: If the content cannot be read as that.
    """
    packed = {
        name: parts for name, parts in packed_columns(data).items() if name in {c.name for c in columns}
    }
    wanted = unpacked(data, columns)
    if data.format == "images":
        yield from load_images(read_folder(paths, data, wanted), columns)
        return
    for path in paths:
        blocks = _read_file(path, data, wanted)
        if packed:
            blocks = (pack_block(block, columns, packed) for block in blocks)
        yield from load_images(blocks, columns)


def _read_file(path: str, data: DataConfig, columns: Sequence[RawColumn]) -> Iterator[Block]:
    if format_of(path, data) == "parquet":
        return read_parquet(path, columns)
    return read_csv(path, data, columns)
