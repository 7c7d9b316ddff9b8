"""One run of a pipeline at a time in one folder of runs: two would share scratch folders."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.data.errors import EnvironmentProblem

__all__ = ["held"]


@contextmanager
def held(root: str, name: str, run_id: str) -> Iterator[None]:
    """Hold the lock of pipeline `name` while its nodes run; a killed process lets it go.

    Args:
        root: Folder of metadata and scratch files.
        name: Name of the pipeline.
        run_id: Id of the run that takes it.

    Raises:
        EnvironmentProblem: If another run holds it; names that run.
    """
    os.makedirs(root, exist_ok=True)
    path = Path(root) / f"{name}.lock"
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise EnvironmentProblem(
                f"a pipeline must run once at a time in a folder of runs. Received: {name}, whose run "
                f"{stream.read().strip()} is going on ({path.parent.parent})",
                "wait for its end, or give this run its own folder: --set output.runs=PATH",
            ) from None
        stream.truncate(0)
        stream.write(run_id)
        stream.flush()
        yield
