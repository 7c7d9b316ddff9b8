"""YAML written by hand, so that comments and order are ours."""

import json
import re
import textwrap
from collections.abc import Sequence

__all__ = ["comment", "listed", "quoted", "scalar"]

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def comment(text: str, indent: int) -> list[str]:
    """Return `text` as lines of comment of at most 100 characters; none for nothing.

    Example:
        >>> comment("as it was seen", 2)
        ['  # as it was seen']
    """
    start = " " * indent + "# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def scalar(text: str) -> str:
    """Return `text` as a YAML string, quoted where YAML would read something else.

    Example:
        >>> scalar("carrier"), scalar("no"), scalar("Größe, m")
        ('carrier', '"no"', '"Größe, m"')
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def quoted(values: Sequence[str]) -> str:
    """Return texts in quotes between commas, since YAML would read yes, no and 0 as something else.

    Example:
        >>> quoted(["0", "late"])
        '"0", "late"'
    """
    return ", ".join(scalar(value) if scalar(value).startswith('"') else f'"{value}"' for value in values)


def listed(start: str, values: Sequence[str]) -> list[str]:
    """Return `start` and a list of texts as lines of at most 100 characters, unless one text is longer.

    Example:
        >>> listed("  key: ", ["age", "no", "shop id"])
        ['  key: [age, "no", "shop id"]']
    """
    lines = [f"{start}["]
    for value in values:
        text = f"{scalar(value)},"
        if len(lines[-1]) + len(text) > _WIDTH and not lines[-1].endswith("["):
            lines[-1] = lines[-1].rstrip()
            lines.append(" " * (len(start) + 1))
        lines[-1] += f"{text} "
    lines[-1] = lines[-1].rstrip(" ,") + "]"
    return lines
