"""Compile a model and fit it to batches: what training and tuning share."""

from typing import Any

import keras
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.data.errors import HeadraceError

from .config import TrainingConfig
from .input import Batches

__all__ = ["compile_model", "diverged", "fit_model"]


def compile_model(
    model: Any,
    training: TrainingConfig,
    output: Output,
    *,
    precision: str = "float32",
    weighted: bool = False,
) -> None:
    """Give `model` its loss, metrics and optimizer.

    Args:
        model: Logits out; compiled in place.
        training: Optimizer and its settings.
        output: Task and classes.
        precision: `mixed_float16` adds loss scaling, so that small gradients do not vanish.
        weighted: Whether metrics weigh examples too (the config names a weight column).
    """
    loss, metrics = _loss_and_metrics(output)
    optimizer = _optimizer(training)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=None if weighted else metrics,
        weighted_metrics=metrics if weighted else None,
        # XLA turns the sparse gradients of embedding tables into dense ones and takes long to compile.
        jit_compile=False,
    )


def fit_model(
    model: Any,
    train: Batches,
    evaluation: Batches,
    epochs: int,
    callbacks: list[Any],
) -> None:
    """Fit `model`.

    Raises:
        HeadraceError: If the loss became NaN or infinite.
    """
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


def diverged() -> HeadraceError:
    """Return the error of a fit whose loss is no longer finite."""
    return HeadraceError(
        "training must keep a finite loss. Received: NaN or infinity",
        "lower `training.learning_rate`, set `training.clip_norm`, or look for extreme feature values",
    )


def _loss_and_metrics(output: Output) -> tuple[Any, list[Any]]:
    if output.task == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True), [
            keras.metrics.AUC(name="auc", from_logits=True),
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0),  # logit 0 is probability 1/2
        ]
    if output.task == "multiclass":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True), [
            keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        ]
    return keras.losses.MeanSquaredError(), [
        keras.metrics.RootMeanSquaredError(name="rmse"),
        keras.metrics.MeanAbsoluteError(name="mae"),
    ]


def _optimizer(training: TrainingConfig) -> Any:
    rate, clip = training.learning_rate, training.clip_norm
    decay = training.weight_decay or None
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(
            rate, momentum=training.momentum, weight_decay=decay, global_clipnorm=clip
        )
    if training.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, global_clipnorm=clip)
    return keras.optimizers.Adam(rate, global_clipnorm=clip)
