"""The stretches that a model is trained in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["WHOLE", "Phase"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own settings, after which the next starts from the best weights.

    Attributes:
        name: For logs, such as "frozen".
        epochs: Most epochs; None: `training.epochs`.
        learning_rate: First learning rate; None: `training.learning_rate`.
        prepare: Sets the `trainable` flags of a part that `training_parts` names; call before compiling.
    """

    name: str
    epochs: int | None
    learning_rate: float | None
    prepare: Callable[[Any], None]


def _train_all(model: Any) -> None:
    model.trainable = True


WHOLE = (Phase("training", None, None, _train_all),)
"""One phase in which everything is trained."""
