"""Find a learning rate by trying them all: a short sweep of rising rates on a copy of the model."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from .input import Batches

__all__ = ["find_learning_rate", "suggest"]

_LOWEST, _HIGHEST = 1e-6, 10.0
_STEPS = 120
_SMOOTHING = 0.9
_TOO_MUCH = 4.0


def find_learning_rate(model: Any, train: Batches) -> dict[str, Any]:
    """Return `{learning_rates, losses, suggested}` of a sweep.

    The rate rises from step to step by a constant factor until the loss is four times its lowest (Smith,
    "Cyclical Learning Rates for Training Neural Networks", 2017). `losses` are smoothed; `suggested` is None
    where no rate made the loss fall.

    Args:
        model: A compiled model with a constant learning rate; it is spoiled.
        train: Batches of the training split, repeated as often as needed.
    """
    factor = (_HIGHEST / _LOWEST) ** (1 / (_STEPS - 1))
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step, batch in enumerate(train.dataset.repeat().take(_STEPS)):
        rate = _LOWEST * factor**step
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        try:
            loss = float(np.asarray(model.train_on_batch(*batch, return_dict=True)["loss"]))
        except tf.errors.InvalidArgumentError:  # metrics refuse scores that are NaN
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smooth = average / (1 - _SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > _TOO_MUCH * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    return {"learning_rates": rates, "losses": losses, "suggested": suggest(rates, losses)}


def suggest(rates: list[float], losses: list[float]) -> float | None:
    """Return the rate at which the loss falls fastest, on a logarithmic scale of rates, before its lowest.

    The fall is taken over a tenth of the rates either way, since single steps differ by their batches too.

    Args:
        rates: Rising by a constant factor.
        losses: Smoothed, one a rate.
    """
    reach = max(1, len(losses) // 10)
    lowest = int(np.argmin(losses)) if losses else 0
    if lowest < 2 * reach or losses[lowest] >= losses[0]:
        return None
    falls = [losses[place - reach] - losses[place + reach] for place in range(reach, lowest - reach + 1)]
    return float(f"{rates[reach + int(np.argmax(falls))]:.2g}")
