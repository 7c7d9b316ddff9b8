"""Several workers: what Keras needs to fit one model in several processes."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["let_workers_fit"]


def let_workers_fit(model: Any, dataset: Any) -> None:
    """Mend two places where Keras 3.15 fails under `tf.distribute.MultiWorkerMirroredStrategy`.

    It builds metrics and optimizer from the mean of all workers' first batches, which TensorFlow refuses
    for columns by name; and it averages the logs of a step over an axis that they do not have. Here they
    are built from a batch of this worker's own, and a step returns this worker's logs: those of an epoch
    are summed over workers by the metrics themselves.

    Args:
        model: A compiled model; changed in place. Other strategies are left alone.
        dataset: What it is fitted to.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    batch = next(iter(dataset))

    def build(iterator: Any = None, data_batch: Any = None) -> None:
        with strategy.scope():
            model._symbolic_build(data_batch=batch)

    def make_function(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @tf.function(reduce_retracing=True)
        def one_step(data: Any) -> Any:
            logs = strategy.run(step, args=(data,))
            return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

        return lambda iterator: one_step(next(iterator))

    model._maybe_symbolic_build = build
    model._make_function = make_function
