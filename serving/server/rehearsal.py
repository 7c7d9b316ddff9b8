"""A load tried in a process of its own, so that a version which kills its process does not kill the server's.

TensorFlow reads a broken model in native code: what crashes there, or takes more memory than the machine has,
cannot be caught. Run as `python -m headrace.serving.server.rehearsal`, with the load as JSON on stdin.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Collection
from typing import Any

from headrace.serving.manifest import CheckSums

from .errors import Code, ServingError

__all__ = ["rehearse"]

_MODULE = "headrace.serving.server.rehearsal"
_LONGEST_S = 600.0


def rehearse(name: str, version: int, path: str, allow_ops: Collection[str], check_sums: CheckSums) -> None:
    """Load a version and let it answer, in a process of its own, and forget it again.

    Args:
        name: Name of the model.
        version: Its version.
        path: Folder of the version.
        allow_ops: Operators that touch files or run Python, and are allowed all the same.
        check_sums: What is asked of the version's manifest.json.

    Raises:
        ServingError: With the error of the load, or INTERNAL if it ended its process.
    """
    asked = {"name": name, "version": version, "path": path}
    asked |= {"allow_ops": sorted(allow_ops), "check_sums": check_sums}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE],
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ServingError(
            Code.DEADLINE_EXCEEDED, f"a version must load within {_LONGEST_S:g} s. Received: {path}"
        ) from error
    if done.returncode:
        how = (
            f"it was killed by {signal.Signals(-done.returncode).name}"
            if done.returncode < 0
            else f"it ended with exit code {done.returncode}"
        )
        raise ServingError(
            Code.INTERNAL, f"a version must not end the process that loads it. Received: {path}, {how}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if found:
        raise ServingError(Code(found["code"]), found["message"])


def _main() -> None:
    from .servable import load
    from .warmup import warm_up

    asked: dict[str, Any] = json.load(sys.stdin)
    found: dict[str, Any] = {}
    try:
        servable = load(
            asked["name"],
            asked["version"],
            asked["path"],
            allow_ops=asked["allow_ops"],
            check_sums=asked["check_sums"],
        )
        warm_up(servable)
    except ServingError as error:
        found = {"code": int(error.code), "message": error.message}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
