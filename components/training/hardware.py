"""Where training runs: devices, distribution strategy and precision."""

import contextlib
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .config import TrainingConfig

__all__ = ["Hardware", "prepare"]


@dataclass(frozen=True)
class Hardware:
    """What was found and chosen.

    Attributes:
        device: `gpu` or `cpu`.
        strategy: A `tf.distribute.MirroredStrategy`, or None.
        replicas: Copies of the model that train together, >= 1.
        precision: Keras dtype policy: `float32` or `mixed_float16`.
    """

    device: str
    strategy: Any
    replicas: int
    precision: str

    @property
    def strategy_name(self) -> str:
        """`mirrored` or `none`."""
        return "none" if self.strategy is None else "mirrored"

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model must be built and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()


def prepare(training: TrainingConfig) -> Hardware:
    """Find devices, let GPU memory grow, and choose strategy and precision.

    Args:
        training: `strategy` and `mixed_precision` decide; `auto` goes by the GPUs present.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Without it TensorFlow takes all memory of the GPU at once. Fails once it is in use.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    mixed = training.mixed_precision == "on" or (training.mixed_precision == "auto" and bool(gpus))
    mirrored = training.strategy == "mirrored" or (training.strategy == "auto" and len(gpus) > 1)
    strategy = None
    if mirrored:
        kind = "GPU" if gpus else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        strategy = tf.distribute.MirroredStrategy(devices)
    return Hardware(
        device="gpu" if gpus else "cpu",
        strategy=strategy,
        replicas=1 if strategy is None else strategy.num_replicas_in_sync,
        precision="mixed_float16" if mixed else "float32",
    )
