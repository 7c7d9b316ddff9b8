"""The `push` section: which variant goes to which target."""

from typing import Annotated, Literal

from pydantic import Field

from headrace.data.section import Section

__all__ = ["PushConfig"]


class PushConfig(Section):
    """Targets of a push.

    Attributes:
        model_name: Name of the model at both targets; by default the run config's `name`.
        serving: SavedModel variant for TF Serving, or null for none.
        lite: TF Lite variant for devices, or null for none.
        warmup_rows: Rows in the warm-up request log, in [1, 1000].
    """

    model_name: str | None = None
    serving: Literal["float32", "int8_weights"] | None = "int8_weights"
    lite: Literal["tflite_float32", "tflite_float16", "tflite_dynamic_int8", "tflite_int8"] | None = (
        "tflite_int8"
    )
    warmup_rows: Annotated[int, Field(ge=1, le=1000)] = 32
