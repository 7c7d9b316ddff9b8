"""Pictures, looked at one by one: their size, their colours, and which cannot be decoded."""

import io
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .columns import RawColumn
from .config import DataConfig
from .feature_guess import Guess
from .profile import ColumnProfile
from .readers.block import Corrupt
from .readers.files import open_bytes
from .readers.images import why_corrupt
from .readers.rows import read_blocks

__all__ = ["Pictures", "is_picture_path", "look_at", "pictures_of_column", "pictures_of_files"]

_MAX_SIDE = 96
_SAMPLED = 64
_MOST, _MOST_PIXELS = 500, 100_000_000
"""Where looking stops: at about a second of decoding, but never before `_SAMPLED` pictures."""

_GREY = ("1", "L", "I", "I;16")
_PICTURE_ENDS = (".jpg", ".jpeg", ".png")
_SHOWN = 3
_DEFAULT_SHARE = DataConfig.model_fields["max_corrupt_share"].default
_MOST_CORRUPT = 0.1


@dataclass(frozen=True)
class Pictures:
    """What was seen of pictures.

    Attributes:
        guess: Their feature.
        looked: How many were decoded, or not.
        corrupt: Those that cannot be.
    """

    guess: Guess
    looked: int
    corrupt: tuple[Corrupt, ...]

    @property
    def allowed(self) -> float | None:
        """What `data.max_corrupt_share` should be; None for its default, and where too many are corrupt."""
        share = len(self.corrupt) / max(self.looked, 1)
        return math.ceil(150 * share) / 100 if _DEFAULT_SHARE < share <= _MOST_CORRUPT else None

    def notes(self) -> list[str]:
        """Say which pictures are corrupt, and what becomes of them."""
        if not self.corrupt:
            return []
        named = ", ".join(f"{entry.path} ({entry.reason})" for entry in self.corrupt[:_SHOWN])
        more = f" and {len(self.corrupt) - _SHOWN} more" if len(self.corrupt) > _SHOWN else ""
        seen = f"{len(self.corrupt)} of {self.looked:,} pictures looked at cannot be decoded: {named}{more}"
        if self.allowed is not None:
            return [f"{seen}; they are left out, which `data.max_corrupt_share: {self.allowed:g}` allows"]
        if len(self.corrupt) <= _DEFAULT_SHARE * self.looked:
            return [f"{seen}; they are left out"]
        return [f"{seen}; the data gate will close, since so many may mean a fault: repair or remove them"]


def look_at(given: Iterable[bytes | Corrupt]) -> Pictures:
    """Decode pictures and choose their feature: their median size, at most 96 pixels a side.

    Args:
        given: Contents of files; or, of a picture that is known to be corrupt, why.
    """
    from PIL import Image

    sizes: list[tuple[int, int]] = []
    corrupt: list[Corrupt] = []
    grey, pixels = True, 0
    for item in given:
        if isinstance(item, Corrupt):
            corrupt.append(item)
        else:
            with Image.open(io.BytesIO(item), formats=("JPEG", "PNG")) as picture:
                sizes.append(picture.size)
                pixels += math.prod(picture.size)
                grey = grey and picture.mode in _GREY
        looked = len(sizes) + len(corrupt)
        if looked >= _MOST or (looked >= _SAMPLED and pixels > _MOST_PIXELS):
            break
    return Pictures(_guess(sizes, grey), len(sizes) + len(corrupt), tuple(corrupt))


def pictures_of_files(root: str, paths: Sequence[str]) -> Iterator[bytes | Corrupt]:
    """Yield pictures of a folder, evenly spread over `paths`, with why they cannot be decoded."""
    for path in paths[:: max(1, len(paths) // _MOST)]:
        with open_bytes(path) as stream:
            content = stream.read()
        reason = why_corrupt(content)
        yield Corrupt(os.path.relpath(path, root), reason) if reason else content


def pictures_of_column(paths: Sequence[str], data: DataConfig, name: str) -> Iterator[bytes | Corrupt]:
    """Yield the pictures of a column, the corrupt ones of each block first."""
    for block in read_blocks(paths, data, [RawColumn(name, "image")]):
        yield from block.corrupt
        yield from (content.as_py() for content in block.batch.column(0).drop_null())


def _guess(sizes: Sequence[tuple[int, int]], grey: bool) -> Guess:
    if not sizes:
        return Guess((), "pictures of which none can be decoded")
    width, height = (int(statistics.median(side)) for side in zip(*sizes, strict=True))
    shrink = min(1.0, _MAX_SIDE / max(width, height))
    most = max(sizes, key=math.prod)
    seen = f"{'grey' if grey else 'colour'} pictures of up to {most[0]} x {most[1]} pixels"
    lines = (
        "kind: image",
        f"height: {max(1, round(height * shrink))}",
        f"width: {max(1, round(width * shrink))}",
        f"channels: {1 if grey else 3}",
    )
    return Guess(lines, seen)


def is_picture_path(profile: ColumnProfile, paths: Sequence[str]) -> bool:
    """Tell whether a column of texts names pictures that lie beside the data files."""
    some = list(profile.counts)[:_SAMPLED]
    return bool(some) and all(
        text.lower().endswith(_PICTURE_ENDS)
        and any(os.path.isfile(os.path.join(os.path.dirname(path), text)) for path in paths)
        for text in some
    )
