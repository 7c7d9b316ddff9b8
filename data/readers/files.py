"""From a path, folder or glob to the files of a data set."""

import glob
import gzip
import os
import shlex
import zlib
from typing import IO, Literal, cast

from ..config import DataConfig
from ..errors import ConfigError, EnvironmentProblem
from .folder import find_pictures
from .spans import has_span, newest_span

__all__ = [
    "EXTENSIONS", "READ_ERRORS", "Format", "data_path", "delimiter_of", "find_files", "format_of",
    "open_bytes", "relative_names",
]  # fmt: skip

Format = Literal["csv", "parquet", "tfrecord"]

EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecord.gz": "tfrecord",
}
"""Extensions that `format: auto` knows."""

READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a file, compressed or not, may raise."""


def data_path(data: DataConfig, folder: str = "") -> str:
    """Return `data.path` below `folder`, with the newest span and version in place of placeholders.

    Raises:
        ConfigError: If no file or folder matches the placeholders.
    """
    path = os.path.join(folder, os.path.expanduser(data.path))
    return newest_span(path).path if has_span(path) else path


def find_files(data: DataConfig, folder: str = "") -> list[str]:
    """List the files of `data.path`, sorted; of a path with placeholders those of the newest span.

    A folder stands for all files in it with a known extension (of the declared format, if any);
    hidden files, and those that begin with an underscore as Spark's markers do, are left out.

    Args:
        data: The `data` section.
        folder: Where a relative path starts; by default the working folder.

    Raises:
        ConfigError: If there is no such file.
    """
    path = data_path(data, folder)
    if data.format == "images":
        return find_pictures(path)
    if os.path.isdir(path):
        found = [os.path.join(path, name) for name in os.listdir(path) if name[0] not in "._"]
        if not (files := sorted(name for name in found if os.path.isfile(name) and _belongs(name, data))):
            raise ConfigError(
                f"a data folder must hold {_known(data)} files. Received: {path} with "
                f"{len(found) or 'no'} other entries (data.path)"
            )
        return files
    if os.path.exists(path):
        return [path]
    if glob.has_magic(path):
        if files := sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name)):
            return files
        raise ConfigError(f"a data glob must match a file. Received: {path} (data.path)")
    raise ConfigError(f"the data file must exist. Received: {path} (data.path)", _near(path))


def format_of(path: str, data: DataConfig) -> Format:
    """Return the format of one file.

    Raises:
        ConfigError: If the format is `auto` and the extension is not known.
    """
    if data.format not in ("auto", "images"):
        return cast(Format, data.format)
    extension = _extension(path)
    if extension not in EXTENSIONS:
        raise ConfigError(
            f"a data file must be one of {', '.join(EXTENSIONS)}. Received: {path} (data.path)",
            "set `data.format` to csv, parquet or tfrecord to read it anyway",
        )
    return EXTENSIONS[extension]


def delimiter_of(path: str, data: DataConfig) -> str:
    """Return the delimiter of a text file: a tab for .tsv, unless the config sets another one."""
    is_tsv = _extension(path).startswith(".tsv")
    return "\t" if is_tsv and data.csv.delimiter == "," else data.csv.delimiter


def open_bytes(path: str) -> IO[bytes]:
    """Open a file for reading, decompressed where its name ends in .gz.

    Raises:
        EnvironmentProblem: If it may not be read.
    """
    try:
        if path.endswith(".gz"):
            return cast(IO[bytes], gzip.open(path, "rb"))
        return open(path, "rb")
    except OSError as error:
        raise EnvironmentProblem(
            f"the data file must be readable. Received: {error.strerror} ({path})"
        ) from error


def relative_names(paths: list[str]) -> list[str]:
    """Return the POSIX names of files below the deepest folder that holds them all."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/") for path in paths]


def _extension(path: str) -> str:
    name = os.path.basename(path).lower()
    return max((end for end in EXTENSIONS if name.endswith(end)), key=len, default="")


def _belongs(path: str, data: DataConfig) -> bool:
    kind = EXTENSIONS.get(_extension(path))
    return kind is not None and data.format in ("auto", kind)


def _known(data: DataConfig) -> str:
    return "/".join(end for end, kind in EXTENSIONS.items() if data.format in ("auto", kind))


def _near(path: str) -> str:
    """Name what stands where the missing file should, to spot a wrong folder or a slip of the pen."""
    from ..columns import nearest
    from ..samples import SAMPLES

    for name, sample in SAMPLES.items():
        if os.path.basename(path) == sample.file:
            folder = os.path.relpath(os.path.dirname(path) or ".")
            return f"a sample; to fetch it: headrace data fetch {name} {shlex.quote(folder)}"
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent):
        return f"the folder {parent} does not exist either"
    names = sorted(name for name in os.listdir(parent) if _extension(name))
    return nearest(os.path.basename(path), names) if names else ""
