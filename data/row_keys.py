"""Which columns tell rows apart."""

from collections.abc import Collection, Iterable

from .columns import ColumnPlan
from .config import ColumnSplit, DataConfig, HashSplit
from .derived import packed_columns
from .readers.files import format_of
from .readers.folder import IMAGE
from .row_hashes import HashedColumns

__all__ = ["hashed_columns"]


def hashed_columns(
    data: DataConfig, plan: ColumnPlan, names: Iterable[str], paths: Collection[str]
) -> HashedColumns:
    """Choose the columns that are hashed.

    Args:
        data: The `data` section.
        plan: The columns that the config uses.
        names: All columns of the files.
        paths: The files.
    """
    packed = packed_columns(data)

    def in_files(columns: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({part for name in columns for part in packed.get(name, (name,))}))

    split = data.split
    apart = {data.label, data.weight, split.column if isinstance(split, ColumnSplit) else None}
    if isinstance(split, HashSplit) and split.key:
        key = in_files(split.key)
    elif data.format == "images":
        key = (IMAGE,)  # the path names the class
    elif any(format_of(path, data) == "tfrecord" for path in paths):
        key = in_files(plan.features)  # an example need not have every feature, so that no list is whole
    else:
        key = tuple(sorted(name for name in set(names) if name not in apart))
    # Windows are made of rows, and hashed when they are.
    return HashedColumns(key, in_files(plan.features) if data.windows is None else ())
