"""Stable 64-bit hashes of rows: the same on every machine, version and batch boundary."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["hash_rows", "mix", "unit_interval"]

Hashes = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0x6D697373696E6721)


def mix(values: Hashes) -> Hashes:
    """Scramble each value with SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits.

    Args:
        values: uint64 `[n]`.

    Returns:
        uint64 `[n]`.
    """
    x = values + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_rows(columns: Sequence[pa.Array]) -> Hashes:
    """Hash the values of several columns, row by row; the order of columns counts.

    Equal numbers hash alike as int64 and as float64. Missing is a value of its own.

    Args:
        columns: int64, float64, string, large_binary or large_list of float32 arrays of one length.

    Returns:
        uint64 `[rows]`.
    """
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        total = mix(total ^ _hash_values(column))
    return total


def unit_interval(hashes: Hashes) -> npt.NDArray[np.float64]:
    """Map hashes to [0, 1), evenly."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _hash_values(column: pa.Array) -> Hashes:
    if pa.types.is_string(column.type):
        hashes = _hash_texts(column)
    elif pa.types.is_large_binary(column.type):
        hashes = np.array([_digest(value.as_buffer() or b"") for value in column], np.uint64)
    elif pa.types.is_large_list(column.type):
        hashes = _hash_lists(column)
    else:
        # Adding zero turns -0.0 into 0.0, so that the two hash alike.
        numbers = column.cast(pa.float64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False) + 0.0
        hashes = mix(numbers.view(np.uint64))
    if column.null_count:
        hashes = np.where(column.is_null().to_numpy(zero_copy_only=False), _MISSING, hashes)
    return hashes


def _hash_texts(column: pa.Array) -> Hashes:
    """Hash each distinct text once, with a hash that is the same everywhere."""
    encoded = column.dictionary_encode()
    known = [_digest(text.encode()) for text in encoded.dictionary.to_pylist()]
    places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.array(known or [0], np.uint64)[places]


def _hash_lists(column: pa.Array) -> Hashes:
    """Hash lists of float32 by their values, their order and their length."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = column.flatten().to_numpy(zero_copy_only=False) + np.float32(0)
    numbers[np.isnan(numbers)] = np.nan  # one NaN of the many
    ends = np.cumsum(lengths)
    step = np.arange(len(numbers)) - np.repeat(ends - lengths, lengths)
    mixed = mix(numbers.view(np.uint32).astype(np.uint64) ^ mix(step.astype(np.uint64)))
    # Sums of unsigned integers wrap, so the difference of two running sums is the sum between.
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    return mix((running[ends] - running[ends - lengths]) ^ lengths.astype(np.uint64))


def _digest(content: bytes | pa.Buffer) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
