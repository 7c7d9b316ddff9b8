"""Transformed training rows, drawn with a seed, for calibration and conversion checks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.spec import dtype_of, shape_of
from headrace.data.errors import HeadraceError

__all__ = ["read_calibration_rows"]

_POOL = 4  # read this many times the rows wanted, then choose


def read_calibration_rows(
    examples_uri: str, features: Mapping[str, Any], rows: int, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Draw transformed rows of the training split, which is in shuffled order already.

    Args:
        examples_uri: Folder of the `transformed_examples` artifact.
        features: Content of features.json.
        rows: Rows wanted, >= 1; fewer where the split has fewer.
        seed: Chooses the rows.

    Returns:
        Feature -> float32 or int64 `[rows, width]`.

    Raises:
        HeadraceError: If the split holds no row.
    """
    files = sorted(tf.io.gfile.glob(f"{examples_uri}/Split-train/*.gz"))
    random = np.random.default_rng(seed)
    random.shuffle(files)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").take(rows * _POOL)
    serialized = np.array(list(records.as_numpy_iterator()), object)
    if not len(serialized):
        raise HeadraceError(f"the training split must hold at least one row. Received: none ({examples_uri})")
    chosen = np.sort(random.permutation(len(serialized))[:rows])
    parsed = tf.io.parse_example(serialized[chosen].tolist(), _parse_spec(features))
    return {name: values.numpy() for name, values in parsed.items()}


def _parse_spec(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        spec["name"]: tf.io.FixedLenFeature(shape_of(spec), tf.as_dtype(dtype_of(spec)))
        for spec in features["features"]
    }
