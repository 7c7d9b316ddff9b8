"""The `evaluation` section: metrics, decision threshold and slices."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headrace.data.section import Section

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Section):
    """What is measured on the test split, for every variant alike.

    Attributes:
        threshold: Score from which a row counts as positive (binary) or gets a label (multilabel), in
            (0, 1); `max_f1`: chosen on the eval split of the float32 model, multilabel for each label on
            its own; `min_cost`: the one of least expected cost there (binary, needs `costs`).
        costs: True class -> predicted class -> cost of that decision, for the metric `cost`, its mean over
            rows (binary and multiclass). What is not named costs 0 where it is right and 1 where wrong.
        slices: Each entry names one raw column, or several for their cross.
        min_slice_rows: Slices with fewer test rows are reported but not gated, >= 1.
        intervals: Confidence level of bootstrap intervals, in (0, 1).
        bootstrap_samples: Resamples for intervals; 0 switches them off.
        importance_repeats: Shuffles per column for permutation importance; 0 switches it off.
        importance_rows: Most test rows used for it, >= 1.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["max_f1", "min_cost"] = 0.5
    costs: dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]] = Field(default_factory=dict)
    slices: tuple[tuple[str, ...], ...] = ()
    min_slice_rows: Annotated[int, Field(ge=1)] = 200
    intervals: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap_samples: Annotated[int, Field(ge=0)] = 200
    importance_repeats: Annotated[int, Field(ge=0)] = 1
    importance_rows: Annotated[int, Field(ge=1)] = 10_000

    @field_validator("costs", mode="before")
    @classmethod
    def _classes_as_text(cls, value: object) -> object:
        # YAML reads 0 and 1 as numbers; label values are compared as text.
        if not isinstance(value, dict):
            return value
        return {
            str(true): {str(k): v for k, v in row.items()} if isinstance(row, dict) else row
            for true, row in value.items()
        }

    @model_validator(mode="after")
    def _cheapest_needs_costs(self) -> "EvaluationConfig":
        if self.threshold == "min_cost" and not self.costs:
            raise ValueError("`threshold: min_cost` needs `costs`. Received: no costs")
        return self
