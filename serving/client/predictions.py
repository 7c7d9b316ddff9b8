"""Labelled results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

__all__ = ["Prediction", "Predictions"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prediction:
    """The result of one row; numbers are the shortest decimals that give the float32 back.

    Attributes:
        label: Class that was decided for; None for multilabel tasks and regression.
        labels: Classes that were decided for (multilabel); else None.
        probability: Score of `label`; None where there is none.
        scores: Class -> score; empty for regression.
        value: Value (regression); else None.
    """

    label: str | None
    labels: tuple[str, ...] | None
    probability: float | None
    scores: dict[str, float]
    value: float | None


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """The results of a request, in the order of its rows.

    Attributes:
        task: `binary`, `multiclass`, `multilabel` or `regression`.
        classes: Names, in the order of the scores; empty for regression.
        scores: float32 `[rows, K]`; None for regression.
        values: float32 `[rows]`; None for classifiers.
        decided: Class of each row; for multilabel tasks a list of classes.
        decided_by: The rule, in words, such as "threshold 0.37 of labels.json".
        version: Version of the model that answered; None where the server does not tell.

    Example:
        >>> scores = np.array([[0.25, 0.75]], np.float32)
        >>> found = Predictions("binary", ("no", "yes"), scores, None, ("yes",), "largest score", 3)
        >>> found[0].label, found[0].probability
        ('yes', 0.75)
    """

    task: str
    classes: tuple[str, ...]
    scores: Array | None
    values: Array | None
    decided: tuple[Any, ...]
    decided_by: str
    version: int | None = None

    def __len__(self) -> int:
        return len(self.decided) if self.values is None else len(self.values)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> "list[Prediction]": ...
    def __getitem__(self, index: int | slice) -> "Prediction | list[Prediction]":
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if self.values is not None:
            return Prediction(None, None, None, {}, *_short(self.values[[index]]))
        assert self.scores is not None
        decided = self.decided[index]
        scores = dict(zip(self.classes, _short(self.scores[index]), strict=True))
        if self.task == "multilabel":
            return Prediction(None, tuple(decided), None, scores, None)
        return Prediction(decided, None, scores[decided], scores, None)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one object a row: `class` (or `classes`) and `scores`, or `output`."""
        if self.values is not None:
            return [{"output": value} for value in _short(self.values)]
        assert self.scores is not None
        name = "classes" if self.task == "multilabel" else "class"
        return [
            {name: decided, "scores": dict(zip(self.classes, _short(row), strict=True))}
            for decided, row in zip(self.decided, self.scores, strict=True)
        ]

    def to_columns(self) -> dict[str, Any]:
        """Return columns: `class` (or `classes`), `probability`, and `score_<class>` each; or `output`."""
        if self.values is not None:
            return {"output": self.values}
        assert self.scores is not None
        if self.task == "multilabel":
            found: dict[str, Any] = {"classes": [list(names) for names in self.decided]}
        else:
            places = {name: place for place, name in enumerate(self.classes)}
            chosen = np.fromiter((places[name] for name in self.decided), np.int64, len(self.decided))
            found = {
                "class": list(self.decided),
                "probability": np.take_along_axis(self.scores, chosen[:, np.newaxis], 1)[:, 0],
            }
        return found | {f"score_{name}": self.scores[:, place] for place, name in enumerate(self.classes)}

    def to_arrow(self) -> Any:
        """Return `to_columns` as a pyarrow.Table."""
        import pyarrow as pa

        return pa.table(self.to_columns())

    def to_pandas(self) -> Any:
        """Return `to_columns` as a pandas.DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.to_columns())


def _short(values: Array) -> list[float]:
    return [float(str(value)) for value in values]
