"""The `tuning` section: which fields are searched, over what, and how."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headrace.data.section import Section

__all__ = ["SearchRange", "TuningConfig"]

# The fields `float` and `int` hide the types of these names inside their class.
_Real = float
_Whole = int


class SearchRange(Section):
    """Values that a field may take: exactly one of `choice`, `float` and `int`.

    Attributes:
        choice: Listed values (numbers, text, booleans, lists or null).
        float: [low, high] of a real number.
        int: [low, high] of a whole number, both inclusive.
        log: Sample `float` or `int` on a logarithmic scale (low > 0).
        step: Distance between values of `float` or `int`.
    """

    choice: tuple[object, ...] = ()
    float: tuple[_Real, _Real] | None = None
    int: tuple[_Whole, _Whole] | None = None
    log: bool = False
    step: Annotated[_Real, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "SearchRange":
        given = [name for name in ("choice", "float", "int") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of `choice`, `float` and `int`. Received: {given or 'none'}")
        limits = self.float or self.int
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"the range must be [low, high] with low < high. Received: {list(limits)}")
        if limits is not None and self.log and limits[0] <= 0:
            raise ValueError(f"`log: true` needs low > 0. Received: {limits[0]:g}")
        return self


class TuningConfig(Section):
    """Search for hyperparameters with Keras Tuner before training.

    Attributes:
        enabled: Whether to search at all.
        algorithm: Search strategy.
        trials: Most settings to try, >= 1 (hyperband: derived from `epochs`, capped by this).
        executions_per_trial: Fits of each setting with different seeds, averaged.
        epochs: Epochs of each trial, >= 1.
        sample: Share of the training split that trials use, in (0, 1].
        objective: Keras log name to optimise on eval, such as `val_auc` or `val_loss`; `auto`
            takes the task's main metric.
        search: Dotted field under `model` or `training` -> its range.
    """

    enabled: bool = False
    algorithm: Literal["random", "bayesian", "hyperband", "grid"] = "random"
    trials: Annotated[int, Field(ge=1)] = 5
    executions_per_trial: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 1
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    objective: str = "auto"
    search: dict[str, SearchRange] = Field(default_factory=dict)
