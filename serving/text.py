"""Texts as tokens: numpy only, many texts at a time."""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .characters import APOSTROPHE, LETTER, SPACE, Characters

__all__ = ["Tokenizer", "bag_of", "sequence_of"]

_BLANK = 0x20

Ints = npt.NDArray[np.int64]


class Tokenizer:
    """Cuts texts into tokens as the graph of `headrace.components.features.texts` does.

    Args:
        rules: Tables of characters (`headrace.serving.characters.character_rules`).
        lowercase: Whether case is ignored.
        strip_accents: Whether accents are.
        tokens: `words` or `characters`.
        ngrams: Least and most tokens joined to one.
    """

    def __init__(
        self,
        rules: Mapping[str, Any],
        lowercase: bool,
        strip_accents: bool,
        tokens: str,
        ngrams: Sequence[int],
    ) -> None:
        self._characters = Characters(rules, lowercase, strip_accents)
        self._is_words = tokens == "words"
        self._ngrams = range(ngrams[0], ngrams[1] + 1)

    def split(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text: all of the least size in order, then the next size."""
        given = [_decoded(text) for text in texts]
        codes = np.frombuffer("".join(given).encode("utf-32-le"), "<u4")
        rows = np.repeat(np.arange(len(given)), np.fromiter(map(len, given), np.int64, len(given)))
        codes = self._characters.folded[codes]
        kept = codes >= 0
        tokens, owners = (self._words if self._is_words else _characters)(
            codes[kept], rows[kept], self._characters.kinds[codes[kept]]
        )
        ends = np.cumsum(np.bincount(owners, minlength=len(given))).tolist()
        singles = [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if self._ngrams == range(1, 2):
            return singles
        joiner = " " if self._is_words else ""
        return [list(chain.from_iterable(_join(row, n, joiner) for n in self._ngrams)) for row in singles]

    @staticmethod
    def _words(codes: Any, rows: Ints, kinds: Any) -> tuple[list[str], Ints]:
        follows = rows[1:] == rows[:-1]
        letter = kinds == LETTER
        before, after = _shift(letter, follows)
        inside = letter | ((kinds == APOSTROPHE) & before & after)
        before, _ = _shift(inside, follows)
        visible = kinds != SPACE
        starts = (visible & ~(inside & before))[visible]
        text = codes[visible].astype("<u4").tobytes().decode("utf-32-le")
        places = [*np.flatnonzero(starts).tolist(), len(text)]
        words = [text[start:end] for start, end in pairwise(places)]
        return words, rows[visible][starts]


def _characters(codes: Any, rows: Ints, kinds: Any) -> tuple[list[str], Ints]:
    visible = kinds != SPACE
    before, _ = _shift(visible, rows[1:] == rows[:-1])
    kept = visible | before  # of a run of space, the first, unless the text begins with it
    codes, rows, visible = np.where(visible, codes, _BLANK)[kept], rows[kept], visible[kept]
    _, after = _shift(np.ones_like(visible), rows[1:] == rows[:-1])
    kept = visible | after  # a blank at the end of the text is none
    return list(codes[kept].astype("<u4").tobytes().decode("utf-32-le")), rows[kept]


def _shift(flags: Any, follows: Any) -> tuple[Any, Any]:
    """Return the flags of the characters before and after, False where they belong to another text."""
    before, after = np.zeros_like(flags), np.zeros_like(flags)
    before[1:] = flags[:-1] & follows
    after[:-1] = flags[1:] & follows
    return before, after


def _decoded(text: str) -> str:
    """Replace what is not Unicode as UTF-8 decoders do: U+FFFD for each maximal part of bad bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = text.encode("utf-8", "surrogatepass")
        return raw.decode("utf-8", "replace")
    return text


def _join(tokens: list[str], size: int, joiner: str) -> list[str]:
    return [joiner.join(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


def sequence_of(places: Ints, counts: Ints, width: int) -> Ints:
    """Lay tokens out in rows, 0 after the last.

    Args:
        places: int64 `[tokens]`: categories of all rows, one after another.
        counts: int64 `[rows]`: tokens of each row, at most `width`.
        width: Tokens a row.

    Returns:
        int64 `[rows, width]`.
    """
    found = np.zeros((len(counts), width), np.int64)
    found[np.arange(width) < counts[:, np.newaxis]] = places
    return found


def bag_of(
    places: Ints, counts: Ints, width: int, idf: npt.NDArray[np.float32] | None
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Lay out the distinct tokens of each row, in order of their first place.

    Args:
        places: int64 `[tokens]`: categories of all rows, one after another.
        counts: int64 `[rows]`: tokens of each row.
        width: Distinct tokens kept of a row, the first ones.
        idf: float32 `[categories]`: weight of a category; rows are then scaled to length 1. None: counts.

    Returns:
        Categories int64 `[rows, width]`, padded with -1, and weights float32 `[rows, width]`, with 0.
    """
    bags = np.full((len(counts), width), -1, np.int64)
    weights = np.zeros((len(counts), width), np.float32)
    start = 0
    for row, count in enumerate(counts.tolist()):
        distinct, first, times = np.unique(
            places[start : start + count], return_index=True, return_counts=True
        )
        order = np.argsort(first)[:width]
        bags[row, : len(order)], weights[row, : len(order)] = distinct[order], times[order]
        start += count
    if idf is not None:
        weights *= np.where(bags >= 0, idf[bags], np.float32(0))
        lengths = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        weights = (weights / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return bags, weights
