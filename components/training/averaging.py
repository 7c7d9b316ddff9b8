"""Weights averaged over steps, put in place while a model is judged and kept."""

from typing import Any

import keras

from .optimizers import plain_optimizer

__all__ = ["AveragedWeights"]


class AveragedWeights(keras.callbacks.Callback):
    """Puts the optimizer's moving average in place for the evaluation of each epoch.

    It stays until this callback's turn at the end of the epoch, so that callbacks before it (the checkpoint)
    keep the average, and those after it (the backup) the weights that training goes on with. Keras'
    SwapEMAWeights has no such order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: list[Any] | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the average in place."""
        optimizer = plain_optimizer(self.model)
        if self._own is None and optimizer.use_ema and optimizer.built:
            variables = optimizer._trainable_variables
            self._own = [variable.numpy() for variable in variables]
            for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
                if average is not None:
                    variable.assign(average)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put the weights of the training back."""
        if self._own is not None:
            variables = plain_optimizer(self.model)._trainable_variables
            for variable, value in zip(variables, self._own, strict=True):
                variable.assign(value)
            self._own = None
