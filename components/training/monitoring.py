"""What happens inside a model: norms of gradients, spread of weights, units that never answer."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .lines import read_lines, write_lines
from .rows import row_bytes

__all__ = ["Monitoring", "dead_shares", "gradient_norms", "layer_outputs", "probe_rows", "weight_spread"]

_BINS = 16
_PROBE_BYTES = 2**22
_PROBE_ROWS = 256


def probe_rows(features: Mapping[str, Any]) -> int:
    """Return how many rows to look at: 256, fewer where rows are large."""
    return max(1, min(_PROBE_ROWS, _PROBE_BYTES // row_bytes(features)))


class Monitoring(keras.callbacks.Callback):
    """Keeps `{epoch, gradient_norm, layers, dead}` of every epoch in a file of JSON lines, across restarts.

    Args:
        path: The file.
        batch: `(columns, labels[, weights])`, the same rows for all epochs; None: nothing is kept.
        before: Epochs of earlier phases.
        marks: Further values of each entry.
    """

    def __init__(self, path: Path, batch: Any, before: int, marks: Mapping[str, Any]) -> None:
        super().__init__()
        self._path, self._batch, self._before, self._marks = path, batch, before, dict(marks)
        self.entries: list[dict[str, Any]] = read_lines(path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the model as it is evaluated, and write the file anew."""
        if self._batch is None:
            return
        number = self._before + epoch + 1
        norms = gradient_norms(self.model, self._batch)
        spread = weight_spread(self.model)
        layers = [entry | {"gradient_norm": norms.get(entry["name"])} for entry in spread]
        known = [norm for norm in norms.values() if norm is not None]
        whole = math.sqrt(sum(norm**2 for norm in known)) if len(known) == len(norms) else None
        entry = {
            "epoch": number,
            **self._marks,
            "gradient_norm": whole,
            "layers": layers,
            "dead": dead_shares(self.model, self._batch[0]),
        }
        self.entries = [*(one for one in self.entries if one["epoch"] < number), entry]
        write_lines(self._path, self.entries)


def gradient_norms(model: Any, batch: Any) -> dict[str, float | None]:
    """Return layer -> Euclidean norm of the loss's gradient on `batch`; None where it is not finite.

    Args:
        model: A compiled model.
        batch: `(columns, labels[, weights])`.
    """
    columns, labels, *weights = batch
    with tf.GradientTape() as tape:
        loss = model.compute_loss(
            x=columns, y=labels, y_pred=model(columns, training=False),
            sample_weight=weights[0] if weights else None, training=False,
        )  # fmt: skip
    owners = [(layer.name, weight) for layer in model.layers for weight in layer.trainable_weights]
    gradients = tape.gradient(loss, [weight.value for _, weight in owners])
    squares: dict[str, float] = {}
    for (name, _), gradient in zip(owners, gradients, strict=True):
        if gradient is not None:
            values = tf.convert_to_tensor(gradient).numpy().astype(np.float64)
            squares[name] = squares.get(name, 0.0) + float(np.square(values).sum())
    return {name: math.sqrt(square) if math.isfinite(square) else None for name, square in squares.items()}


def weight_spread(model: Any) -> list[dict[str, Any]]:
    """Return `{name, weights, mean, std, min, max, histogram}` of each layer that has weights.

    `histogram` counts weights in 16 equal ranges between `min` and `max`. Numbers are None where a weight is
    not finite.
    """
    found = []
    for layer in model.layers:
        if not layer.weights:
            continue
        values = np.concatenate([np.ravel(weight.numpy()) for weight in layer.weights]).astype(np.float64)
        entry: dict[str, Any] = {"name": layer.name, "weights": int(values.size)}
        if np.isfinite(values).all():
            low, high = float(values.min()), float(values.max())
            entry |= {"mean": float(values.mean()), "std": float(values.std()), "min": low, "max": high}
            bounds = (low, high) if low < high else (low - 0.5, high + 0.5)
            entry["histogram"] = np.histogram(values, _BINS, bounds)[0].tolist()
        else:
            entry |= dict.fromkeys(("mean", "std", "min", "max", "histogram"))
        found.append(entry)
    return found


def dead_shares(model: Any, columns: Mapping[str, Any]) -> dict[str, float]:
    """Return ReLU layer -> share of its units that answer 0 on all rows.

    A unit is a place of the last axis. Layers inside other models are left out.
    """
    names = [layer.name for layer in model.layers if _is_relu(layer)]
    if not names:
        return {}
    outputs = layer_outputs(model, names)(columns)
    return {
        name: float(np.mean(np.all(values.reshape(-1, values.shape[-1]) <= 0, axis=0)))
        for name, values in outputs.items()
    }


def layer_outputs(model: Any, names: list[str]) -> Any:
    """Return a function from columns to layer -> output as an array, of a functional model."""
    layers = [model.get_layer(name) for name in names]
    inner = keras.Model(model.input, [layer.output for layer in layers])

    def answer(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = inner(dict(columns), training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return {name: np.asarray(value) for name, value in zip(names, outputs, strict=True)}

    return answer


def _is_relu(layer: Any) -> bool:
    if isinstance(layer, keras.layers.ReLU):
        return True
    return getattr(getattr(layer, "activation", None), "__name__", "") in ("relu", "relu6")
