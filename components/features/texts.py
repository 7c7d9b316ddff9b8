"""Texts as tokens inside a TensorFlow graph; `headrace.serving.text` is its twin without TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf

from headrace.serving.characters import APOSTROPHE, LETTER, SPACE, Characters, character_rules

from .outputs import Tokenizer

__all__ = ["build_bag", "distinct", "split_tokens"]

_BLANK = 0x20


def split_tokens(text: Any, tokenizer: Tokenizer) -> Any:
    """Return the tokens of each text: all of the least size in order, then those of the next size.

    Args:
        text: string `[rows]`, UTF-8; each maximal part of bad bytes is taken as U+FFFD.
        tokenizer: How to cut.

    Returns:
        RaggedTensor of string `[rows, (tokens)]`.
    """
    characters = Characters(character_rules(), tokenizer.lowercase, tokenizer.strip_accents)
    decoded = tf.strings.unicode_decode(text, "UTF-8", errors="replace")  # [rows, (characters)]
    codes = _fold(decoded.flat_values, characters)
    kept = codes >= 0
    codes, rows = tf.boolean_mask(codes, kept), tf.boolean_mask(decoded.value_rowids(), kept)
    cut = _words if tokenizer.tokens == "words" else _characters
    tokens, owners = cut(codes, rows, _kinds(codes, characters))
    singles = tf.RaggedTensor.from_value_rowids(tokens, owners, nrows=tf.shape(text, tf.int64)[0])
    least, most = tokenizer.ngrams
    if most == 1:
        return singles
    joiner = " " if tokenizer.tokens == "words" else ""
    return tf.strings.ngrams(singles, list(range(least, most + 1)), joiner)


def distinct(tokens: Any) -> Any:
    """Return the tokens of all rows without those that a row holds already, string `[n]`.

    Args:
        tokens: RaggedTensor of string `[rows, (tokens)]`.
    """
    words, places = tf.unique(tokens.flat_values, tf.int64)
    pairs = tokens.value_rowids() * tf.size(words, tf.int64) + places
    kept, _ = tf.unique(pairs)
    return tf.gather(words, tf.math.floormod(kept, tf.maximum(tf.size(words, tf.int64), 1)))


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
    weights = tf.cast(times, tf.float32)
    if idf is not None:
        weights *= idf(found)
    rows = categories.nrows()
    bags = tf.RaggedTensor.from_value_rowids(found, owners, nrows=rows)[:, :width]
    ragged = tf.RaggedTensor.from_value_rowids(weights, owners, nrows=rows)[:, :width]
    dense = ragged.to_tensor(0.0, shape=[None, width])
    if idf is not None:
        squares = tf.reduce_sum(tf.cast(dense, tf.float64) ** 2, axis=1, keepdims=True)
        lengths = tf.cast(tf.sqrt(squares), tf.float32)
        dense /= tf.where(lengths > 0, lengths, tf.ones_like(lengths))
    return bags.to_tensor(-1, shape=[None, width]), dense


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
    words = tf.RaggedTensor.from_value_rowids(codes, owners, nrows=count)
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
