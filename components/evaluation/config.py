"""The `evaluation` section: metrics, decision threshold and slices."""

from typing import Annotated, Literal

from pydantic import Field

from headrace.data.section import Section

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Section):
    """What is measured on the test split, for every variant alike.

    Attributes:
        threshold: Score of the positive class from which a row counts as positive (binary), in (0, 1),
            or `max_f1`: chosen on the eval split of the float32 model.
        slices: Each entry names one raw column, or several for their cross.
        min_slice_rows: Slices with fewer test rows are reported but not gated, >= 1.
        intervals: Confidence level of bootstrap intervals, in (0, 1).
        bootstrap_samples: Resamples for intervals; 0 switches them off.
        importance_repeats: Shuffles per column for permutation importance; 0 switches it off.
        importance_rows: Most test rows used for it, >= 1.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["max_f1"] = 0.5
    slices: tuple[tuple[str, ...], ...] = ()
    min_slice_rows: Annotated[int, Field(ge=1)] = 200
    intervals: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap_samples: Annotated[int, Field(ge=0)] = 200
    importance_repeats: Annotated[int, Field(ge=0)] = 1
    importance_rows: Annotated[int, Field(ge=1)] = 10_000
