"""Files that appear whole or not at all, where the engine of a Beam job may write one twice, even at once."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["discard_unfinished", "whole_file"]

_UNFINISHED = ".unfinished"


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Give the path of a file beside `path` that becomes it at the end of the block.

    Args:
        path: Of the file; one that is there is replaced.
    """
    scratch = f"{path}.{uuid.uuid4().hex}{_UNFINISHED}"
    try:
        yield scratch
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def discard_unfinished(folder: str) -> None:
    """Remove what workers that were killed left below a folder, once its job has ended."""
    for path in Path(folder).rglob(f"*{_UNFINISHED}"):
        path.unlink(missing_ok=True)
