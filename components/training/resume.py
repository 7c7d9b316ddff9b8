"""What Keras's backup of a fit leaves out: random seeds, the order of rows, and what callbacks counted."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

__all__ = ["RestOfState", "random_state", "set_random_state"]

_COUNTED = ("wait", "best", "best_epoch", "cooldown_counter")


def random_state(model: Any) -> list[Any]:
    """Return the seeds of a model's random layers, such as dropout, as lists of numbers."""
    return [variable.numpy().tolist() for variable in _seeds(model)]


def set_random_state(model: Any, state: list[Any]) -> None:
    """Set the seeds that `random_state` returned."""
    for variable, value in zip(_seeds(model), state, strict=True):
        variable.assign(value)


def _seeds(model: Any) -> list[Any]:
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


class RestOfState(keras.callbacks.Callback):
    """Lets a killed fit end as an undisturbed one does, together with BackupAndRestore.

    Stands after the callbacks whose counts it keeps and before the backup, so that it knows every epoch
    which the backup counts as done.

    Args:
        path: File of the state; what an earlier try left there is read.
        dataset: The training batches. Each pass over them draws a new order, so passes already done are drawn
            again.
        counting: Callbacks that count epochs, such as EarlyStopping.
    """

    def __init__(self, path: Path, dataset: Any, counting: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self._path, self._dataset, self._counting = path, dataset, counting
        self._kept: dict[str, Any] = {}
        self._first = True
        if path.exists():
            self._kept = json.loads(path.read_text(encoding="utf-8"))

    def on_train_begin(self, logs: Any = None) -> None:
        """Await the first epoch: only then is it known how many were done."""
        self._first = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before the first epoch of this try, go back to where the epoch before it ended."""
        if not self._first:
            return
        self._first = False
        state = self._kept.get(str(epoch))
        if epoch == 0 or state is None:
            return
        # Keras begins a pass for every epoch, and one more at its end where it knows the number of steps.
        known = int(self._dataset.cardinality()) >= 0
        for _ in range(2 * epoch if known else epoch):
            iter(self._dataset)
        set_random_state(self.model, state["seeds"])
        for callback, counts in zip(self._counting, state["counts"], strict=True):
            for name, value in counts.items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the state of this epoch and the one before: the backup may lag one behind."""
        counts = [
            {name: _plain(vars(callback)[name]) for name in _COUNTED if name in vars(callback)}
            for callback in self._counting
        ]
        seeds = random_state(self.model)
        self._kept = {key: value for key, value in self._kept.items() if int(key) == epoch}
        self._kept[str(epoch + 1)] = {"seeds": seeds, "counts": counts}
        scratch = self._path.with_suffix(".part")
        scratch.write_text(json.dumps(self._kept), encoding="utf-8")
        os.replace(scratch, self._path)


def _plain(value: Any) -> Any:
    """Return a number as JSON takes it; metrics are float32 scalars of NumPy."""
    return value if value is None or isinstance(value, int) else float(value)
