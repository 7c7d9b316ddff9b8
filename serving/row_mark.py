"""Which signatures of a SavedModel answer each row by itself, as a file beside the graph says.

A server puts rows of different clients into one run only where this is known: a graph may let rows see each
other (`where(reduce_max(x) > 1000, -1, 2x)`), and no sample of requests would show it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ROW_MARK", "read_row_mark", "row_mark"]

ROW_MARK = "assets.extra/row_independent.json"
"""Path within a version folder."""


def row_mark(signatures: Iterable[str]) -> dict[str, list[str]]:
    """Return the content of the file."""
    return {"row_independent": sorted(signatures)}


def read_row_mark(folder: str | Path) -> frozenset[str]:
    """Return the signatures whose rows are independent; none where nothing says so."""
    try:
        content = json.loads(Path(folder, ROW_MARK).read_text(encoding="utf-8"))
        return frozenset(str(name) for name in content["row_independent"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()
