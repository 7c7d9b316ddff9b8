"""Family `custom`: a model that the user's own function builds."""

from collections.abc import Mapping
from typing import Any

import keras

from headrace.components.features.spec import dtype_of, shape_of
from headrace.components.imported import load_object
from headrace.data.errors import ConfigError

from .config import CustomConfig
from .output import Output

__all__ = ["build"]


def build(
    features: Mapping[str, Any], config: CustomConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model; `headrace.components.models.registry.build_model` documents the contract.

    Raises:
        ConfigError: If there is no such function, or what it returns is no such model.
    """
    function = load_object(config.function, "model.function")
    try:
        model = function(features, dict(config.options), output, seed, precision)
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's code raises is the user's to know
        raise ConfigError(
            "`model.function` must build a model. "
            f"Received: {type(error).__name__}: {error} (model.function: {config.function})"
        ) from error
    _check(model, features, output, config.function)
    return model


def _check(model: Any, features: Mapping[str, Any], output: Output, path: str) -> None:
    if not isinstance(model, keras.Model) or not isinstance(getattr(model, "input", None), dict):
        raise ConfigError(
            "`model.function` must return a functional keras.Model over a dict of inputs. "
            f"Received: {type(model).__name__} ({path})",
            "make the inputs with headrace.components.models.inputs.read_inputs(features).tensors",
        )
    wanted = {spec["name"]: (shape_of(spec), dtype_of(spec)) for spec in features["features"]}
    found = {name: (tuple(item.shape[1:]), str(item.dtype)) for name, item in model.input.items()}
    if found != wanted:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        name = wrong[0]
        raise ConfigError(
            "the inputs of a custom model must be the features, each of its shape and dtype. "
            f"Received: {found.get(name)} instead of {wanted.get(name)} for {name!r} ({path})"
        )
    shape, dtype = tuple(model.output.shape), str(model.output.dtype)
    if shape != (None, output.logits) or dtype != "float32":
        raise ConfigError(
            f"a custom model must answer logits, float32 [rows, {output.logits}]. "
            f"Received: {dtype} {list(shape)} ({path})"
        )
