"""Texts as tokens inside a TensorFlow graph; `headrace.serving.text` is its twin without TensorFlow."""

from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.serving.characters import APOSTROPHE, LETTER, SPACE, Characters, character_rules

from .outputs import Tokenizer

__all__ = ["build_bag", "distinct", "first_tokens", "lay_out", "split_tokens"]

_BLANK = 0x20


def split_tokens(text: Any, tokenizer: Tokenizer) -> Any:
    """Return the tokens of each text: all of the least size in order, then those of the next size.

    Args:
        text: string `[rows]`, UTF-8; each maximal part of bad bytes is taken as U+FFFD.
        tokenizer: How to cut.

    Returns:
        RaggedTensor of string `[rows, (tokens)]`.
    """
    return _splitter(tokenizer)(text)


@lru_cache(maxsize=64)
def _splitter(tokenizer: Tokenizer) -> Any:
    """Return `split_tokens` as a function of the graph: tf.Transform traces its callers again and again."""
    characters = Characters(character_rules(), tokenizer.lowercase, tokenizer.strip_accents)
    cut = _words if tokenizer.tokens == "words" else _characters
    least, most = tokenizer.ngrams

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def split(text: Any) -> Any:
        decoded = tf.strings.unicode_decode(text, "UTF-8", errors="replace")  # [rows, (characters)]
        codes = _fold(decoded.flat_values, characters)
        kept = codes >= 0
        codes, rows = tf.boolean_mask(codes, kept), tf.boolean_mask(decoded.value_rowids(), kept)
        tokens, owners = cut(codes, rows, _kinds(codes, characters))
        singles = _ragged(tokens, owners, tf.shape(text, tf.int64)[0])
        if most == 1:
            return singles
        joiner = " " if tokenizer.tokens == "words" else ""
        return tf.strings.ngrams(singles, list(range(least, most + 1)), joiner)

    return split


def first_tokens(tokens: Any, width: int) -> tuple[Any, Any]:
    """Return the first `width` tokens of each row, string `[n]`, and the row of each, int64 `[n]`."""
    owners = tokens.value_rowids()
    places = tf.range(tf.size(owners, tf.int64)) - tf.gather(tokens.row_starts(), owners)
    kept = places < width
    return tf.boolean_mask(tokens.flat_values, kept), tf.boolean_mask(owners, kept)


def lay_out(categories: Any, owners: Any, rows: Any, width: int) -> Any:
    """Return categories `[n]` of rows `owners` as int64 `[rows, width]`, 0 after a row's last."""
    return _ragged(categories, owners, rows).to_tensor(0, shape=[None, width])


def distinct(tokens: Any) -> Any:
    """Return the tokens of all rows without those that a row holds already, string `[n]`.

    Args:
        tokens: RaggedTensor of string `[rows, (tokens)]`.
    """
    words, places = tf.unique(tokens.flat_values, tf.int64)
    count = tf.maximum(tf.size(words, tf.int64), 1)
    kept, _ = tf.unique(tokens.value_rowids() * count + places)
    return tf.gather(words, tf.math.floormod(kept, count))


def build_bag(categories: Any, width: int, idf: Any) -> tuple[Any, Any]:
    """Lay out the distinct tokens of each row, in order of their first place.

    Args:
        categories: RaggedTensor of int64 `[rows, (tokens)]`.
        width: Distinct tokens kept of a row, the first ones.
        idf: Function from int64 `[n]` categories to their float32 weights; rows are then scaled to
            length 1. None: counts.

    Returns:
        Categories int64 `[rows, width]`, padded with -1, and weights float32 `[rows, width]`, with 0.
    """
    cardinality = 1 + tf.reduce_max(tf.concat([categories.flat_values, [0]], 0))
    pairs = categories.value_rowids() * cardinality + categories.flat_values
    kept, _, times = tf.unique_with_counts(pairs)
    found, owners = tf.math.floormod(kept, cardinality), kept // cardinality
    rows, weights = categories.nrows(), tf.cast(times, tf.float32)
    bags = _ragged(found, owners, rows).to_tensor(-1, shape=[None, width])
    if idf is None:
        return bags, _ragged(weights, owners, rows).to_tensor(0.0, shape=[None, width])
    dense = _ragged(weights * idf(found), owners, rows).to_tensor(0.0, shape=[None, width])
    squares = tf.reduce_sum(tf.cast(dense, tf.float64) ** 2, axis=1, keepdims=True)
    lengths = tf.cast(tf.sqrt(squares), tf.float32)
    return bags, dense / tf.where(lengths > 0, lengths, tf.ones_like(lengths))


def _ragged(values: Any, owners: Any, rows: Any) -> Any:
    """Return values as a RaggedTensor `[rows, (values)]`, without checks that cost more than the rest."""
    return tf.RaggedTensor.from_value_rowids(values, owners, rows, validate=False)


def _words(codes: Any, rows: Any, kinds: Any) -> tuple[Any, Any]:
    """Return words, string `[n]`, and the row of each."""
    letter = kinds == LETTER
    before, after = _neighbours(letter, rows)
    inside = letter | ((kinds == APOSTROPHE) & before & after)
    before, _ = _neighbours(inside, rows)
    visible = kinds != SPACE
    starts = tf.boolean_mask(visible & ~(inside & before), visible)
    codes, rows = tf.boolean_mask(codes, visible), tf.boolean_mask(rows, visible)
    owners = tf.cumsum(tf.cast(starts, tf.int64)) - 1
    count = tf.reduce_sum(tf.cast(starts, tf.int64))
    words = _ragged(codes, owners, count)
    return tf.strings.unicode_encode(words, "UTF-8"), tf.boolean_mask(rows, starts)


def _characters(codes: Any, rows: Any, kinds: Any) -> tuple[Any, Any]:
    """Return characters, string `[n]`, a run of space as one blank, and the row of each."""
    visible = kinds != SPACE
    before, _ = _neighbours(visible, rows)
    codes = tf.where(visible, codes, tf.fill(tf.shape(codes), _BLANK))
    kept = visible | before
    codes, rows, visible = (tf.boolean_mask(each, kept) for each in (codes, rows, visible))
    _, after = _neighbours(tf.ones_like(visible), rows)
    kept = visible | after
    codes, rows = tf.boolean_mask(codes, kept), tf.boolean_mask(rows, kept)
    return tf.strings.unicode_encode(codes[:, tf.newaxis], "UTF-8"), rows


def _neighbours(flags: Any, rows: Any) -> tuple[Any, Any]:
    """Return the flags of the characters before and after, False where they belong to another row."""
    follows = rows[1:] == rows[:-1]
    edge = tf.zeros([tf.minimum(tf.size(rows), 1)], tf.bool)  # none where there is no character
    return tf.concat([edge, flags[:-1] & follows], 0), tf.concat([flags[1:] & follows, edge], 0)


def _fold(codes: Any, characters: Characters) -> Any:
    """Replace each code point, int32 `[n]`, by the one that stands for it; -1 where it is dropped."""
    sources = np.flatnonzero(characters.folded != np.arange(len(characters.folded)))
    if not len(sources):
        return codes
    place = tf.searchsorted(tf.constant(sources, tf.int32), codes)
    place = tf.minimum(place, len(sources) - 1)
    changed = tf.gather(tf.constant(sources, tf.int32), place) == codes
    return tf.where(changed, tf.gather(tf.constant(characters.folded[sources], tf.int32), place), codes)


def _kinds(codes: Any, characters: Characters) -> Any:
    """Return the kind of each code point, int32 `[n]`."""
    starts = np.flatnonzero(np.diff(characters.kinds.astype(np.int32), prepend=-1))
    place = tf.searchsorted(tf.constant(starts, tf.int32), codes, side="right") - 1
    return tf.gather(tf.constant(characters.kinds[starts], tf.int32), place)
