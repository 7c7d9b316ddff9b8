"""Columns that no file holds: packed from several numbers, or lists of a window's values."""

import re
from collections.abc import Iterator, Sequence

from .columns import RawColumn
from .config import DataConfig, RawType, TimeSplit
from .errors import ConfigError

__all__ = ["expand_names", "packed_columns", "unpacked", "unwindowed"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_PACKED = 1_000_000


def expand_names(names: str | Sequence[str], place: str = "data.pack") -> tuple[str, ...]:
    """Write out the ranges in column names; a range whose first number has leading zeros keeps the width.

    Raises:
        ConfigError: If a range runs backwards or is larger than a million, or a name comes twice.

    Example:
        >>> expand_names("lag_{8..10}")
        ('lag_8', 'lag_9', 'lag_10')
        >>> expand_names(["p{08..10}", "q"])
        ('p08', 'p09', 'p10', 'q')
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    found = tuple(name for item in given for name in _expanded(item, place))
    if not found:
        raise ConfigError(f"a packed column must be made of columns. Received: none ({place})")
    if len(set(found)) != len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise ConfigError(f"a packed column must take each column once. Received: {twice!r} twice ({place})")
    return found


def packed_columns(data: DataConfig) -> dict[str, tuple[str, ...]]:
    """Return the name of each packed column and the columns that it is made of, in order.

    Raises:
        ConfigError: If a range is wrong, or a packed column has the name of one that it is made of.
    """
    found = {}
    for name, names in data.pack.items():
        members = expand_names(names, f"data.pack.{name}")
        if name in members:
            raise ConfigError(
                f"a packed column needs a name of its own. Received: {name!r} (data.pack.{name})"
            )
        found[name] = members
    return found


def unpacked(data: DataConfig, columns: Sequence[RawColumn]) -> tuple[RawColumn, ...]:
    """Return the columns that a file must hold to give `columns`: packed ones replaced by their parts.

    Raises:
        ConfigError: If a part is also read as something else than a number.
    """
    packed = packed_columns(data)
    found = {column.name: column for column in columns if column.name not in packed}
    for column in columns:
        for member in packed.get(column.name, ()):
            kind = found.setdefault(member, RawColumn(member, _number_type(data, member))).type
            if kind not in ("int", "float"):
                raise ConfigError(
                    f"a packed column must be made of numbers. Received: column {member!r} read as {kind} "
                    f"(data.pack.{column.name})"
                )
    return tuple(found.values())


def unwindowed(data: DataConfig, columns: Sequence[RawColumn]) -> tuple[RawColumn, ...]:
    """Return the columns to read row by row so that windows can be cut: numbers, the order, the groups.

    Without `data.windows` these are `columns`.

    Raises:
        ConfigError: If the features read a windowed column as anything but a series, or a list that
            windows do not make.
    """
    windows = data.windows
    if windows is None:
        return tuple(columns)
    sources = windows.sources
    found: dict[str, RawColumn] = {}
    for column in columns:
        if column.name not in sources:
            if column.type == "floats":
                raise ConfigError(
                    "with `data.windows` every series must be one of its columns. "
                    f"Received: {column.name!r} (data.windows.columns)"
                )
            found[column.name] = column
        elif column.type != "floats":
            raise ConfigError(
                f"a windowed column must be read by a feature of kind series. Received: column "
                f"{column.name!r} read as {column.type} (data.windows.columns)",
                "the label may be windowed too, under another name: `columns: {recent: NAME}`",
            )
    wanted = [sources[column.name] for column in columns if column.name in sources]
    for name in wanted:
        kind = found.setdefault(name, RawColumn(name, "float")).type
        if kind not in ("int", "float"):
            raise ConfigError(
                f"windows must be made of numbers. Received: column {name!r} read as {kind} "
                "(data.windows.columns)"
            )
    found.setdefault(windows.order, RawColumn(windows.order, _order_type(data)))
    for name in windows.group:
        found.setdefault(name, RawColumn(name, data.columns.get(name, "string")))
    return tuple(found.values())


def _order_type(data: DataConfig) -> RawType:
    order = data.windows.order if data.windows else ""
    if isinstance(data.split, TimeSplit) and data.split.column == order:
        return "string" if isinstance(data.split.eval_from, str) else "float"
    return data.columns.get(order, "string")


def _number_type(data: DataConfig, name: str) -> RawType:
    return data.columns.get(name, "float")


def _expanded(name: str, place: str) -> Iterator[str]:
    found = _RANGE.search(name)
    if found is None:
        yield name
        return
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= _MAX_PACKED:
        raise ConfigError(
            f"a range of columns must run upwards, to at most {_MAX_PACKED:,} columns. "
            f"Received: {name!r} ({place})"
        )
    width = len(found[1]) if found[1].startswith("0") else 1
    for number in range(first, last + 1):
        rest = f"{number:0{width}d}{name[found.end() :]}"
        yield from (name[: found.start()] + end for end in _expanded(rest, place))
