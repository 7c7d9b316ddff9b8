"""The keys that a model was trained on travel with it, small and nearly exact."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from headrace.components.push.training_keys import pack, unpack

SPLIT = {"key": ["a", "b"], "seed": 7, "method": "hash"}


def hashes(count: int, seed: int = 1) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64))


@pytest.mark.parametrize("count", [0, 1, 2, 300, 236_000])
def test_every_key_is_known_and_few_others(tmp_path: Path, count: int) -> None:
    keys, others = hashes(count), hashes(200_000, 2)
    file = tmp_path / "keys"
    file.write_bytes(pack(SPLIT, keys))
    found = unpack(file)
    assert found is not None
    assert found.columns == ("a", "b")
    assert found.hold(keys).all()
    # n / 2**32 of the others, by a hand count: 11 expected of 236,000 keys.
    upper = set((keys >> np.uint64(32)).tolist())
    wrong = [int(key) >> 32 in upper for key in others]
    assert found.hold(others).tolist() == wrong
    assert sum(wrong) <= 40
    if count == 236_000:
        assert len(file.read_bytes()) < 2.2 * count


def test_the_largest_and_the_smallest_key(tmp_path: Path) -> None:
    keys = np.array([0, 1, 2**32, 2**64 - 1], np.uint64)
    file = tmp_path / "keys"
    file.write_bytes(pack(SPLIT, keys))
    found = unpack(file)
    assert found is not None
    assert found.upper.tolist() == [0, 1, 2**32 - 1]
    asked = np.array([5, 2**33, 2**64 - 2**32, 2**64 - 2**32 - 1], np.uint64)
    assert found.hold(asked).tolist() == [True, False, True, False]


def test_the_file_is_what_it_says(tmp_path: Path) -> None:
    content = pack(SPLIT, np.array([3 << 32, 300 << 32, 70_000 << 32], np.uint64))
    head, _, body = content.partition(b"\n")
    assert json.loads(head) == {"columns": ["a", "b"], "seed": 7, "keys": 3}
    # 3, 297 = 0x129, 69700 = 0x11044, lowest bytes first.
    assert zlib.decompress(body) == bytes([3, 0x29, 0x44, 0, 1, 0x10, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("content", [b"", b"no json", b"{}\n", b'{"columns": [], "keys": 9}\nzzzz', None])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    assert unpack(file) is None


def test_a_file_cut_short_is_not_known(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(pack(SPLIT, hashes(50))[:-9])
    assert unpack(file) is None
