"""A folder of pictures with a folder for each class."""

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from ..columns import RawColumn
from ..config import DataConfig
from ..errors import ConfigError
from ..row_hashes import HashedColumns, hash_batch
from .block import Block

__all__ = ["IMAGE", "PATH", "class_of", "find_pictures", "read_folder"]

IMAGE, PATH = "image", "path"
"""Names of the columns, beside the label."""

_PICTURES = (".jpg", ".jpeg", ".jpe", ".png")
# Pictures of other formats count as corrupt instead of being passed over in silence.
_OTHER_PICTURES = (".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif")
_BLOCK_ROWS = 4096


def find_pictures(root: str) -> list[str]:
    """List the pictures in the class folders of `root`, however deep, sorted; hidden ones are left out.

    Raises:
        ConfigError: If `root` is no folder, or holds no folder with pictures.
    """
    if not os.path.isdir(root):
        raise ConfigError(
            f"with `format: images` the path must be a folder with a folder for each class. Received: {root} "
            "(data.path)"
        )
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        if not os.path.samefile(folder, root):
            found += [os.path.join(folder, name) for name in names if _is_picture(name)]
    if not found:
        raise ConfigError(
            f"every class must have a folder with JPEG or PNG files. Received: none in {root} (data.path)"
        )
    return sorted(found)


def class_of(root: str, path: str) -> str:
    """Return the name of the class folder that holds `path`."""
    return os.path.relpath(path, root).split(os.sep)[0]


def read_folder(
    root: str,
    paths: Sequence[str],
    data: DataConfig,
    columns: Sequence[RawColumn],
    hashed: HashedColumns | None = None,
) -> Iterator[Block]:
    """Yield a row for each picture: `image` (its path, still to be read), `path` and the label.

    Args:
        root: The folder.
        paths: The pictures, from `find_pictures`.
        data: The `data` section.
        columns: Columns to give.
        hashed: Columns to hash the rows by.
    """
    for start in range(0, len(paths), _BLOCK_ROWS):
        part = paths[start : start + _BLOCK_ROWS]
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in part]
        values = {IMAGE: names, PATH: names, data.label: [name.split("/")[0] for name in names]}
        whole = pa.RecordBatch.from_pydict(
            {name: pa.array(texts, pa.string()) for name, texts in values.items()}
        )
        hashes = hash_batch(whole, hashed, columns)
        # With the separator at its end the path is its own folder, where pictures are looked for.
        batch = whole.select([column.name for column in columns])
        yield Block(os.path.join(root, ""), start + 1, batch, hashes=hashes)


def _is_picture(name: str) -> bool:
    return name[0] not in "._" and name.lower().endswith(_PICTURES + _OTHER_PICTURES)
