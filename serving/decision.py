"""From scores to classes, as the gates judged them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["decide"]


def decide(scores: npt.ArrayLike, label: Mapping[str, Any]) -> list[Any]:
    """Return the class of each row, or for a multilabel task the list of its classes.

    Args:
        scores: `[rows, K]`, in the order of the classes.
        label: Content of labels.json: `task`, `classes` and `threshold`: a number (binary: the score of the
            last class from which it is chosen), a number a class (multilabel), or None: the largest score
            decides (multilabel: 0.5).

    Example:
        >>> decide([[0.65, 0.35], [0.9, 0.1]], {"task": "binary", "classes": ["no", "yes"], "threshold": 0.3})
        ['yes', 'no']
        >>> decide([[0.6, 0.7]], {"task": "multilabel", "classes": ["a", "b"], "threshold": [0.8, 0.5]})
        [['b']]
    """
    # As the evaluation compares: a float32 score is not rounded up to a threshold that float32 cannot hold.
    found = np.asarray(scores).astype(np.float64)
    classes, threshold = label["classes"], label.get("threshold")
    if label["task"] == "multilabel":
        chosen = found >= np.asarray(0.5 if threshold is None else threshold, np.float64)
        return [[name for name, on in zip(classes, row, strict=True) if on] for row in chosen]
    if label["task"] == "binary" and threshold is not None:
        return [classes[int(row[-1] >= threshold)] for row in found]
    return [classes[place] for place in found.argmax(axis=1)]
