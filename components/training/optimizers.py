"""Optimizers, and the learning rate as a function of steps."""

import math
from typing import Any

import keras
import tensorflow as tf

from .config import Schedule, TrainingConfig

__all__ = ["PlannedSchedule", "make_optimizer", "plain_optimizer", "plan_schedule"]


def make_optimizer(training: TrainingConfig, learning_rate: float | None = None) -> Any:
    """Return the Keras optimizer that `training` asks for.

    Args:
        training: Optimizer and its settings.
        learning_rate: First learning rate; by default `training.learning_rate`.
    """
    first = training.learning_rate if learning_rate is None else learning_rate
    rate: Any = first if training.schedule is None else PlannedSchedule(first, training.schedule)
    shared: dict[str, Any] = {
        "weight_decay": training.weight_decay or None,
        "global_clipnorm": training.clip_norm,
        "clipnorm": training.clip_each_norm,
        "clipvalue": training.clip_value,
        "gradient_accumulation_steps": training.accumulate_steps if training.accumulate_steps > 1 else None,
        "use_ema": training.ema_momentum is not None,
    }
    if training.ema_momentum is not None:
        shared["ema_momentum"] = training.ema_momentum
    optimizers = keras.optimizers
    if training.optimizer == "sgd":
        return optimizers.SGD(rate, momentum=training.momentum, nesterov=training.nesterov, **shared)
    if training.optimizer == "rmsprop":
        return optimizers.RMSprop(rate, momentum=training.momentum, **shared)
    if training.optimizer == "adamw":
        return optimizers.AdamW(rate, **shared | {"weight_decay": training.weight_decay})
    kinds = {"adam": optimizers.Adam, "adagrad": optimizers.Adagrad, "lion": optimizers.Lion}
    return kinds[training.optimizer](rate, **shared)


def plain_optimizer(model: Any) -> Any:
    """Return the optimizer of a compiled model, without the loss scaling around it."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class PlannedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that follows `training.schedule` once the length of the fit is known.

    Args:
        learning_rate: The full rate, > 0.
        schedule: Its course.
    """

    def __init__(self, learning_rate: float, schedule: Schedule) -> None:
        super().__init__()
        self._rate, self._schedule = learning_rate, schedule
        self._steps: float | None = None
        self._epochs = 1.0

    def plan(self, steps: float, epochs: float) -> None:
        """Tell how long the fit is, before its first step.

        Args:
            steps: Batches of an epoch, > 0; they count where gradients are accumulated, too.
            epochs: Epochs of the fit, > 0.
        """
        self._steps, self._epochs = steps, epochs

    def __call__(self, step: Any) -> Any:
        """Return the rate, float32, of the batch number `step`, counted from 0."""
        if self._steps is None:
            raise RuntimeError("a schedule must be planned before the first step. Received: no plan")
        schedule = self._schedule
        epoch = tf.cast(step, tf.float32) / self._steps
        after = tf.maximum(epoch - schedule.warmup_epochs, 0.0)
        share = self._after_warmup(after)
        if schedule.warmup_epochs > 0:
            # The first step is one step above 0.
            rising = (epoch + 1.0 / self._steps) / schedule.warmup_epochs
            share = tf.where(epoch < schedule.warmup_epochs, tf.minimum(rising, 1.0), share)
        return self._rate * share

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"learning_rate": self._rate, "schedule": self._schedule.model_dump()}

    def _after_warmup(self, epoch: Any) -> Any:
        """Return the share of the full rate, `epoch` epochs (a float32 scalar) after the warm-up."""
        schedule = self._schedule
        every, factor = schedule.every_epochs or 1.0, schedule.factor or 0.5
        if schedule.kind == "step":
            # A hair more, since 3 * (1 / 3) may fall short of 1.
            return tf.pow(factor, tf.floor(epoch / every + 1e-4))
        if schedule.kind == "exponential":
            return tf.pow(factor, epoch / every)
        if schedule.kind == "cosine":
            # Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.
            length = max(self._epochs - schedule.warmup_epochs, 1e-6) / (schedule.cycles or 1)
            cycle = tf.minimum(tf.floor(epoch / length + 1e-4), float((schedule.cycles or 1) - 1))
            place = tf.clip_by_value(epoch / length - cycle, 0.0, 1.0)
            floor = schedule.floor or 0.0
            return floor + (1 - floor) * (1 + tf.cos(math.pi * place)) / 2
        return tf.ones_like(epoch)


def plan_schedule(model: Any, steps: int | None, epochs: int) -> None:
    """Tell the schedule of a compiled model, if it has one, how long the fit is.

    Args:
        model: A compiled model.
        steps: Batches of an epoch; must be known where there is a schedule.
        epochs: Epochs of the fit.
    """
    optimizer = plain_optimizer(model)
    schedule = getattr(optimizer, "_learning_rate", None)
    if isinstance(schedule, PlannedSchedule):
        if steps is None:
            raise ValueError("a schedule needs the number of steps. Received: batches of unknown length")
        schedule.plan(max(steps, 1), epochs)
