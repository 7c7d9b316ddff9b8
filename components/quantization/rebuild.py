"""The trained Keras model again, from what the trainer wrote, in float32."""

import json
from pathlib import Path
from typing import Any

from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model, parse_model_config

__all__ = ["rebuild_model"]


def rebuild_model(keras_dir: Path) -> Any:
    """Return the model of `keras_dir` with its weights.

    Args:
        keras_dir: The `keras` folder of the model artifact.
    """
    spec = json.loads((keras_dir / "model.json").read_text(encoding="utf-8"))
    features = spec["features"]
    model = build_model(features, parse_model_config(spec["model"]), output_of(features))
    model.load_weights(str(keras_dir / "model.weights.h5"))
    return model
