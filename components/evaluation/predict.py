"""Predictions of one variant by its own runtime."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["SavedModel", "check_predictions", "predict_lite"]

_BATCH = 4096


class SavedModel:
    """A SavedModel with our signatures.

    Args:
        folder: Where saved_model.pb is.
    """

    def __init__(self, folder: str) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(folder)
        self._examples: Any = self._loaded.signatures["serving_default"]

    def predict(self, serialized: np.ndarray) -> np.ndarray:
        """Predict from serialized `tf.Example`, object array `[rows]`.

        Returns:
            float32 `[rows, classes]`, or `[rows]` for regression.
        """
        import tensorflow as tf

        return _in_batches(
            lambda part: self._examples(examples=tf.constant(serialized[part], tf.string)), len(serialized)
        )

    def classes(self, serialized: np.ndarray) -> tuple[str, ...]:
        """Return the class names that the model answers with, from one example `[1]`; () for regression."""
        import tensorflow as tf

        answer = self._examples(examples=tf.constant(serialized[:1], tf.string))
        if "classes" not in answer:
            return ()
        return tuple(name.decode() for name in answer["classes"].numpy()[0])

    def predict_raw(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict from raw columns, float32 with NaN or text with "" for missing, `[rows]` each.

        Returns:
            float32 `[rows, classes]`, or `[rows]` for regression.
        """
        import tensorflow as tf

        raw: Any = self._loaded.signatures["serving_raw"]
        rows = len(next(iter(columns.values())))
        return _in_batches(lambda part: raw(**{n: tf.constant(v[part]) for n, v in columns.items()}), rows)


def _in_batches(call: Callable[[slice], Mapping[str, Any]], rows: int) -> np.ndarray:
    """Run a signature over slices of rows and join its scores or outputs."""
    found = []
    for start in range(0, rows, _BATCH):
        answer = call(slice(start, start + _BATCH))
        found.append(np.asarray(answer["scores" if "scores" in answer else "outputs"]))
    return np.concatenate(found).astype(np.float32)


def predict_lite(
    model: str, sidecars: str, labels: bytes, columns: Mapping[str, np.ndarray], scratch: str
) -> np.ndarray:
    """Predict on the on-device path: the numpy sidecar, then LiteRT.

    Args:
        model: Path of model.tflite.
        sidecars: Folder of preprocessing.json.
        labels: Content of labels.json.
        columns: Raw columns as the raw signature takes them, `[rows]` each.
        scratch: Empty or missing folder to put the bundle together in.

    Returns:
        float32 `[rows, classes]`, or `[rows]` for regression.
    """
    from headrace.serving.lite import LiteModel

    os.makedirs(scratch, exist_ok=True)
    os.symlink(os.path.abspath(model), os.path.join(scratch, "model.tflite"))
    sidecar = os.path.join(sidecars, "preprocessing.json")
    os.symlink(os.path.abspath(sidecar), os.path.join(scratch, "preprocessing.json"))
    with open(os.path.join(scratch, "labels.json"), "wb") as stream:
        stream.write(labels)
    answer = LiteModel.load(scratch).predict(columns)
    return np.asarray(answer["scores" if "scores" in answer else "outputs"], np.float32)


def check_predictions(predictions: np.ndarray, rows: int, classes: Sequence[str]) -> None:
    """Check shape and content.

    Raises:
        ValueError: If there is not one finite answer for every row (and class).
    """
    wanted = (rows, len(classes)) if classes else (rows,)
    if predictions.shape != wanted:
        raise ValueError(f"predictions must have shape {wanted}. Received: {predictions.shape}")
    broken = int((~np.isfinite(predictions)).sum())
    if broken:
        raise ValueError(f"predictions must be finite. Received: {broken} values that are not")
