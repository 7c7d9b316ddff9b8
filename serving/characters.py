"""What each character is to a tokenizer, as tables that a sidecar carries.

The tables come from the Unicode data of the Python that fits the transform, and travel with it: the graph
and every device then agree, whatever version of Unicode they were built for.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["APOSTROPHE", "LETTER", "OTHER", "SPACE", "Characters", "character_rules"]

OTHER, LETTER, SPACE, APOSTROPHE = range(4)
"""Kinds of characters. What is of no other kind is a token by itself."""

_SIZE = 0x110000
_WITHOUT_CASE = {"Cn", "Co", "Cs", "Cc"}  # most code points: neither case nor parts
_APOSTROPHES = (0x27, 0x2019)

Codes = npt.NDArray[np.int32]


@lru_cache
def character_rules() -> dict[str, Any]:
    """Return the tables, as JSON values (docs/preprocessing.schema.json, `characters`).

    `lower` is Unicode's simple case folding (so that final sigma is sigma), but U+0130 becomes "i".
    Letters are the general categories L, M and N. Space is what Python's `str.isspace` says, and control
    characters. Format characters (Cf: soft hyphens, joiners, marks of direction) are dropped. A character's
    base is what is left of its canonical decomposition without marks (Mn), where that is one character.
    """
    kinds = [unicodedata.category(chr(code)) for code in range(_SIZE)]
    lower, base = [], []
    for code, kind in enumerate(kinds):
        if kind in _WITHOUT_CASE:
            continue
        if (small := _small(chr(code))) != chr(code):
            lower.append([code, ord(small)])
        if unicodedata.decomposition(chr(code)):
            rest = [c for c in unicodedata.normalize("NFD", chr(code)) if kinds[ord(c)] != "Mn"]
            if len(rest) == 1 and rest[0] != chr(code):
                base.append([code, ord(rest[0])])
    return {
        "unicode": unicodedata.unidata_version,
        "lower": lower,
        "base": base,
        "marks": _ranges(code for code, kind in enumerate(kinds) if kind == "Mn"),
        "dropped": _ranges(code for code, kind in enumerate(kinds) if kind == "Cf"),
        "letters": _ranges(code for code, kind in enumerate(kinds) if kind[0] in "LMN"),
        "spaces": _ranges(code for code, kind in enumerate(kinds) if kind == "Cc" or chr(code).isspace()),
        "apostrophes": list(_APOSTROPHES),
    }


class Characters:
    """The tables of a sidecar, ready for look-ups.

    Args:
        rules: As `character_rules` returns them.
        lowercase: Whether case is ignored.
        strip_accents: Whether marks are.

    Attributes:
        folded: int32 `[0x110000]`: code point -> the one that stands for it, -1 where it is dropped.
        kinds: uint8 `[0x110000]`: code point, folded -> its kind.
    """

    def __init__(self, rules: Mapping[str, Any], lowercase: bool, strip_accents: bool) -> None:
        folded = np.arange(_SIZE, dtype=np.int32)
        if strip_accents:
            _replace(folded, rules["base"])
            _fill(folded, rules["marks"], -1)
        _fill(folded, rules["dropped"], -1)
        if lowercase:
            lower = np.arange(_SIZE, dtype=np.int32)
            _replace(lower, rules["lower"])
            folded = folded[lower]
        self.folded: Codes = folded
        self.kinds: npt.NDArray[np.uint8] = np.full(_SIZE, OTHER, np.uint8)
        _fill(self.kinds, rules["letters"], LETTER)
        _fill(self.kinds, rules["spaces"], SPACE)
        self.kinds[np.array(rules["apostrophes"], np.int64)] = APOSTROPHE


def _small(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character.lower()[0]


def _ranges(codes: Iterable[int]) -> list[list[int]]:
    """Return ascending codes as [first, last] pairs."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def _replace(table: Codes, pairs: Iterable[Iterable[int]]) -> None:
    sources, targets = np.array(list(pairs), np.int32).reshape(-1, 2).T
    table[sources] = targets


def _fill(table: npt.NDArray[Any], ranges: Iterable[Iterable[int]], value: int) -> None:
    for first, last in ranges:
        table[first : last + 1] = value
