"""The `tuning` section: which fields are searched, over what, and how."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

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
        when: Other searched field -> values (or one value) of its `choice`. The field takes part only in
            trials that have one of them, for every field listed; other trials leave it as the config has it.
    """

    choice: tuple[object, ...] = ()
    float: tuple[_Real, _Real] | None = None
    int: tuple[_Whole, _Whole] | None = None
    log: bool = False
    step: Annotated[_Real, Field(gt=0)] | None = None
    when: dict[str, Annotated[tuple[object, ...], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("when", mode="before")
    @classmethod
    def _single_values(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {field: one if isinstance(one, list | tuple) else [one] for field, one in value.items()}

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
        minutes: Start no further trial after this time, > 0; null: no limit. The first always runs.
        workers: Processes of this machine that run trials side by side, 1 to 64, each with its share of the
            processor cores; Keras Tuner's chief hands the trials out.
        executions_per_trial: Fits of each setting with different seeds, averaged.
        epochs: Epochs of each trial, >= 1.
        sample: Share of the training split that trials use, in (0, 1].
        objective: Keras log name to optimise on eval, such as `val_auc` or `val_loss`; `auto`
            takes the task's main metric.
        search: Dotted field under `model` or `training` -> its range. `model.family` may be searched too:
            fields that only some families have then need `when: {model.family: [...]}`, and a family other
            than the config's own starts from its defaults.
    """

    enabled: bool = False
    algorithm: Literal["random", "bayesian", "hyperband", "grid"] = "random"
    trials: Annotated[int, Field(ge=1)] = 5
    minutes: Annotated[float, Field(gt=0)] | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    executions_per_trial: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 1
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    objective: str = "auto"
    search: dict[str, SearchRange] = Field(default_factory=dict)
