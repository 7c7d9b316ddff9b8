"""Where training runs: devices, distribution strategy and precision."""

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from headrace.data.errors import ConfigError

from .callbacks import RunFolders
from .config import TrainingConfig

__all__ = ["Hardware", "prepare"]


@dataclass(frozen=True)
class Hardware:
    """What was found and chosen.

    Attributes:
        device: `gpu` or `cpu`.
        strategy: A `tf.distribute` strategy, or None.
        replicas: Copies of the model that train together, >= 1.
        precision: Keras dtype policy: `float32` or `mixed_float16`.
    """

    device: str
    strategy: Any
    replicas: int
    precision: str

    @property
    def strategy_name(self) -> str:
        """`mirrored`, `multi_worker` or `none`."""
        if self.strategy is None:
            return "none"
        return "multi_worker" if _is_multi_worker(self.strategy) else "mirrored"

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what several workers have trained together; so it does alone."""
        if self.strategy is None or not _is_multi_worker(self.strategy):
            return True
        resolver = self.strategy.cluster_resolver
        kind, number = resolver.task_type, resolver.task_id
        has_chief = "chief" in resolver.cluster_spec().jobs
        return kind in (None, "chief") or (kind == "worker" and number == 0 and not has_chief)

    def own_folders(self, folders: RunFolders) -> RunFolders:
        """Return where this process writes: workers beside the chief keep to folders of their own."""
        if self.is_chief:
            return folders
        resolver = self.strategy.cluster_resolver
        name = f"{resolver.task_type}-{resolver.task_id}"
        state = folders.state.with_name(f"{folders.state.name}-{name}")
        return RunFolders(state, state / "logs", state / "history.csv")

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model must be built and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()


def prepare(training: TrainingConfig) -> Hardware:
    """Find devices, let GPU memory grow, and choose strategy and precision.

    Args:
        training: `strategy` and `mixed_precision` decide; `auto` goes by the workers that TF_CONFIG names,
            then by the GPUs present.

    Raises:
        ConfigError: If there are to be several workers and TF_CONFIG names none.
    """
    if training.strategy == "multi_worker" and "TF_CONFIG" not in os.environ:
        raise ConfigError(
            "`training.strategy: multi_worker` needs the variable TF_CONFIG, which names all workers. "
            "Received: none"
        )
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Without it TensorFlow takes all memory of the GPU at once. Fails once it is in use.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    mixed = training.mixed_precision == "on" or (training.mixed_precision == "auto" and bool(gpus))
    mirrored = training.strategy == "mirrored" or (training.strategy == "auto" and len(gpus) > 1)
    strategy = None
    if training.strategy == "multi_worker" or (training.strategy == "auto" and _named_workers() > 1):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif mirrored:
        kind = "GPU" if gpus else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        strategy = tf.distribute.MirroredStrategy(devices)
    return Hardware(
        device="gpu" if gpus else "cpu",
        strategy=strategy,
        replicas=1 if strategy is None else strategy.num_replicas_in_sync,
        precision="mixed_float16" if mixed else "float32",
    )


def _named_workers() -> int:
    """Return how many workers TF_CONFIG names."""
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))


def _is_multi_worker(strategy: Any) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
