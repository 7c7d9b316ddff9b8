"""The `training` section: how the model is fitted."""

from typing import Annotated, Literal

from pydantic import Field

from headrace.data.section import Section

__all__ = ["EarlyStopping", "ReduceOnPlateau", "TrainingConfig"]


class EarlyStopping(Section):
    """Stop when the monitored metric no longer improves.

    Attributes:
        monitor: Keras log name, such as `val_loss`; `auto` takes the task's main metric on eval
            (`val_auc` for binary, `val_accuracy` for multiclass, `val_loss` for regression).
        patience: Epochs without improvement before stopping, >= 0.
        min_delta: Smallest change that counts, >= 0.
    """

    monitor: str = "auto"
    patience: Annotated[int, Field(ge=0)] = 2
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class ReduceOnPlateau(Section):
    """Multiply the learning rate by `factor` after `patience` epochs without improvement."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=0)] = 1
    min_learning_rate: Annotated[float, Field(ge=0)] = 1e-6


class TrainingConfig(Section):
    """Optimizer, schedule, callbacks and hardware.

    Attributes:
        epochs: Most passes over the training split, >= 1.
        batch_size: Rows a step, over all replicas, >= 1.
        optimizer: Keras optimizer.
        learning_rate: First learning rate, > 0.
        weight_decay: Decoupled weight decay (AdamW, SGD), >= 0.
        momentum: For SGD, in [0, 1).
        clip_norm: Clip the global gradient norm at this value; None: no clipping.
        class_weights: `none`, `balanced` (inverse frequency), or label -> weight.
        early_stopping: None switches it off.
        reduce_on_plateau: None switches it off.
        tensorboard: Write TensorBoard logs beside the model.
        backup: Save state every epoch so that a killed training goes on (BackupAndRestore).
        strategy: `mirrored` over all GPUs (or logical CPUs), `none`, or `auto`: mirrored where
            more than one GPU is present.
        mixed_precision: `auto` uses mixed_float16 where a GPU is present.
        shuffle_buffer: Rows of the in-memory shuffle on top of ingest's global one, >= 1.
        cache: Keep parsed training batches in memory after the first epoch.
    """

    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 512
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]] = "none"
    early_stopping: EarlyStopping | None = EarlyStopping()
    reduce_on_plateau: ReduceOnPlateau | None = ReduceOnPlateau()
    tensorboard: bool = True
    backup: bool = True
    strategy: Literal["auto", "none", "mirrored"] = "auto"
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    shuffle_buffer: Annotated[int, Field(ge=1)] = 100_000
    cache: bool = True
