"""Compile a model and fit it to batches: what training and tuning share."""

from typing import Any

import keras
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.data.errors import HeadraceError

from .averaging import AveragedWeights
from .config import TrainingConfig
from .input import Batches
from .losses import make_loss
from .metrics import make_metrics
from .optimizers import make_optimizer, plain_optimizer, plan_schedule
from .workers import let_workers_fit

__all__ = ["Diverged", "compile_model", "diverged", "fit_model"]


class Diverged(HeadraceError):
    """The loss became NaN or infinite."""


def compile_model(
    model: Any,
    training: TrainingConfig,
    output: Output,
    *,
    precision: str = "float32",
    weighted: bool = False,
    learning_rate: float | None = None,
) -> None:
    """Give `model` its loss, metrics and optimizer.

    Args:
        model: Logits out, or for regression the scaled target; compiled in place.
        training: Loss, optimizer and their settings.
        output: Task, classes and the scale of a regression target: the loss and the metrics take labels in
            their own units.
        precision: `mixed_float16` adds loss scaling, so that small gradients do not vanish.
        weighted: Whether metrics weigh examples too (the config names a weight column).
        learning_rate: First learning rate; by default `training.learning_rate`.
    """
    optimizer = make_optimizer(training, learning_rate)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    metrics = make_metrics(output)
    model.compile(
        optimizer=optimizer,
        loss=make_loss(training, output),
        metrics=None if weighted else metrics,
        weighted_metrics=metrics if weighted else None,
        # By default off: XLA turns the sparse gradients of embedding tables into dense ones and takes long
        # to compile.
        jit_compile=training.xla,
    )


def fit_model(
    model: Any,
    train: Batches,
    evaluation: Batches,
    epochs: int,
    callbacks: list[Any],
) -> None:
    """Fit `model`.

    Averaged weights (`training.ema_momentum`) are those that are evaluated; without an `AveragedWeights`
    among the callbacks one is added.

    Args:
        model: A compiled model.
        train: Batches of the training split.
        evaluation: Batches that are judged after each epoch.
        epochs: Epochs of the fit.
        callbacks: Keras callbacks.

    Raises:
        Diverged: If the loss became NaN or infinite.
    """
    plan_schedule(model, train.steps, epochs)
    let_workers_fit(model, train.dataset)
    if plain_optimizer(model).use_ema and not any(isinstance(one, AveragedWeights) for one in callbacks):
        callbacks = [*callbacks, AveragedWeights()]
    try:
        history = model.fit(
            train.dataset, validation_data=evaluation.dataset, epochs=epochs, callbacks=callbacks, verbose=0
        )
    except tf.errors.InvalidArgumentError as error:
        # Metrics refuse NaN scores before the callback that ends such a fit hears of them.
        if "predictions must be" in str(error):
            raise diverged() from error
        raise
    losses = history.history.get("loss", [])
    if losses and not abs(losses[-1]) < float("inf"):
        raise diverged()


def diverged(reason: str = "") -> Diverged:
    """Return the error of a fit whose loss is no longer finite.

    Args:
        reason: A sentence on where it began.
    """
    return Diverged(
        f"training must keep a finite loss. Received: NaN or infinity{reason and f'; {reason}'}",
        "lower `training.learning_rate`, set `training.clip_norm`, or look for extreme feature values",
    )
