"""Predictions of one variant by its own runtime."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["LitePath", "SavedModel", "check_predictions"]

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


class LitePath:
    """The on-device path: raw rows through the numpy sidecar, then LiteRT.

    All variants of a run share the sidecar, so the rows go through it once.

    Args:
        sidecars: Folder of preprocessing.json and features.json.
        columns: Raw columns as a device holds them, `[rows]` each.
        scratch: Folder for bundles.
    """

    def __init__(self, sidecars: str, columns: Mapping[str, Sequence[Any]], scratch: str) -> None:
        self._sidecars = sidecars
        self._columns = columns
        self._scratch = scratch
        self._features: dict[str, np.ndarray] | None = None

    def predict(self, name: str, path: str) -> np.ndarray:
        """Predict all rows with the flatbuffer at `path`, from a bundle as it would be pushed.

        Returns:
            float32 `[rows, classes]`, or `[rows]` for regression.
        """
        from headrace.serving.lite import LiteModel

        model = LiteModel.load(self._bundle(name, path))
        if self._features is None:
            self._features = model.preprocessor.transform(self._columns, ignore_unknown=True)
        features = self._features
        rows = len(next(iter(features.values())))
        return _in_batches(
            lambda part: model.runner.run({name: values[part] for name, values in features.items()}), rows
        )

    def _bundle(self, name: str, path: str) -> str:
        folder = os.path.join(self._scratch, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        sidecar = os.path.join(self._sidecars, "preprocessing.json")
        os.symlink(os.path.abspath(path), os.path.join(folder, "model.tflite"))
        os.symlink(os.path.abspath(sidecar), os.path.join(folder, "preprocessing.json"))
        with open(os.path.join(self._sidecars, "features.json"), encoding="utf-8") as stream:
            label = json.load(stream)["label"]
        with open(os.path.join(folder, "labels.json"), "w", encoding="utf-8") as stream:
            json.dump(label, stream)
        return folder


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
