"""Features of columns that are no single values: lists, wide rows of numbers, pictures."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn
from .config import DataConfig
from .errors import ConfigError, DataRejected
from .feature_guess import Guess
from .readers.files import format_of
from .readers.parquet import check_types, read_schema
from .readers.rows import read_blocks
from .readers.tfrecord import kinds_of_examples
from .yaml_text import scalar

__all__ = ["Shapes", "Wide", "guess_series", "guess_wide", "sort_columns"]

_MIN_WIDE = 64
_MAX_STEPS = 512
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class Shapes:
    """Columns of a data set by what they hold.

    Attributes:
        plain: One value a row.
        lists: Lists of numbers.
        pictures: Bytes of JPEG or PNG files.
    """

    plain: tuple[str, ...]
    lists: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.plain, *self.lists, *self.pictures)


def sort_columns(path: str, data: DataConfig, names: Sequence[str]) -> Shapes:
    """Sort the columns of a file by what they hold; what headrace cannot read is left out."""
    kind = format_of(path, data)
    if kind == "csv":
        return Shapes(tuple(names))
    if kind == "tfrecord":
        kinds = kinds_of_examples(path)
        return Shapes(*(tuple(n for n in names if kinds[n] == k) for k in ("plain", "list", "picture")))
    schema = read_schema(path)[0]
    plain = [name for name in names if _fits(path, schema, data, RawColumn(name, "string"))]
    others = [name for name in names if name not in plain]
    lists = [name for name in others if _fits(path, schema, data, RawColumn(name, "floats"))]
    pictures = [name for name in others if _fits(path, schema, data, RawColumn(name, "image"))]
    return Shapes(tuple(plain), tuple(lists), tuple(pictures))


def guess_series(
    paths: Sequence[str], data: DataConfig, names: Sequence[str], taken: Iterable[str]
) -> dict[str, Guess]:
    """Return features of list columns: one of all channels where their lengths agree in every row.

    Args:
        paths: The files.
        data: The `data` section.
        names: The list columns.
        taken: Names that a feature must not have.
    """
    if not names:
        return {}
    longest = dict.fromkeys(names, 0)
    shortest = dict.fromkeys(names, 2**62)
    agree = True
    for block in read_blocks(paths, data, [RawColumn(name, "floats") for name in names]):
        lengths = [pc.list_value_length(column).fill_null(0) for column in block.batch.columns]
        agree = agree and all(length.equals(lengths[0]) for length in lengths)
        for name, length in zip(names, lengths, strict=True):
            limits = pc.min_max(length)
            longest[name] = max(longest[name], limits["max"].as_py())
            shortest[name] = min(shortest[name], limits["min"].as_py())
    groups = [tuple(names)] if agree else [(name,) for name in names]
    found = {}
    for group in groups:
        low, high = shortest[group[0]], longest[group[0]]
        channels = f"{len(group)} channels, " if len(group) > 1 else ""
        seen = f"{channels}{low:,} to {high:,} steps" if low < high else f"{channels}{high:,} steps"
        lines = ["kind: series"]
        if len(group) > 1:
            lines.append(f"of: [{', '.join(map(scalar, group))}]")
        lines.append(f"max_length: {min(max(high, 1), _MAX_STEPS)}")
        if high > _MAX_STEPS:
            seen += f"; the last {_MAX_STEPS} are kept"
        found[_free("series", taken) if len(group) > 1 else group[0]] = Guess(tuple(lines), seen)
    return found


@dataclass(frozen=True)
class Wide:
    """Many numbered columns that are one list.

    Attributes:
        name: Of the packed column and its feature.
        pattern: The columns, as `data.pack` writes them.
        members: The columns.
        guess: The feature.
    """

    name: str
    pattern: str
    members: tuple[str, ...]
    guess: Guess


def guess_wide(paths: Sequence[str], data: DataConfig, names: Sequence[str]) -> list[Wide]:
    """Find columns such as pixel_0 to pixel_783 that hold numbers of one kind: pictures, or series.

    Args:
        paths: The files.
        data: The `data` section.
        names: Columns with one value a row.
    """
    found = []
    for pattern, members in _numbered(names).items():
        name = _free(re.sub(r"\{.*", "", pattern).strip("_-. ") or "values", names)
        section = data.model_copy(update={"pack": {name: members}})
        try:
            guess = _wide_guess(paths, section, name, len(members))
        except (ConfigError, DataRejected):
            continue  # not numbers
        if guess is not None:
            found.append(Wide(name, pattern, members, guess))
    return found


def _numbered(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return pattern -> columns for names that count up by one, 64 or more, in their order."""
    runs: dict[str, list[tuple[int, str, str]]] = {}
    for name in names:
        if (found := _NUMBERED.fullmatch(name)) is not None:
            runs.setdefault(found[1], []).append((int(found[2]), found[2], name))
    patterns = {}
    for prefix, run in runs.items():
        run.sort()
        first, last = run[0], run[-1]
        width = len(first[1])
        padded = first[1].startswith("0") and width > 1
        written = [
            f"{number:0{width}d}" if padded else str(number) for number in range(first[0], last[0] + 1)
        ]
        if len(run) >= _MIN_WIDE and [text for _, text, _ in run] == written and "{" not in prefix:
            patterns[f"{prefix}{{{first[1]}..{last[1]}}}"] = tuple(name for _, _, name in run)
    return patterns


def _wide_guess(paths: Sequence[str], data: DataConfig, name: str, width: int) -> Guess | None:
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    whole = True
    for block in read_blocks(paths, data, [RawColumn(name, "floats")]):
        values = block.batch.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        if not len(values):
            continue
        low, high = np.fmin(low, np.nanmin(values, 0)), np.fmax(high, np.nanmax(values, 0))
        known = values[~np.isnan(values)]
        whole = whole and bool((known == np.floor(known)).all())
    least, most = float(low.min()), float(high.max())
    spans = (high - low)[high > low]
    # Numbers of one kind share their range; a table of many different measures does not.
    if not len(spans) or np.median(spans) < (most - least) / 10:
        return None
    seen = f"{width} columns of numbers from {least:g} to {most:g}"
    side = math.isqrt(width // 3 if width % 3 == 0 and math.isqrt(width) ** 2 != width else width)
    if whole and least >= 0 and most <= 255 and side * side in (width, width / 3):
        top = 255 if most > 64 else int(most)
        lines = ["kind: image", f"height: {side}", f"width: {side}", f"channels: {width // side**2}"]
        return Guess((*lines, *([f"max_value: {top}"] if top != 255 else [])), f"{seen}: pixels")
    return Guess(("kind: series", f"max_length: {width}"), seen)


def _fits(path: str, schema: pa.Schema, data: DataConfig, column: RawColumn) -> bool:
    try:
        check_types(path, schema, data, [column])
    except ConfigError:
        return False
    return True


def _free(name: str, taken: Iterable[str]) -> str:
    known = {*taken, "label", "weight"}
    return next(new for new in (name, *(f"{name}_{index}" for index in range(2, 99))) if new not in known)
