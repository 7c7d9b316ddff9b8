"""Family `transfer`: a backbone of `keras.applications` under new dense layers."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from headrace.data.errors import ConfigError, EnvironmentProblem

from .backbones import BACKBONES, CENTER, IMAGENET_MEAN, IMAGENET_STD
from .config import FineTune, TransferConfig
from .head import hidden_layers, logits
from .inputs import Entry, encode, join, read_inputs, require
from .output import Output
from .phases import WHOLE, Phase

__all__ = ["build", "load_pretrained", "phases"]

_NAME = "backbone"


def build(
    features: Mapping[str, Any], config: TransferConfig, output: Output, seed: int, precision: str
) -> Any:
    """Build the model, the backbone with its initial weights.

    `load_pretrained` fills it; `headrace.components.models.registry.build_model` documents the contract.
    """
    inputs = read_inputs(features)
    entries = require(inputs, config.family, "image")
    trunks = [_trunk(entry, config, place) for place, entry in enumerate(entries)]
    others = [encode(entry, config) for entry in inputs.but("image")]
    x = logits(hidden_layers(join([*trunks, *others]), config), config, output)
    return keras.Model(inputs.tensors, x, name="transfer")


def load_pretrained(model: Any, config: TransferConfig) -> None:
    """Give the backbones of `model` the weights that the config names.

    Raises:
        EnvironmentProblem: If they cannot be downloaded.
        ConfigError: If the file is none of this backbone.
    """
    if config.weights == "none":
        return
    for backbone in _backbones(model):
        if config.weights == "imagenet":
            _copy_imagenet(backbone, config)
        else:
            with _local(config.weights) as path:
                try:
                    backbone.load_weights(path)
                except (ValueError, OSError, KeyError) as error:
                    raise ConfigError(
                        f"`model.weights` must hold the weights of {config.backbone} without its top layers. "
                        f"Received: {config.weights} ({_first_line(error)})"
                    ) from error


def phases(config: TransferConfig) -> tuple[Phase, ...]:
    """Return the phases: the new layers alone, then the upper backbone too."""
    if config.weights == "none":
        return WHOLE
    frozen = Phase("frozen", None, None, _freeze)
    tune = config.fine_tune
    if tune is None:
        return (frozen,)
    return (frozen, Phase("fine_tune", tune.epochs, tune.learning_rate, partial(_thaw, tune=tune)))


def _trunk(entry: Entry, config: TransferConfig, place: int) -> Any:
    kind = BACKBONES[config.backbone]
    height, width, _ = entry.spec["shape"]
    if min(height, width) < kind.min_side:
        raise ConfigError(
            f"{config.backbone} needs images of at least {kind.min_side} x {kind.min_side} pixels. "
            f"Received: {height} x {width} (features.{entry.spec['source']})"
        )
    backbone = _application(config, (height, width, 3), None)
    backbone.name = f"{_NAME}_{place}"
    # Statistics of batch norm stay those of the pretraining, in fine-tuning too.
    frozen = {} if config.weights == "none" else {"training": False}
    x = backbone(_pixels(entry, config), **frozen)
    pool = layers.GlobalAveragePooling2D if config.pool == "average" else layers.GlobalMaxPooling2D
    return pool(name=f"pool_{place}")(x)


def _pixels(entry: Entry, config: TransferConfig) -> Any:
    """Turn an image of any scale into what the backbone was trained on: float32 `[rows, h, w, 3]`."""
    x = entry.tensor
    if x.shape[-1] == 1:
        x = ops.concatenate([x, x, x], axis=-1)
    scale = entry.spec.get("pixels") or {"multiply": [255.0], "add": [0.0]}
    # First red, green and blue from 0 to 255, then the backbone's own.
    multiply, add = (np.resize(np.asarray(scale[key], np.float64), 3) for key in ("multiply", "add"))
    kind, mean = BACKBONES[config.backbone].scale, np.array(IMAGENET_MEAN)
    if kind == "signed":
        multiply, add = multiply / 127.5, add / 127.5 - 1
    elif kind == "centered":
        add = add - np.array(CENTER)
    elif kind == "normalized" and config.weights != "none":
        # Trained on (p / 255 - mean) / std, where the layers inside compute (p / 255 - mean) / sqrt(std).
        root = np.sqrt(IMAGENET_STD)
        multiply, add = multiply / root, (add - 255 * mean) / root + 255 * mean
    x = x * multiply.astype(np.float32) + add.astype(np.float32)
    return x[..., ::-1] if kind == "centered" else x


def _application(config: TransferConfig, shape: tuple[int, ...], weights: str | None) -> Any:
    function = getattr(keras.applications, config.backbone)
    return function(include_top=False, weights=weights, input_shape=shape)


def _backbones(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith(f"{_NAME}_")]


def _copy_imagenet(backbone: Any, config: TransferConfig) -> None:
    try:
        # Keras prints its progress, and standard output belongs to the command line.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Weights for input shape")
            source = _application(config, tuple(backbone.input_shape[1:]), "imagenet")
    except Exception as error:  # get_file raises a bare Exception
        raise EnvironmentProblem(
            f"the ImageNet weights of {config.backbone} must be downloadable or in Keras' cache. "
            f"Received: {_first_line(error)} (model.weights)",
            "give a file that was downloaded elsewhere as `model.weights`, or `none` to train from scratch",
        ) from error
    backbone.set_weights(source.get_weights())


def _freeze(model: Any) -> None:
    model.trainable = True
    for backbone in _backbones(model):
        backbone.trainable = False


def _thaw(model: Any, tune: FineTune) -> None:
    model.trainable = True
    for backbone in _backbones(model):
        first = _first_trained(backbone, tune.from_layer)
        for place, layer in enumerate(backbone.layers):
            layer.trainable = place >= first and not isinstance(layer, layers.BatchNormalization)


def _first_trained(backbone: Any, from_layer: str | int) -> int:
    names = [layer.name for layer in backbone.layers]
    if isinstance(from_layer, int) and -len(names) <= from_layer < len(names):
        return from_layer % len(names)
    if from_layer in names:
        return names.index(str(from_layer))
    raise ConfigError(
        f"`model.fine_tune.from_layer` must name a layer of the backbone or one of its {len(names)} places. "
        f"Received: {from_layer}",
        f"its last layers are {', '.join(names[-5:])}",
    )


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """Give the path of a local copy of a file that may lie in remote storage."""
    if "://" not in path:
        yield path
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        with fsspec.open(path, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        yield copy


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
