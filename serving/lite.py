"""A model on a device: LiteRT and numpy, no TensorFlow.

A bundle is a folder of `model.tflite` (over transformed features), `preprocessing.json` (what turns raw rows
into those) and `labels.json` (`{name, task, classes}`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from headrace.data.errors import ConfigError

from .columns import Rows
from .preprocessing import Preprocessor

__all__ = ["LiteModel", "LiteRunner"]

Array = np.ndarray[Any, Any]

_SIGNATURE = "serving_default"
_MAX_BATCH = 4096
"""Rows of one call; a larger request is cut, so that memory stays bounded."""


class LiteRunner:
    """A flatbuffer over transformed features.

    Not thread-safe: an interpreter holds the values of one call.

    Args:
        content: The flatbuffer.
        threads: Threads of one call, >= 1.

    Attributes:
        inputs: Feature -> numpy dtype.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        if _SIGNATURE in signatures:
            self._runner = self._interpreter.get_signature_runner(_SIGNATURE)
            details = self._runner.get_input_details()
        else:
            self._runner = None
            details = {_feature_of(found["name"]): found for found in self._interpreter.get_input_details()}
        self._indices = {name: int(found["index"]) for name, found in details.items()}
        self.inputs: dict[str, np.dtype[Any]] = {
            name: np.dtype(found["dtype"]) for name, found in details.items()
        }

    def run(self, features: Mapping[str, Array]) -> dict[str, Array]:
        """Answer transformed rows.

        Args:
            features: Feature -> `[rows, width]`; integers of any width.

        Returns:
            `scores` float32 `[rows, K]` or `outputs` float32 `[rows]`.

        Raises:
            ConfigError: If a feature of the model is not given.
        """
        absent = sorted(set(self.inputs) - set(features))
        if absent:
            raise ConfigError(
                f"every input of the model must be given. Received: none for {', '.join(absent)}"
            )
        cast = {name: np.ascontiguousarray(features[name], dtype) for name, dtype in self.inputs.items()}
        if self._runner is not None:
            return {name: np.asarray(value) for name, value in self._runner(**cast).items()}
        return self._run_by_index(cast)

    def _run_by_index(self, features: Mapping[str, Array]) -> dict[str, Array]:
        """Call a flatbuffer without signatures, whose one output is told by its rank."""
        for name, value in features.items():
            self._interpreter.resize_tensor_input(self._indices[name], value.shape)
        self._interpreter.allocate_tensors()
        for name, value in features.items():
            self._interpreter.set_tensor(self._indices[name], value)
        self._interpreter.invoke()
        (output,) = self._interpreter.get_output_details()
        answer = np.asarray(self._interpreter.get_tensor(output["index"]))
        return {"scores" if answer.ndim == 2 else "outputs": answer}


class LiteModel:
    """A bundle that answers raw rows.

    Example:
        model = LiteModel.load("push/lite/flights/3")
        model.predict([{"carrier": "UA", "distance": 1400.0}])["scores"]

    Args:
        runner: The model.
        preprocessor: Raw rows -> transformed features.
        label: Content of labels.json.
    """

    def __init__(self, runner: LiteRunner, preprocessor: Preprocessor, label: Mapping[str, Any]) -> None:
        self.runner = runner
        self.preprocessor = preprocessor
        self.label = dict(label)
        self.classes: tuple[str, ...] = tuple(label["classes"] or ())

    @classmethod
    def load(cls, bundle_dir: str | Path, threads: int = 1) -> "LiteModel":
        """Load a bundle.

        Args:
            bundle_dir: Folder of the bundle.
            threads: Threads of one call, >= 1.

        Raises:
            ConfigError: If a file is absent or not what it should be.
        """
        folder = Path(bundle_dir)
        absent = [
            n for n in ("model.tflite", "preprocessing.json", "labels.json") if not (folder / n).is_file()
        ]
        if absent:
            raise ConfigError(f"a lite bundle must hold {', '.join(absent)}. Received: {folder}")
        try:
            runner = LiteRunner((folder / "model.tflite").read_bytes(), threads)
            label = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"a lite bundle must be readable. Received: {folder} ({error})") from error
        return cls(runner, Preprocessor.load(str(folder / "preprocessing.json")), label)

    def predict(self, rows: Rows, ignore_unknown: bool = False) -> dict[str, Array]:
        """Answer raw rows.

        Args:
            rows: Rows as mappings column -> value, None for missing; or columns as sequences of one length.
            ignore_unknown: Whether to pass over columns that the model does not read.

        Returns:
            As the server answers: `scores` float32 `[rows, K]` and `classes` object of str `[rows, K]`, or
            `outputs` float32 `[rows]`.

        Raises:
            ConfigError: If there is no row.
            InvalidRow: If a value does not fit its column, or a column is not known.
        """
        features = self.preprocessor.transform(rows, ignore_unknown)
        total = len(next(iter(features.values())))
        if not total:
            raise ConfigError("a request must hold at least one row. Received: none")
        parts = [
            self.runner.run({name: values[start : start + _MAX_BATCH] for name, values in features.items()})
            for start in range(0, total, _MAX_BATCH)
        ]
        answer = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if "scores" in answer:
            answer["classes"] = np.tile(np.array([self.classes], object), (total, 1))
        return answer


def _feature_of(tensor: str) -> str:
    """Return the feature that a tensor such as "serving_default_age:0" carries."""
    return tensor.removeprefix(f"{_SIGNATURE}_").rsplit(":", 1)[0]
