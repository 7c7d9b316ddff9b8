"""Texts as categories inside a TensorFlow graph: what tf.Transform counts, and where it is looked up."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from headrace.serving.preprocessing import HASH_KEY

from .config import Vocabulary
from .outputs import Bag, Categories, Category, Output, Tokens

__all__ = ["look_up", "look_up_weighed", "read_weighed", "vocabulary_file"]

_BLANK, _ESCAPED = " ", "\x1f"  # a control character, which no token holds


def vocabulary_file(output: Output, index: int) -> str:
    """Return the name of the vocabulary's file among the transform graph's assets."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in output.name)
    return f"{index:03d}_{name}"


def look_up(text: Any, present: Any, output: Category | Categories | Tokens | Bag, index: int) -> Any:
    """Return the category of each text: hash buckets from 1, then the vocabulary.

    Args:
        text: string `[n]`.
        present: string `[m]`, those to count.
        output: What is planned.
        index: Its place among the outputs.
    """
    bucket = _bucket(text, output.buckets)
    if output.vocabulary is None:
        return bucket
    file = _count(present, output.vocabulary, vocabulary_file(output, index))
    known = tft.apply_vocabulary(text, file, default_value=-1)
    return tf.where(known >= 0, 1 + output.buckets + known, bucket)


def look_up_weighed(
    text: Any, present: Any, rows: Any, output: Bag, index: int
) -> tuple[Any, Callable[[Any], Any]]:
    """Return the category of each text, and a function from categories to their weights.

    A category of the vocabulary weighs 1 + ln((1 + rows) / (1 + rows with the token)). A hash bucket, which
    all unknown tokens share, weighs as what is in every row: 1.

    Args:
        text: string `[n]`.
        present: string `[m]`, those to count: each row's distinct tokens.
        rows: float64 `[]`, rows in all.
        output: What is planned.
        index: Its place among the outputs.
    """
    # A line is "COUNT TOKEN": one file serves both tables, if no token holds a blank.
    file = _count(_escape(present), output.vocabulary, vocabulary_file(output, index), store_frequency=True)
    line, count_column, token_column = tf.lookup.TextFileIndex.LINE_NUMBER, 0, 1

    def place_of(tokens: Any, path: Any) -> tuple[Any, Any]:
        return _table(tokens, path, tf.string, token_column, line)

    def count_of(places: Any, path: Any) -> tuple[Any, Any]:
        return _table(places, path, tf.int64, line, count_column)

    def weigh(categories: Any) -> Any:
        places = categories - 1 - output.buckets
        count = tf.cast(tft.apply_vocabulary(places, file, lookup_fn=count_of), tf.float64)
        idf = 1.0 + tf.math.log((1.0 + rows) / (1.0 + count))
        return tf.where(count >= 0, tf.cast(idf, tf.float32), tf.ones_like(count, tf.float32))

    known = tft.apply_vocabulary(_escape(text), file, lookup_fn=place_of)
    return tf.where(known >= 0, 1 + output.buckets + known, _bucket(text, output.buckets)), weigh


def read_weighed(lines: list[str]) -> tuple[list[str], list[int]]:
    """Return tokens, and in how many rows each is, from the lines of the file of a weighed vocabulary."""
    pairs = [line.split(_BLANK) for line in lines]
    return [token.replace(_ESCAPED, _BLANK) for _, token in pairs], [int(count) for count, _ in pairs]


def _bucket(text: Any, buckets: int) -> Any:
    return 1 + tf.strings.to_hash_bucket_strong(text, buckets, list(HASH_KEY))


def _count(present: Any, vocabulary: Vocabulary, file: str, store_frequency: bool = False) -> Any:
    """Count texts, string `[n]`, and write those to keep; return the path of the file."""
    # Counted here a batch at a time, since Beam would count text by text in Python.
    texts, _, counts = tf.unique_with_counts(present, tf.int64)
    return tft.vocabulary(
        texts,
        weights=counts,
        top_k=vocabulary.top_k,
        frequency_threshold=vocabulary.min_count if vocabulary.min_count > 1 else None,
        vocab_filename=file,
        store_frequency=store_frequency,
    )


def _escape(tokens: Any) -> Any:
    return tf.strings.regex_replace(tokens, _BLANK, _ESCAPED)


def _table(keys: Any, path: Any, key_type: Any, key_column: int, value_column: int) -> tuple[Any, Any]:
    """Return the value of each key, int64, -1 where there is none, and the size of the table."""
    source = tf.lookup.TextFileInitializer(
        path, key_type, key_column, tf.int64, value_column, delimiter=_BLANK
    )
    table = tf.lookup.StaticHashTable(source, default_value=-1)
    return table.lookup(keys), table.size()
