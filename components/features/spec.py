"""How to read an entry of features.json: the one place that knows dtypes and shapes of model inputs."""

from collections.abc import Mapping
from typing import Any

__all__ = ["FLOAT_ROLES", "dtype_of", "label_width", "shape_of"]

FLOAT_ROLES = ("dense", "image", "series", "bag_weights")
"""Roles of float32 inputs; all other roles are int64."""


def shape_of(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of one row.

    Args:
        spec: An entry of `features` of features.json.

    Example:
        >>> shape_of({"name": "age", "role": "dense", "width": 1})
        (1,)
        >>> shape_of({"name": "photo", "role": "image", "width": 2352, "shape": [28, 28, 3]})
        (28, 28, 3)
    """
    return tuple(spec.get("shape") or (spec["width"],))


def dtype_of(spec: Mapping[str, Any]) -> str:
    """Return the dtype of an entry of `features` of features.json: `float32` or `int64`."""
    return "float32" if spec["role"] in FLOAT_ROLES else "int64"


def label_width(label: Mapping[str, Any]) -> int:
    """Return the numbers a row that `label` has in transformed examples.

    Args:
        label: `label` of features.json.
    """
    return len(label["classes"]) if label["task"] == "multilabel" else 1
