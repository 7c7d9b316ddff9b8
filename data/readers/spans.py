"""Paths with placeholders for a date or a running number, of which the newest is taken.

The placeholders are those of TFX: {YYYY}, {MM} and {DD} together, or {SPAN}; with either a {VERSION}. A
width, as in {SPAN:4}, asks for that many digits. A date's number is its days since 1970-01-01, as in TFX.
"""

import datetime
import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError

__all__ = ["Span", "has_span", "newest_span"]

_PLACEHOLDER = re.compile(r"\{(SPAN|VERSION|YYYY|MM|DD)(?::(\d+))?\}")
_DATE = ("YYYY", "MM", "DD")
_DIGITS = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}"}
_GLOB = re.compile(r"\*\*/?|[*?]|\[!?[^]]+\]")
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class Span:
    """The newest span of a path.

    Attributes:
        path: The path with the placeholders filled in; it may still be a glob.
        number: The span; of a date the days since 1970-01-01.
        version: The version, if the path names one.
    """

    path: str
    number: int
    version: int | None


def has_span(path: str) -> bool:
    """Tell whether a path has placeholders."""
    return _PLACEHOLDER.search(path) is not None


def newest_span(path: str, wanted: int | None = None) -> Span:
    """Find the newest span of `path`, and of that the newest version.

    Args:
        path: With placeholders; other parts may be globs.
        wanted: Take this span instead of the newest.

    Raises:
        ConfigError: If the placeholders do not go together, or nothing matches.
    """
    names = _check_names(path)
    pattern = re.compile(_regex(path))
    found = []
    for candidate in glob.glob(_PLACEHOLDER.sub("*", path), recursive=True):
        if (match := pattern.fullmatch(candidate)) is None:
            continue
        texts = match.groupdict()
        if (number := _number(texts)) is not None and wanted in (None, number):
            version = int(texts["VERSION"]) if "VERSION" in names else None
            found.append((number, -1 if version is None else version, sorted(texts.items()), version, texts))
    if not found:
        which = "" if wanted is None else f" of span {wanted}"
        raise ConfigError(
            f"a data path with {_named(names)} must match a file or folder{which}. "
            f"Received: {path} (data.path)"
        )
    number, _, _, version, texts = max(found, key=lambda entry: entry[:3])
    return Span(_PLACEHOLDER.sub(lambda part: texts[part[1]], path), number, version)


def _check_names(path: str) -> set[str]:
    names = {found[1] for found in _PLACEHOLDER.finditer(path)}
    dates = names & {*_DATE}
    if (dates and len(dates) < len(_DATE)) or bool(dates) == ("SPAN" in names):
        raise ConfigError(
            "a data path must have {YYYY}, {MM} and {DD} together, or {SPAN}. "
            f"Received: {_named(names)} ({path}; data.path)"
        )
    return names


def _named(names: set[str]) -> str:
    known = ("SPAN", *_DATE, "VERSION")
    return " ".join(f"{{{name}}}" for name in known if name in names)


def _number(texts: Mapping[str, str]) -> int | None:
    """Return the span that the matched texts mean, or None where they are no date."""
    if "SPAN" in texts:
        return int(texts["SPAN"])
    try:
        day = datetime.date(*(int(texts[name]) for name in _DATE))
    except ValueError:
        return None
    return (day - _EPOCH).days


def _regex(path: str) -> str:
    """Return what a path must look like; a placeholder that comes again must be the same there."""
    parts: list[str] = []
    seen: set[str] = set()
    end = 0
    for found in _PLACEHOLDER.finditer(path):
        parts.append(_glob_regex(path[end : found.start()]))
        name, width = found[1], found[2]
        digits = _DIGITS.get(name) or (rf"\d{{{width}}}" if width else r"\d+")
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{digits})")
        seen.add(name)
        end = found.end()
    return "".join([*parts, _glob_regex(path[end:])])


def _glob_regex(text: str) -> str:
    parts: list[str] = []
    end = 0
    for found in _GLOB.finditer(text):
        parts.append(re.escape(text[end : found.start()]))
        token = found[0]
        if token.startswith("**"):
            parts.append(".*")
        elif token.startswith("["):
            parts.append(token.replace("[!", "[^", 1))
        else:
            parts.append("[^/]*" if token == "*" else "[^/]")
        end = found.end()
    return "".join([*parts, re.escape(text[end:])])
