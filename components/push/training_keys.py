"""The keys that a model was trained on, put beside it: so that nobody judges it later on rows that it learnt.

The file holds a line of JSON, `{columns, seed, keys}`, and then the upper 32 bits of the sorted key hashes
(`keys/train.npy` of the examples): differences of neighbours as little-endian uint32, their lowest bytes first,
then the second lowest and so on, all in one zlib stream. That takes 2 to 3 bytes a key. Of `keys` = n keys, a
row that was not trained on is taken for one with probability n / 2**32: 1 in 4,295 of a million keys.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.hashing import Hashes

__all__ = ["NAME", "TrainingKeys", "pack", "unpack"]

NAME = "training_keys.bin"

_SHIFT = np.uint64(32)
_WIDTH = 4


@dataclass(frozen=True)
class TrainingKeys:
    """Keys of the rows that a model was trained on.

    Attributes:
        columns: Columns that were hashed, sorted; the hashes of others tell nothing.
        upper: uint32 `[keys]`, the upper halves of the hashes, ascending.
    """

    columns: tuple[str, ...]
    upper: np.ndarray

    def hold(self, keys: Hashes) -> np.ndarray:
        """Return for each key whether it is among these, bool `[rows]`.

        Args:
            keys: uint64 `[rows]`.
        """
        return np.isin(_upper(keys), self.upper)


def pack(split: Mapping[str, Any], keys: Hashes) -> bytes:
    """Return the content of the file.

    Args:
        split: `split` of ingest.json.
        keys: uint64 `[keys]`, sorted.
    """
    upper = np.unique(_upper(keys))
    steps = np.diff(upper, prepend=np.uint32(0)).astype("<u4")
    planes = steps.view(np.uint8).reshape(-1, _WIDTH).T.tobytes()
    head = {"columns": list(split["key"]), "seed": split["seed"], "keys": len(upper)}
    return json.dumps(head, ensure_ascii=False).encode() + b"\n" + zlib.compress(planes, 9)


def unpack(path: Path) -> TrainingKeys | None:
    """Return the keys that a file holds; None where there is none, or none that can be read."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        planes = np.frombuffer(zlib.decompress(body), np.uint8).reshape(_WIDTH, int(told["keys"]))
        steps = np.ascontiguousarray(planes.T).view("<u4").ravel()
        upper = np.cumsum(steps, dtype=np.uint64).astype(np.uint32)
        return TrainingKeys(tuple(str(name) for name in told["columns"]), upper)
    except (OSError, ValueError, KeyError, TypeError, zlib.error):
        return None


def _upper(keys: Hashes) -> np.ndarray:
    return (keys >> _SHIFT).astype(np.uint32)
