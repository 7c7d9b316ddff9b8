"""Callbacks of a fit: those of Keras, a log of epochs that outlives the process, and live progress."""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from headrace.components.imported import load_object
from headrace.data.config import Task
from headrace.data.errors import ConfigError

from .averaging import AveragedWeights
from .config import TrainingConfig
from .lines import read_lines, write_lines
from .optimizers import PlannedSchedule, plain_optimizer
from .resume import RestOfState
from .settings import Monitor, resolve_monitor

__all__ = ["EpochLog", "Progress", "RunFolders", "epoch_rate", "make_callbacks", "own_callbacks", "write_csv"]

_WHOLE_FROM = 1000  # losses and metrics in the label's unit need no decimals from here on
_EVENTS_INTERVAL_S = 0.5


@dataclass(frozen=True)
class RunFolders:
    """Where a fit writes.

    Attributes:
        state: Folder that a killed fit goes on from: backup, best weights, epochs so far.
        logs: TensorBoard folder.
        csv: File of all epochs, one a line.
    """

    state: Path
    logs: Path
    csv: Path

    @property
    def best_weights(self) -> Path:
        """Weights of the best epoch so far."""
        return self.state / "best.weights.h5"

    @property
    def backup(self) -> Path:
        """Folder of BackupAndRestore."""
        return self.state / "backup"

    @property
    def epochs(self) -> Path:
        """Log of epochs so far."""
        return self.state / "epochs.jsonl"

    @property
    def monitoring(self) -> Path:
        """What was monitored so far."""
        return self.state / "monitoring.jsonl"

    def of_part(self, part: int) -> "RunFolders":
        """Return the folders of one of several parts that are fitted one after another."""
        name = f"part-{part}"
        return RunFolders(self.state / name, self.logs / name, self.csv)

    def of_phase(self, name: str) -> "RunFolders":
        """Return the folders of a phase: backup and TensorBoard logs of its own."""
        return _PhaseFolders(self.state, self.logs / name, self.csv, name)


@dataclass(frozen=True)
class _PhaseFolders(RunFolders):
    phase: str = ""

    @property
    def backup(self) -> Path:
        """Folder of BackupAndRestore."""
        return self.state / f"backup-{self.phase}"


_COUNTING = (keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau)
"""Those that count epochs, the user's own ones too."""


def make_callbacks(
    training: TrainingConfig,
    monitor: Monitor,
    folders: RunFolders,
    log: "EpochLog",
    progress: "Progress",
    dataset: Any,
    extra: Sequence[keras.callbacks.Callback] = (),
) -> list[keras.callbacks.Callback]:
    """Return the callbacks in the order that averaged weights and resuming need.

    Those before `AveragedWeights` see the weights that are judged, those after it the weights that training
    goes on with. The backup comes after the checkpoint and the log, so that an epoch it counts as done is in
    both.

    Args:
        training: Which callbacks, and their settings.
        monitor: Log name and direction that decide which epoch is best.
        folders: Where they write.
        log: The log of epochs.
        progress: The live progress.
        dataset: The training batches.
        extra: Further ones that look at the weights that are judged.

    Raises:
        ConfigError: If one of the user's own callbacks cannot be made.
    """
    name, mode = monitor
    found: list[keras.callbacks.Callback] = [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.ModelCheckpoint(
            str(folders.best_weights),
            monitor=name,
            mode=mode,
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=log.best_value,
        ),
    ]
    found += _patient_callbacks(training, monitor)
    if training.tensorboard:
        histograms = int(training.tensorboard_histograms)
        found.append(
            keras.callbacks.TensorBoard(str(folders.logs), histogram_freq=histograms, write_graph=False)
        )
    found += [*extra, *own_callbacks(training)]
    if training.ema_momentum is not None:
        found.append(AveragedWeights())
    found.append(log)
    if training.backup:
        counting = [one for one in found if isinstance(one, _COUNTING)]
        found.append(RestOfState(Path(f"{folders.backup}.json"), dataset, counting))
        found.append(
            keras.callbacks.BackupAndRestore(
                str(folders.backup), delete_checkpoint=False, double_checkpoint=True
            )
        )
    found.append(progress)
    return found


def _patient_callbacks(training: TrainingConfig, monitor: Monitor) -> list[keras.callbacks.Callback]:
    """Return those that count epochs without an improvement."""
    name, mode = monitor
    found: list[keras.callbacks.Callback] = []
    if training.reduce_on_plateau is not None:
        plateau = training.reduce_on_plateau
        found.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=name,
                mode=mode,
                factor=plateau.factor,
                patience=plateau.patience,
                min_lr=plateau.min_learning_rate,
            )
        )
    if training.early_stopping is not None:
        found.append(
            keras.callbacks.EarlyStopping(
                monitor=name,
                mode=mode,
                patience=training.early_stopping.patience,
                min_delta=training.early_stopping.min_delta,
            )
        )
    return found


def own_callbacks(training: TrainingConfig, task: Task | None = None) -> list[keras.callbacks.Callback]:
    """Make the callbacks of `training.callbacks`.

    Args:
        training: The `training` section.
        task: What is predicted, to check that they monitor what is logged; None checks nothing.

    Raises:
        ConfigError: If one cannot be imported or made, or monitors what training does not log.
    """
    found = []
    for number, entry in enumerate(training.callbacks):
        place = f"training.callbacks.{number}"
        kind = load_object(entry.use, f"{place}.use", "class")
        try:
            made = kind(**entry.options)
        except Exception as error:  # whatever the user's code raises is the user's to know
            raise ConfigError(
                f"`{place}.options` must be arguments of {entry.use}. Received: "
                f"{', '.join(entry.options) or 'none'} ({type(error).__name__}: {error})"
            ) from error
        if not isinstance(made, keras.callbacks.Callback):
            raise ConfigError(
                f"`{place}.use` must name a subclass of keras.callbacks.Callback. Received: {entry.use}"
            )
        monitored = getattr(made, "monitor", None)
        if task is not None and isinstance(monitored, str) and monitored != "learning_rate":
            resolve_monitor(monitored, task, f"{place}.options.monitor")
        found.append(made)
    return found


def epoch_rate(model: Any) -> float:
    """Return the learning rate that the last step of a compiled model had."""
    optimizer = plain_optimizer(model)
    rate = optimizer._learning_rate
    if isinstance(rate, PlannedSchedule):
        rate = rate(max(int(keras.ops.convert_to_numpy(optimizer._iterations)) - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))


def write_csv(path: Path, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Write epochs as delimited text: what tells them apart, seconds, then every log."""
    marks = list(dict.fromkeys(name for entry in epochs for name in entry if name != "logs"))
    logs = list(dict.fromkeys(name for entry in epochs for name in entry["logs"]))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*marks, *logs])
        writer.writeheader()
        for entry in epochs:
            writer.writerow({name: entry.get(name) for name in marks} | entry["logs"])


class EpochLog(keras.callbacks.Callback):
    """Keeps `{epoch, seconds, logs}` of every epoch in a file of JSON lines, across phases and restarts.

    Args:
        path: The file; what an earlier try left there is read.
        monitor: Log name and direction that decide which epoch is best.
    """

    def __init__(self, path: Path, monitor: Monitor) -> None:
        super().__init__()
        self._path, self._monitor = path, monitor
        self._started = 0.0
        self._before = 0
        self._marks: dict[str, Any] = {}
        self.epochs: list[dict[str, Any]] = read_lines(path)

    def start(self, before: int, marks: Mapping[str, Any]) -> None:
        """Tell which phase comes next.

        Args:
            before: Epochs of the phases before it.
            marks: Further values of its entries.
        """
        self._before, self._marks = before, dict(marks)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far, the earliest of equals; None before the first with a finite value."""
        name, mode = self._monitor
        known = [entry for entry in self.epochs if entry["logs"].get(name) is not None]
        if not known:
            return None
        sign = 1 if mode == "min" else -1
        return min(known, key=lambda entry: sign * entry["logs"][name])

    @property
    def best_value(self) -> float | None:
        """The monitored value of the best epoch so far."""
        best = self.best
        return None if best is None else float(best["logs"][self._monitor[0]])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Forget what is about to be done again: the backup may lag one epoch behind."""
        self.epochs = [entry for entry in self.epochs if entry["epoch"] <= self._before + epoch]
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the epoch (counted from 1) and write the file anew."""
        values = {name: _finite(value) for name, value in (logs or {}).items()}
        values.setdefault("learning_rate", epoch_rate(self.model))
        seconds = round(time.monotonic() - self._started, 3)
        number = self._before + epoch + 1
        self.epochs.append({"epoch": number, **self._marks, "seconds": seconds, "logs": values})
        write_lines(self._path, self.epochs)


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if abs(number) < float("inf") else None  # false for NaN too


@dataclass
class _Pace:
    """When the first step had ended (it is slow: graphs are built), and the steps done since."""

    started: float | None = None
    steps: int = 0
    last_event: float = field(default=float("-inf"))


class Progress(keras.callbacks.Callback):
    """Sends `epoch` events with loss, metrics and the time left, at most twice a second.

    Args:
        epochs: Epochs of the fit.
        steps: Steps of an epoch, or None where that is not known before the first has ended.
        send: Receives the event's values; `headrace.components.node.emit` with the kind filled in.
        clock: Seconds, for tests.
        before: Epochs of the parts and phases before this one.
        label: What this one is called, where there are several.
    """

    def __init__(
        self,
        epochs: int,
        steps: int | None,
        send: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
        before: int = 0,
        label: str = "",
    ) -> None:
        super().__init__()
        self._before, self._label = before, label
        self._epochs, self._steps, self._send, self._clock = epochs, steps, send, clock
        self._pace = _Pace()
        self._epoch = 0
        self._step = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the pace of an earlier fit."""
        self._pace = _Pace()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count steps from 0 again."""
        self._epoch, self._step = self._before + epoch, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Send an event if half a second has passed."""
        now = self._clock()
        if self._pace.started is None:
            self._pace.started = now
        else:
            self._pace.steps += batch + 1 - self._step
        self._step = batch + 1
        if now - self._pace.last_event >= _EVENTS_INTERVAL_S:
            self._pace.last_event = now
            self._event(self._epoch, logs or {}, now)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Send the epoch's own event; these always go out."""
        self._steps = self._step or self._steps
        now = self._clock()
        self._pace.last_event = now
        self._event(self._before + epoch + 1, logs or {}, now)

    def _event(self, done: int, logs: dict[str, Any], now: float) -> None:
        values = {name: _finite(value) for name, value in logs.items()}
        shown = [
            f"{name} {value:.4f}" if abs(value) < _WHOLE_FROM else f"{name} {value:,.0f}"
            for name, value in values.items()
            if value is not None and name != "learning_rate"
        ]
        eta = self._eta(now)
        place = f"epoch {min(self._epoch + 1, self._epochs)}/{self._epochs}"
        text = "  ".join(part for part in (place, self._label, " ".join(shown)) if part)
        self._send(
            done=done,
            total=self._epochs,
            step=self._step,
            steps=self._steps,
            eta_s=eta,
            logs=values,
            text=text if eta is None else f"{text}  {eta:.0f} s left",
        )

    def _eta(self, now: float) -> float | None:
        """Return the seconds left at the pace so far, or None while that cannot be told."""
        if not self._steps or not self._pace.steps or self._pace.started is None:
            return None
        left = (self._epochs - self._epoch) * self._steps - self._step
        return round(max(left, 0) * (now - self._pace.started) / self._pace.steps, 1)
