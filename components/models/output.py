"""What a model answers: one logit for two classes, K logits for more, one number for regression."""

from dataclasses import dataclass
from typing import Any

from headrace.data.config import Task

__all__ = ["Output", "output_of"]


@dataclass(frozen=True)
class Output:
    """Task and classes of a model.

    Attributes:
        task: What is predicted.
        classes: Label values in output order (binary: the last is positive); empty for regression.
    """

    task: Task
    classes: tuple[str, ...] = ()

    @property
    def logits(self) -> int:
        """Width of the model's output: 1 for binary and regression, else the number of classes."""
        return len(self.classes) if self.task == "multiclass" else 1


def output_of(features: dict[str, Any]) -> Output:
    """Return the output that the label in `features` (the content of features.json) asks for."""
    label = features["label"]
    return Output(label["task"], tuple(label["classes"] or ()))
