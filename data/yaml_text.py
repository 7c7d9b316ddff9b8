"""YAML written by hand, so that comments and order are ours."""

import json
import re

__all__ = ["scalar"]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def scalar(text: str) -> str:
    """Return `text` as a YAML string, quoted where YAML would read something else.

    Example:
        >>> scalar("carrier"), scalar("no"), scalar("Größe, m")
        ('carrier', '"no"', '"Größe, m"')
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
