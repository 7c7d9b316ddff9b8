"""Pictures: read from their files block by block, and decoded once to be sure that they can be."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..columns import RawColumn
from ..pictures import JPEG_SIGNATURE, MAX_PIXELS, PNG_SIGNATURE, why_damaged
from ..row_hashes import HashedColumns, hash_batch
from .block import Block, Corrupt
from .values import ARROW_TYPES

__all__ = ["load_images", "why_corrupt"]

_BLOCK_BYTES = 32 << 20
_CHUNK_ROWS = 64
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
_Row = list[tuple[bytes | None, Corrupt | None]]


def why_corrupt(content: bytes) -> str:
    """Say why `content` is no picture that a model can be given, or nothing where it is one.

    One rule: a whole JPEG or PNG file of one picture, in grey, RGB (transparency is left out later) or with
    a palette, of at most 2^26 pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        return "the file is empty"
    if not content.startswith((JPEG_SIGNATURE, PNG_SIGNATURE)):
        return "not a JPEG or PNG file"
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as picture:
            if picture.mode not in _MODES:
                return f"{picture.mode} pixels, neither grey nor RGB"
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                return f"animated: {frames} pictures"
            if picture.width * picture.height > MAX_PIXELS:
                return "too many pixels"
            picture.load()
    except UnidentifiedImageError:
        return "the header cannot be read"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "too many pixels"
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        # Pillow raises SyntaxError for a damaged PNG.
        return " ".join(str(error).split())[:200] or type(error).__name__
    return why_damaged(content)


def load_images(
    blocks: Iterable[Block], columns: Sequence[RawColumn], hashed: HashedColumns | None = None
) -> Iterator[Block]:
    """Read and check the pictures of each block; rows with a corrupt or missing one are left out.

    Blocks come out with at most about 32 MiB of pictures (and always at least one row), whatever comes in.

    Args:
        blocks: Clean rows; an `image` column holds bytes, or paths that start at the folder of the
            block's file.
        columns: Their columns.
        hashed: Columns to hash the rows by: of pictures, their bytes.
    """
    names = [column.name for column in columns if column.type == "image"]
    if not names:
        yield from blocks
        return
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for block in blocks:
            for loaded in _load_block(block, names, pool):
                yield _with_hashes(loaded, names, hashed)


def _with_hashes(block: Block, names: Sequence[str], hashed: HashedColumns | None) -> Block:
    """Add the bytes of pictures to the hashes of their rows."""
    added = hash_batch(block.batch.select(names), hashed)
    return replace(block, hashes=block.hashes.plus(added)) if block.hashes and added else block


def _load_block(block: Block, names: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[Block]:
    """Cut a block where its pictures reach the limit."""
    start, size = 0, 0
    loaded: list[_Row] = []
    jobs = list(zip(*(block.batch.column(name) for name in names), strict=True))
    for at in range(0, len(jobs), _CHUNK_ROWS):
        with warnings.catch_warnings():
            # Pillow has remarks on pictures that it decodes all the same. Filters are of all threads, so that
            # they are set here, where no row is handed out.
            warnings.simplefilter("ignore")
            load = partial(_load_row, block, names)
            rows = list(pool.map(load, range(at, len(jobs)), jobs[at : at + _CHUNK_ROWS]))
        for number, row in enumerate(rows, at):
            loaded.append(row)
            size += sum(len(content or b"") for content, _ in row)
            if size >= _BLOCK_BYTES:
                yield _assemble(block, start, loaded, names)
                start, size, loaded = number + 1, 0, []
    if loaded:
        yield _assemble(block, start, loaded, names)


def _load_row(block: Block, names: Sequence[str], index: int, values: Sequence[pa.Scalar]) -> _Row:
    """Return (content, fault) of each picture of a row; (None, None) where the row has none."""
    found: _Row = []
    for name, scalar in zip(names, values, strict=True):
        value = scalar.as_py()
        if value is None:
            found.append((None, None))
            continue
        label = value if isinstance(value, str) else f"{name} in {block.place(index)}"
        content, reason = _read(block.path, value) if isinstance(value, str) else (value, "")
        reason = reason or why_corrupt(content)
        found.append((None, Corrupt(label, reason)) if reason else (content, None))
    return found


def _read(beside: str, path: str) -> tuple[bytes, str]:
    try:
        with open(os.path.join(os.path.dirname(beside), path), "rb") as stream:
            return stream.read(), ""
    except FileNotFoundError:
        return b"", "the file does not exist"
    except (OSError, ValueError) as error:
        return b"", f"the file cannot be read: {getattr(error, 'strerror', None) or error}"


def _assemble(block: Block, start: int, loaded: Sequence[_Row], names: Sequence[str]) -> Block:
    """Return the rows from `start` on with their pictures, without those that have a corrupt one."""
    faults = [next((fault for _, fault in row if fault is not None), None) for row in loaded]
    corrupt = tuple(fault for fault in faults if fault is not None)
    keep = np.array([fault is None for fault in faults])
    part = block.batch.slice(start, len(loaded)).filter(pa.array(keep))
    for position, name in enumerate(names):
        contents = [row[position][0] for row, kept in zip(loaded, keep, strict=True) if kept]
        place = part.schema.get_field_index(name)
        part = part.set_column(place, name, pa.array(contents, ARROW_TYPES["image"]))
    rows: npt.NDArray[np.int64] = np.array(
        [block.row_of(start + index) for index in np.flatnonzero(keep).tolist()], np.int64
    )
    hashes = block.hashes and block.hashes[start : start + len(loaded)][keep]
    return replace(block, batch=part, rows=rows, corrupt=block.corrupt + corrupt, hashes=hashes)
