"""The `variants` section: which forms of the trained model are built."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from headrace.data.section import Section

__all__ = ["LITE_VARIANTS", "SERVING_VARIANTS", "VariantName", "VariantsConfig"]

VariantName = Literal[
    "float32", "int8_weights", "tflite_float32", "tflite_float16", "tflite_dynamic_int8", "tflite_int8"
]

SERVING_VARIANTS = ("float32", "int8_weights")
"""SavedModels for TF Serving."""

LITE_VARIANTS = ("tflite_float32", "tflite_float16", "tflite_dynamic_int8", "tflite_int8")
"""Flatbuffers for TF Lite, over transformed features. `tflite_float32` is always built where any of
the others is: it is the control for sizes and parity."""


class VariantsConfig(Section):
    """Forms of the model.

    Attributes:
        build: Variants to build and judge; `float32` is always built.
        calibration_rows: Transformed training rows for full int8 calibration, >= 256.
    """

    build: tuple[VariantName, ...] = (
        "float32",
        "int8_weights",
        "tflite_float16",
        "tflite_dynamic_int8",
        "tflite_int8",
    )
    calibration_rows: Annotated[int, Field(ge=256)] = 2048

    @field_validator("build")
    @classmethod
    def _with_control(cls, value: tuple[VariantName, ...]) -> tuple[VariantName, ...]:
        wanted = {"float32", *value}
        if wanted & set(LITE_VARIANTS):
            wanted.add("tflite_float32")
        return tuple(name for name in (*SERVING_VARIANTS, *LITE_VARIANTS) if name in wanted)
