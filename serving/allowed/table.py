"""The committed list of operators, ops.txt beside this file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

__all__ = ["Entry", "Verdict", "operators", "parsed"]

Verdict = Literal["allow", "saver", "asset", "refuse"]

_HEADING = re.compile(r"\[(\w+) (\w+)\] (.+)")


@dataclass(frozen=True)
class Entry:
    """What is known of an operator.

    Attributes:
        verdict: Where it may stand, as the head of ops.txt says.
        group: Short name of its group.
        reason: What the operators of the group do.
    """

    verdict: Verdict
    group: str
    reason: str


@cache
def operators() -> Mapping[str, Entry]:
    """Return the list: operator -> what is known of it."""
    return parsed(Path(__file__).with_name("ops.txt").read_text(encoding="utf-8").splitlines())


def parsed(lines: Iterable[str]) -> dict[str, Entry]:
    """Read a list.

    Raises:
        ValueError: If an operator comes before the first heading or twice, or a heading is not one.
    """
    found: dict[str, Entry] = {}
    entry: Entry | None = None
    for line in lines:
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            entry = _heading(line)
        elif entry is None or line in found:
            raise ValueError(f"an operator must stand once, below a heading. Received: {line}")
        else:
            found[line] = entry
    return found


def _heading(line: str) -> Entry:
    match = _HEADING.fullmatch(line)
    if match is None or match[1] not in get_args(Verdict):
        raise ValueError(f"a heading must be [VERDICT GROUP] reason. Received: {line}")
    return Entry(cast(Verdict, match[1]), match[2], match[3])
