"""The losses of `training.loss`, on logits or on the scaled target."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from headrace.components.imported import load_object
from headrace.components.models.output import Output

from .config import Loss, TrainingConfig
from .settings import loss_kind
from .target import scaled, unscaled

__all__ = ["make_loss"]

Rowwise = Callable[[Any, Any], Any]
"""(labels float32, outputs float32 `[rows, n]`) -> losses `[rows]` or `[rows, n]`."""


def make_loss(training: TrainingConfig, output: Output) -> Any:
    """Return the Keras loss that `training.loss` asks for.

    It takes labels as `headrace.components.training.input` gives them, or for multiclass shares of classes
    `[rows, K]` (mixup). A multilabel loss keeps one number a label, so that these can be weighed.

    Args:
        training: The `training` section.
        output: Task, classes and the scale of a regression target.

    Raises:
        ConfigError: If a custom loss cannot be imported.
    """
    loss, kind = training.loss, loss_kind(training, output.task)
    if kind == "custom":
        own = load_object(str(loss.use), "training.loss.use")
        rowwise: Rowwise = lambda labels, outputs: own(labels, outputs, **loss.options)  # noqa: E731
    elif output.task == "regression":
        return _Loss(_of_numbers(kind, loss, output))
    elif output.task == "multiclass":
        rowwise = _of_classes(kind, loss)
    else:
        rowwise = _of_labels(kind, loss)
    if output.task == "regression":
        return _Loss(lambda labels, outputs: rowwise(scaled(labels, output.target), outputs))
    if output.task == "multiclass":
        return _Loss(lambda labels, logits: rowwise(_shares(labels, output.logits), logits))
    return _Loss(rowwise)


class _Loss(keras.losses.Loss):
    """The mean of a function over the rows, each times its weight."""

    def __init__(self, rowwise: Rowwise) -> None:
        super().__init__(name="loss")
        self._rowwise = rowwise

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return losses `[rows]` or `[rows, n]`."""
        losses = self._rowwise(y_true, y_pred)
        return losses[:, 0] if losses.shape.rank == 2 and losses.shape[-1] == 1 else losses


def _of_labels(kind: str, loss: Loss) -> Rowwise:
    """Return the loss of each label: a logit against 0, 1 or a share between them."""

    def cross_entropy(labels: Any, logits: Any) -> Any:
        smooth = labels * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        return tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)

    def focal(labels: Any, logits: Any) -> Any:
        # Lin et al., "Focal Loss for Dense Object Detection", 2017; linear in labels between 0 and 1.
        gamma = 2.0 if loss.gamma is None else loss.gamma
        for_one, for_zero = (1.0, 1.0) if loss.alpha is None else (loss.alpha, 1 - loss.alpha)
        one, zero = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
        return -(
            for_one * labels * tf.exp(gamma * zero) * one
            + for_zero * (1 - labels) * tf.exp(gamma * one) * zero
        )

    def hinge(labels: Any, logits: Any) -> Any:
        return tf.nn.relu(1 - (2 * labels - 1) * logits)

    return {"cross_entropy": cross_entropy, "focal": focal, "hinge": hinge}[kind]


def _of_classes(kind: str, loss: Loss) -> Rowwise:
    """Return the loss of logits `[rows, K]` against shares `[rows, K]` that sum to 1."""

    def cross_entropy(shares: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        smooth = shares * (1 - loss.label_smoothing) + loss.label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(smooth, logits)

    def focal(shares: Any, logits: Any) -> Any:
        gamma = 2.0 if loss.gamma is None else loss.gamma
        log_scores = tf.nn.log_softmax(logits)
        missed = tf.maximum(1 - tf.exp(log_scores), 0.0)
        # The gradient of 0 ** gamma is infinite for gamma < 1.
        return -tf.reduce_sum(shares * tf.pow(tf.maximum(missed, 1e-7), gamma) * log_scores, axis=-1)

    def hinge(shares: Any, logits: Any) -> Any:
        # Crammer and Singer, 2001: the margin to the best of the other classes.
        right = tf.reduce_sum(shares * logits, axis=-1)
        other = tf.reduce_max(logits - 1e9 * shares, axis=-1)
        return tf.nn.relu(1 + other - right)

    return {"cross_entropy": cross_entropy, "focal": focal, "hinge": hinge}[kind]


def _of_numbers(kind: str, loss: Loss, output: Output) -> Rowwise:
    """Return the loss of outputs on the scaled target against labels in their own units."""
    delta = 1.0 if loss.delta is None else loss.delta
    share = 0.5 if loss.quantile is None else loss.quantile

    def msle(labels: Any, outputs: Any) -> Any:
        if output.target.log:
            logarithm = outputs * output.target.divide + output.target.subtract
        else:
            logarithm = tf.math.log1p(tf.maximum(unscaled(outputs, output.target), -1 + 1e-6))
        return tf.square(tf.math.log1p(labels) - logarithm)

    if kind == "msle":
        return msle
    functions: dict[str, Callable[[Any], Any]] = {
        "mse": tf.square,
        "mae": tf.abs,
        "huber": lambda error: tf.where(
            tf.abs(error) <= delta, tf.square(error) / 2, delta * tf.abs(error) - delta**2 / 2
        ),
        "quantile": lambda error: tf.maximum(share * error, (share - 1) * error),  # pinball loss
    }
    function = functions[kind]
    return lambda labels, outputs: function(scaled(labels, output.target) - outputs)


def _shares(labels: Any, classes: int) -> Any:
    """Turn classes `[rows, 1]` into shares `[rows, classes]`; shares stay."""
    if labels.shape[-1] == classes:
        return labels
    return tf.one_hot(tf.cast(labels[:, 0], tf.int32), classes)
