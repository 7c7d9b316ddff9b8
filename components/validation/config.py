"""The `validation` section: the schema that data must keep, and how far splits may differ."""

from typing import Annotated

from pydantic import Field

from headrace.data.local_path import LocalPath
from headrace.data.section import Section

__all__ = ["ValidationConfig"]


class ValidationConfig(Section):
    """Rules of the data gate.

    Attributes:
        schema_path: TFMD schema in text form; relative to the config file's folder. By default
            `<config name>.schema.pbtxt` beside the config, inferred and written by the first run.
        max_skew: Largest distance of eval and of test from train, on common bins: L-infinity for categories,
            Jensen-Shannon divergence on train's deciles for numbers, in (0, 1]. In few rows it is raised
            to what equal distributions are apart by chance. None: not checked.
        skew_is_error: Whether skew beyond `max_skew` stops the run (else the gate is WARN).
    """

    schema_path: LocalPath | None = None
    max_skew: Annotated[float, Field(gt=0, le=1)] | None = 0.2
    skew_is_error: bool = False
