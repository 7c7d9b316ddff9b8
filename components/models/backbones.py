"""What is known about backbones of `keras.applications` without loading them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .config import Backbone

__all__ = ["BACKBONES", "CENTER", "IMAGENET_MEAN", "IMAGENET_STD", "BackboneKind"]

CENTER = (123.68, 116.779, 103.939)
"""Red, green and blue that `centered` backbones subtract: those of the Caffe models they come from."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet, of white = 1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Their standard deviations."""


@dataclass(frozen=True)
class BackboneKind:
    """One network of `keras.applications`.

    Attributes:
        scale: Pixels that it was trained on: `signed` (-1 to 1), `raw` (0 to 255), `normalized` (0 to 255,
            normalised inside) or `centered` (0 to 255 less `CENTER`, blue first).
        file: Pattern of the file name of its ImageNet weights in Keras' cache.
        min_side: Smallest height and width in pixels.
    """

    scale: Literal["signed", "raw", "normalized", "centered"]
    file: str
    min_side: int = 32


BACKBONES: Mapping[Backbone, BackboneKind] = {
    "MobileNetV2": BackboneKind("signed", "mobilenet_v2_*_no_top.h5"),
    "MobileNetV3Small": BackboneKind("raw", "weights_mobilenet_v3_small_*_no_top_v2.h5"),
    "MobileNetV3Large": BackboneKind("raw", "weights_mobilenet_v3_large_*_no_top_v2.h5"),
    "EfficientNetB0": BackboneKind("normalized", "efficientnetb0_notop.h5"),
    "EfficientNetB1": BackboneKind("normalized", "efficientnetb1_notop.h5"),
    "EfficientNetB2": BackboneKind("normalized", "efficientnetb2_notop.h5"),
    "EfficientNetB3": BackboneKind("normalized", "efficientnetb3_notop.h5"),
    "EfficientNetB4": BackboneKind("normalized", "efficientnetb4_notop.h5"),
    "EfficientNetB5": BackboneKind("normalized", "efficientnetb5_notop.h5"),
    "EfficientNetB6": BackboneKind("normalized", "efficientnetb6_notop.h5"),
    "EfficientNetB7": BackboneKind("normalized", "efficientnetb7_notop.h5"),
    "ResNet50": BackboneKind("centered", "resnet50_*_notop.h5"),
    "VGG16": BackboneKind("centered", "vgg16_*_notop.h5"),
}
"""Every backbone that the config may name."""
