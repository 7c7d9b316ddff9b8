"""Where a fit that diverged turned to NaN or infinity first."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from .input import Batches
from .monitoring import layer_outputs

__all__ = ["diagnose", "first_not_finite"]

_MOST_STEPS = 200


def diagnose(model: Any, restart: Callable[[], None], train: Batches) -> str:
    """Return where NaN or infinity came from: a feature, the label, or a layer in a step done again.

    Args:
        model: The compiled model that diverged; left in any state.
        restart: Gives it finite weights and a new optimizer.
        train: The batches that it was fitted to.
    """
    for number, batch in enumerate(train.dataset.take(_MOST_STEPS)):
        place = _in_batch(batch)
        if place:
            return f"{place}, in batch {number + 1}"
    restart()
    for number, batch in enumerate(train.dataset.take(_MOST_STEPS)):
        before = model.get_weights()
        model.reset_metrics()
        try:
            loss = float(np.asarray(model.train_on_batch(*batch, return_dict=True)["loss"]))
        except tf.errors.InvalidArgumentError:  # metrics refuse scores that are NaN
            loss = float("nan")
        if np.isfinite(loss) and (place := _in_weights(model)):
            return f"the gradient of {place} was the first, in step {number + 1} from the last good weights"
        if not np.isfinite(loss):
            model.set_weights(before)
            name = first_not_finite(model, batch[0])
            where = f"the output of layer `{name}`" if name else "the loss, while all layers were finite,"
            return f"{where} was the first, in step {number + 1} from the last good weights"
    return f"it did not come back in {_MOST_STEPS} steps from the last good weights"


def first_not_finite(model: Any, columns: Mapping[str, Any]) -> str:
    """Return the first layer, from inputs to output, whose answer is not finite; "" if there is none."""
    names = [layer.name for layer in model.layers]
    outputs = layer_outputs(model, names)(columns)
    for name in names:
        values = outputs[name]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return str(name)
    return ""


def _in_batch(batch: Any) -> str:
    columns, labels, *weights = batch
    for name, values in columns.items():
        if values.dtype.is_floating and not np.isfinite(values.numpy()).all():
            return f"feature `{name}` holds NaN or infinity"
    for name, values in (("the label", labels), *(("the weight", one) for one in weights)):
        if values.dtype.is_floating and not np.isfinite(values.numpy()).all():
            return f"{name} holds NaN or infinity"
    return ""


def _in_weights(model: Any) -> str:
    """Return the layer with weights that are not finite, the one nearest to the output; "" if none."""
    for layer in reversed(model.layers):
        if any(not np.isfinite(weight.numpy()).all() for weight in layer.trainable_weights):
            return f"layer `{layer.name}`"
    return ""
