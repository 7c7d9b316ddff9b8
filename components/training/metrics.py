"""The metrics that Keras logs for each task, in the label's own units."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from headrace.components.models.output import Output

from .target import unscaled

__all__ = ["make_metrics"]


def make_metrics(output: Output) -> list[Any]:
    """Return the metrics that `headrace.components.training.settings.METRICS` names, `loss` left out.

    Labels may be shares of classes (mixup): the largest share, or one of a half or more, counts.

    Args:
        output: Task, classes and the scale of a regression target.
    """
    if output.task == "regression":
        own: _Map = lambda labels, outputs: (labels, unscaled(outputs, output.target))  # noqa: E731
        return [
            _Mapped(keras.metrics.RootMeanSquaredError(), own, "rmse"),
            _Mapped(keras.metrics.MeanAbsoluteError(), own, "mae"),
        ]
    if output.task == "multiclass":
        return [_Mapped(keras.metrics.SparseCategoricalAccuracy(), _whole_class, "accuracy")]
    several = {"multi_label": True, "num_labels": output.logits} if output.task == "multilabel" else {}
    return [
        _Mapped(keras.metrics.AUC(from_logits=True, **several), _whole_labels, "auc"),
        # Logit 0 is probability 1/2; a decision of its own for each label.
        _Mapped(keras.metrics.MeanMetricWrapper(_same_side), _whole_labels, "accuracy"),
    ]


_Map = Callable[[Any, Any], tuple[Any, Any]]


def _whole_class(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Turn shares `[rows, classes]` into classes `[rows, 1]`; classes stay."""
    if labels.shape[-1] == 1:
        return labels, logits
    return tf.argmax(labels, axis=-1)[:, tf.newaxis], logits


def _whole_labels(labels: Any, logits: Any) -> tuple[Any, Any]:
    return tf.cast(labels >= 0.5, tf.float32), logits


def _same_side(labels: Any, logits: Any) -> Any:
    return tf.cast(tf.equal(labels >= 0.5, logits > 0), tf.float32)


class _Mapped(keras.metrics.Metric):
    """A metric of changed labels and outputs.

    Args:
        metric: The metric.
        change: (labels, outputs) -> the same as `metric` takes them.
        name: Name of the log.
    """

    def __init__(self, metric: Any, change: _Map, name: str) -> None:
        super().__init__(name=name)
        self._metric, self._change = metric, change

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch."""
        return self._metric.update_state(
            *self._change(tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)), sample_weight
        )

    def result(self) -> Any:
        """Return the value so far."""
        return self._metric.result()

    def reset_state(self) -> None:
        """Start anew."""
        self._metric.reset_state()
