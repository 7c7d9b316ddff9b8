"""Golden requests: raw rows in every form that a signature takes, and what the model answers in process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.golden import encode_rows
from headrace.serving.raw import raw_columns

__all__ = ["Golden", "golden_requests", "plain"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Golden:
    """Raw rows and what the float32 SavedModel answers them.

    Attributes:
        rows: Column -> value as JSON holds it (`headrace.serving.raw`), None where missing.
        types: Column -> `int`, `float`, `string`, `floats` or `image`.
        examples: The rows as serialized tf.Examples.
        outputs: Signature -> output name -> values.
    """

    rows: Sequence[dict[str, Any]]
    types: Mapping[str, Any]
    examples: Sequence[bytes]
    outputs: Mapping[str, Mapping[str, Any]]

    @property
    def scores(self) -> dict[str, Any]:
        """Signature -> the scores, or a regression's outputs."""
        return {
            signature: outputs["scores" if "scores" in outputs else "outputs"]
            for signature, outputs in self.outputs.items()
        }


def golden_requests(rows: Sequence[dict[str, Any]], types: Mapping[str, Any], model: str) -> Golden:
    """Let the SavedModel in folder `model` answer `rows`.

    Not by the loader under test: this one restores objects, so that a broken saver shows as a difference.
    """
    examples = encode_rows(rows, types)
    loaded = tf.saved_model.load(model)
    columns = {name: tf.constant(values) for name, values in raw_columns(rows, types).items()}
    answers = {
        "serving_raw": loaded.signatures["serving_raw"](**columns),
        "serving_default": loaded.signatures["serving_default"](examples=tf.constant(examples)),
    }
    outputs = {
        signature: {name: plain(value.numpy()) for name, value in answer.items()}
        for signature, answer in answers.items()
    }
    return Golden(rows, types, examples, outputs)


def plain(values: Array) -> Any:
    """Return `values` as nested lists, bytes as text, what is not finite as None."""
    if values.dtype == object:
        return np.vectorize(lambda item: item.decode(), otypes=[object])(values).tolist()
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found.tolist()
