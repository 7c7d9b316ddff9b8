"""What a `model` section needs, looked at before anything heavy starts."""

import fnmatch
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from headrace.components.features.config import (
    Feature,
    FeaturesConfig,
    ImageFeature,
    SeriesFeature,
    TextFeature,
)
from headrace.data.errors import ConfigError, EnvironmentProblem

from .backbones import BACKBONES
from .config import EnsembleConfig, ModelConfig, TransferConfig

__all__ = ["check_model", "check_weights", "place_weights", "weights_file", "without_weights"]

_KINDS: Mapping[str, str] = {
    "cnn": "of kind image",
    "transfer": "of kind image",
    "rnn": "of kind series, or of kind text with `output: sequence`",
    "conv1d": "of kind series, or of kind text with `output: sequence`",
    "transformer": "of kind series, or of kind text with `output: sequence`",
}
"""Family -> the features that its trunk reads; the other families take any."""

_WEIGHTS_HOST = ("storage.googleapis.com", 443)
"""Where `keras.applications` downloads from."""

_TIMEOUT_S = 3.0


def check_model(model: ModelConfig, features: FeaturesConfig) -> None:
    """Check that a family gets features that it can read.

    Args:
        model: The `model` section.
        features: The `features` section; empty with a user's preprocessing_fn, of whose outputs nothing is
            known yet.

    Raises:
        ConfigError: If it has none, or its images are too small.
    """
    section = model.member if isinstance(model, EnsembleConfig) else model
    wanted = _KINDS.get(section.family)
    if wanted is None or not features:
        return
    images = section.family in ("cnn", "transfer")
    if not any(_suits(feature, images) for feature in features.values()):
        kinds = ", ".join(dict.fromkeys(feature.kind for feature in features.values()))
        raise ConfigError(
            f"family `{section.family}` needs at least one feature {wanted}. "
            f"Received: features of kind {kinds} (model.family)"
        )
    if isinstance(section, TransferConfig):
        _check_sides(section, features)


def check_weights(model: ModelConfig) -> None:
    """Check that the pretrained weights that `model` names can be had from here.

    Raises:
        ConfigError: If the file does not exist.
        EnvironmentProblem: If they must be downloaded and the place cannot be reached.
    """
    section = model.member if isinstance(model, EnsembleConfig) else model
    if not isinstance(section, TransferConfig) or section.weights == "none":
        return
    if section.weights != "imagenet":
        _check_file(section.weights)
        return
    pattern = BACKBONES[section.backbone].file
    if any(fnmatch.fnmatch(name, pattern) for name in _cached()):
        return
    try:
        socket.create_connection(_WEIGHTS_HOST, _TIMEOUT_S).close()
    except OSError as error:
        raise EnvironmentProblem(
            f"the ImageNet weights of {section.backbone} must be downloadable or in Keras' cache. "
            f"Received: {_WEIGHTS_HOST[0]} cannot be reached ({error}) (model.weights)",
            "give a file that was downloaded elsewhere as `model.weights`, or `none` to train from scratch",
        ) from error


def _check_file(path: str) -> None:
    if "://" not in path:
        found, why = Path(path).is_file(), ""
    else:
        import fsspec

        try:
            store, name = fsspec.core.url_to_fs(path)
            found, why = store.exists(name), ""
        except Exception as error:  # each store has errors of its own
            found, why = False, f": {' '.join(str(error).split())[:200]}"
    if not found:
        raise ConfigError(
            "`model.weights` must be `imagenet`, `none` or an existing file. "
            f"Received: {path}{why} (model.weights)"
        )


def place_weights(model: ModelConfig, folder: Path) -> ModelConfig:
    """Return `model` with the path of a file of pretrained weights absolute: it starts at `folder`."""
    if isinstance(model, EnsembleConfig):
        return model.model_copy(update={"member": place_weights(model.member, folder)})
    if (found := weights_file(model)) is None:
        return model
    return model.model_copy(update={"weights": os.path.normpath(folder / found[1])})


def without_weights(model: ModelConfig) -> ModelConfig:
    """Return `model` without the path of a file of pretrained weights: a place is nothing of a model."""
    if isinstance(model, EnsembleConfig):
        return model.model_copy(update={"member": without_weights(model.member)})
    return model if weights_file(model) is None else model.model_copy(update={"weights": ""})


def weights_file(model: ModelConfig) -> tuple[tuple[str, ...], str] | None:
    """Return where in the config a file of pretrained weights stands, and the file; None without one."""
    keys: tuple[str, ...] = ("model",)
    while isinstance(model, EnsembleConfig):
        keys, model = (*keys, "member"), model.member
    if not isinstance(model, TransferConfig) or model.weights in ("imagenet", "none"):
        return None
    return None if "://" in model.weights else ((*keys, "weights"), model.weights)


def _suits(feature: Feature, images: bool) -> bool:
    if images:
        return isinstance(feature, ImageFeature)
    return isinstance(feature, SeriesFeature) or (
        isinstance(feature, TextFeature) and feature.output == "sequence"
    )


def _check_sides(section: TransferConfig, features: FeaturesConfig) -> None:
    least = BACKBONES[section.backbone].min_side
    for name, feature in features.items():
        if isinstance(feature, ImageFeature) and min(feature.height, feature.width) < least:
            raise ConfigError(
                f"{section.backbone} needs images of at least {least} x {least} pixels. "
                f"Received: {feature.height} x {feature.width} (features.{name})"
            )


def _cached() -> list[str]:
    """List the weights that Keras has downloaded before; it looks into KERAS_HOME, or ~/.keras."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    folder = Path(home, "models")
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []
