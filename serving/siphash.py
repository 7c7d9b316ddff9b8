"""SipHash-2-4 (Aumasson and Bernstein 2012), many texts at a time.

It is the hash of TensorFlow's `tf.strings.to_hash_bucket_strong`, so that a category outside every
vocabulary gets the same number with and without TensorFlow.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["hash_buckets", "siphash"]

UInt64s = npt.NDArray[np.uint64]

_INITIAL = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def hash_buckets(texts: Sequence[bytes], buckets: int, key: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return `siphash(text) % buckets` of each text, int64 `[texts]` in `[0, buckets)`."""
    return (siphash(texts, key) % np.uint64(buckets)).astype(np.int64)


def siphash(texts: Sequence[bytes], key: tuple[int, int]) -> UInt64s:
    """Hash each text.

    Args:
        texts: Any bytes, of any lengths.
        key: Two unsigned 64-bit integers.

    Returns:
        uint64 `[texts]`.

    Example:
        >>> [hex(value) for value in siphash([bytes(range(15))], (0x0706050403020100, 0x0F0E0D0C0B0A0908))]
        ['0xa129ca6149be45e5']
    """
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    blocks = sizes // 8 + 1
    # Every text is padded to whole words; the last byte is its length modulo 256.
    padded = b"".join(text.ljust(len(text) | 7, b"\0") + bytes((len(text) & 255,)) for text in texts)
    words = np.frombuffer(padded, "<u8").astype(np.uint64, copy=False)
    starts = np.cumsum(blocks) - blocks
    state = [np.full(len(texts), word ^ key[i % 2], np.uint64) for i, word in enumerate(_INITIAL)]
    for block in range(int(blocks.max(initial=0))):
        active = np.flatnonzero(blocks > block)
        if len(active) == len(texts):
            state = _absorb(state, words[starts + block])
            continue
        for whole, part in zip(
            state, _absorb([row[active] for row in state], words[starts[active] + block]), strict=True
        ):
            whole[active] = part
    v0, v1, v2, v3 = state
    v2 = v2 ^ np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _absorb(state: list[UInt64s], word: UInt64s) -> list[UInt64s]:
    """Mix one 8-byte word of each text into the state: two rounds."""
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3 ^ word))
    return [v0 ^ word, v1, v2, v3]


def _round(v0: UInt64s, v1: UInt64s, v2: UInt64s, v3: UInt64s) -> tuple[UInt64s, UInt64s, UInt64s, UInt64s]:
    v0 = v0 + v1
    v2 = v2 + v3
    v1 = _rotate(v1, 13) ^ v0
    v3 = _rotate(v3, 16) ^ v2
    v0 = _rotate(v0, 32)
    v2 = v2 + v1
    v0 = v0 + v3
    v1 = _rotate(v1, 17) ^ v2
    v3 = _rotate(v3, 21) ^ v0
    return v0, v1, _rotate(v2, 32), v3


def _rotate(value: UInt64s, bits: int) -> UInt64s:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
