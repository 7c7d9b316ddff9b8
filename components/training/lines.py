"""JSON lines that a killed process leaves whole."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["read_lines", "write_lines"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write a file anew, so that it is whole at any time."""
    scratch = path.with_suffix(".part")
    scratch.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    os.replace(scratch, path)
