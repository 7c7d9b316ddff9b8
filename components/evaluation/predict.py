"""Predictions of one variant by its own runtime."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .rows import BATCH_ROWS, ExampleFiles, device_columns

__all__ = ["LitePath", "SavedModel", "batch_rows", "check_predictions", "predict_bundle"]

_BATCH_BYTES = 32 << 20


def batch_rows(features: Mapping[str, Any]) -> int:
    """Return how many rows to predict at once, so that their inputs take at most 32 MB: 53 photos of
    224 x 224 pixels, 4,096 rows of a table.

    Args:
        features: Content of features.json.
    """
    numbers = sum(int(entry["width"]) for entry in features.get("features", ()))
    return max(1, min(BATCH_ROWS, _BATCH_BYTES // (4 * max(1, numbers))))


class SavedModel:
    """A SavedModel with our signatures.

    Args:
        folder: Where saved_model.pb is.
    """

    def __init__(self, folder: str) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(folder)
        self._examples: Any = self._loaded.signatures["serving_default"]

    def predict(self, files: ExampleFiles, batch_rows: int) -> np.ndarray:
        """Predict every row of a split, at most `batch_rows` at once.

        Returns:
            float32 `[rows, classes]`, or `[rows]` for regression.
        """
        import tensorflow as tf

        found = [
            _answer(self._examples(examples=tf.constant(batch, tf.string)))
            for batch in files.batches(batch_rows)
        ]
        return np.concatenate(found).astype(np.float32)

    def classes(self, files: ExampleFiles) -> tuple[str, ...]:
        """Return the class names that the model answers with, from one example; () for regression."""
        import tensorflow as tf

        serialized = next(files.batches(1))
        answer = self._examples(examples=tf.constant(serialized, tf.string))
        if "classes" not in answer:
            return ()
        return tuple(name.decode() for name in answer["classes"].numpy()[0])

    def predict_raw(self, columns: Mapping[str, np.ndarray], batch_rows: int) -> np.ndarray:
        """Predict from raw columns as `headrace.components.evaluation.rows.model_columns` gives them.

        Returns:
            float32 `[rows, classes]`, or `[rows]` for regression.
        """
        import tensorflow as tf

        raw: Any = self._loaded.signatures["serving_raw"]
        found = []
        for start in range(0, len(next(iter(columns.values()))), batch_rows):
            part = {name: values[start : start + batch_rows] for name, values in columns.items()}
            found.append(_answer(raw(**{name: tf.constant(values) for name, values in part.items()})))
        return np.concatenate(found).astype(np.float32)


def _answer(outputs: Mapping[str, Any]) -> np.ndarray:
    """Return the scores or outputs of a signature."""
    return np.asarray(outputs["scores" if "scores" in outputs else "outputs"])


class LitePath:
    """The on-device path: raw rows through the numpy sidecar, then LiteRT.

    All variants of a run share the sidecar, so every batch goes through it once, then through each of them.

    Args:
        sidecars: Folder of preprocessing.json and features.json.
        scratch: Folder for bundles.
    """

    def __init__(self, sidecars: str, scratch: str) -> None:
        self._sidecars = sidecars
        self._scratch = scratch

    def predict(
        self, paths: Mapping[str, str], batches: Iterator[Mapping[str, Sequence[Any]]]
    ) -> dict[str, np.ndarray | Exception]:
        """Predict all rows with the flatbuffers at `paths`, from bundles as they would be pushed.

        Args:
            paths: Variant -> flatbuffer.
            batches: Raw columns as a device holds them, batch by batch.

        Returns:
            Variant -> float32 `[rows, classes]`, or `[rows]` for regression; or what it failed with.
        """
        from headrace.serving.lite import LiteModel

        failed: dict[str, Exception] = {}
        models: dict[str, Any] = {}
        for name, path in paths.items():
            try:
                models[name] = LiteModel.load(self._bundle(name, path))
            except Exception as error:  # whatever a runtime raises is evidence against this variant alone
                failed[name] = error
        found: dict[str, list[np.ndarray]] = {name: [] for name in models}
        for columns in batches if models else ():
            features = next(iter(models.values())).preprocessor.transform(columns, ignore_unknown=True)
            for name, model in list(models.items()):
                try:
                    found[name].append(_answer(model.runner.run(features)))
                except Exception as error:
                    failed[name] = error
                    del models[name]
            if not models:
                break
        done = {name: np.concatenate(found[name]).astype(np.float32) for name in models}
        return {name: failed[name] if name in failed else done[name] for name in paths}

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


def predict_bundle(folder: str, files: ExampleFiles, batch_rows: int) -> np.ndarray:
    """Predict every row of a split with a TF Lite bundle, by its own sidecar.

    Returns:
        float32 `[rows, classes]`, or `[rows]` for regression.
    """
    from headrace.serving.lite import LiteModel

    model = LiteModel.load(folder)
    names = tuple(model.preprocessor.columns)
    if absent := sorted(set(names) - files.types.keys()):
        raise ValueError(
            f"the rows must have the columns that the model reads. Received: no {', '.join(absent)}"
        )
    found = [
        _answer(model.runner.run(model.preprocessor.transform(device_columns(columns, names))))
        for columns in files.columns(names, batch_rows)
    ]
    return np.concatenate(found).astype(np.float32)


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
