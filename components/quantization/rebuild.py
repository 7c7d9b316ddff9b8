"""The trained Keras model again, from what the trainer wrote, in float32."""

import json
from pathlib import Path
from typing import Any

from headrace.components.models.output import Output, TargetScale, output_of
from headrace.components.models.registry import build_model, parse_model_config

__all__ = ["read_output", "rebuild_model"]


def read_output(keras_dir: Path) -> Output:
    """Return task, classes and the scale of a regression target of the model in `keras_dir`."""
    spec = _read(keras_dir)
    return output_of(spec["features"], TargetScale(**spec.get("target", {})))


def rebuild_model(keras_dir: Path) -> Any:
    """Return the model of `keras_dir` with its weights.

    Args:
        keras_dir: The `keras` folder of the model artifact.
    """
    spec = _read(keras_dir)
    config = parse_model_config(spec["model"])
    model = build_model(spec["features"], config, read_output(keras_dir), pretrained=False)
    model.load_weights(str(keras_dir / "model.weights.h5"))
    return model


def _read(keras_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((keras_dir / "model.json").read_text(encoding="utf-8"))
    return content
