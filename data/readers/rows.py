"""The rows of a whole data set, whatever its files are."""

from collections.abc import Iterator, Sequence

from ..columns import RawColumn
from ..config import DataConfig
from .block import Block
from .csv import read_csv
from .files import format_of
from .parquet import read_parquet

__all__ = ["read_blocks"]


def read_blocks(paths: Sequence[str], data: DataConfig, columns: Sequence[RawColumn]) -> Iterator[Block]:
    """Yield the rows of all files, in order.

    Args:
        paths: Files, from `find_files`; `check_source` must have found them sound.
        data: The `data` section.
        columns: Columns of each block: int64 for `int`, float64 for `float`, string; missing is null.

    Raises:
        DataRejected: If the content cannot be read as that.
    """
    for path in paths:
        if format_of(path, data) == "parquet":
            yield from read_parquet(path, columns)
        else:
            yield from read_csv(path, data, columns)
