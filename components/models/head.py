"""The end of every family: dense layers, then the logits in float32."""

from typing import Any

from keras import layers

from .config import FamilyConfig
from .inputs import penalty
from .output import Output

__all__ = ["BATCH_MOMENTUM", "hidden_layers", "logits"]

BATCH_MOMENTUM = 0.9
"""How much of its running statistics a batch norm keeps each step. Keras' 0.99 forgets the start only after
hundreds of steps, so that the first epochs over small data would be judged by statistics of nothing."""


def hidden_layers(x: Any, config: FamilyConfig, *, batch_norm: bool = False) -> Any:
    """Apply the dense layers of `config.hidden`.

    Args:
        x: float `[rows, n]`.
        config: Gives `hidden`, `activation`, `dropout`, `l1` and `l2`.
        batch_norm: Normalise each layer's input over the batch.
    """
    for place, units in enumerate(config.hidden):
        if batch_norm:
            x = layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"norm_{place}")(x)
        x = layers.Dense(
            units,
            activation=config.activation,
            kernel_regularizer=penalty(config.l1, config.l2),
            name=f"dense_{place}",
        )(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"dropout_{place}")(x)
    return x


def logits(x: Any, config: FamilyConfig, output: Output, name: str = "logits") -> Any:
    """Return the logits, float32 `[rows, output.logits]`: float16 ones would round scores to three digits."""
    return layers.Dense(
        output.logits, kernel_regularizer=penalty(config.l1, config.l2), dtype="float32", name=name
    )(x)
