"""The `training` section: how the model is fitted."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headrace.data.section import MAY_HOLD_SECRET, Section

__all__ = [
    "Augment",
    "AugmentImages",
    "AugmentSeries",
    "AugmentTabular",
    "AugmentText",
    "EarlyStopping",
    "Loss",
    "ReduceOnPlateau",
    "Schedule",
    "Target",
    "TrainingConfig",
    "UserCallback",
]

ImportPath = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
Share = Annotated[float, Field(ge=0, lt=1)]


def _refuse_strangers(section: Section, owners: dict[str, tuple[str, ...]], kind: str) -> None:
    """Refuse an option that belongs to other kinds."""
    for name, kinds in owners.items():
        if getattr(section, name) not in (None, 0.0, {}) and kind not in kinds:
            raise ValueError(f"`{name}` goes with `kind: {' or '.join(kinds)}`. Received: kind {kind}")


class EarlyStopping(Section):
    """Stop when the monitored metric no longer improves.

    Attributes:
        monitor: Keras log name, such as `val_loss`; `auto` takes the task's main metric on eval
            (`val_auc` for binary and multilabel, `val_accuracy` for multiclass, `val_loss` for regression).
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


class Schedule(Section):
    """The learning rate as a function of time, in whole or part epochs.

    Attributes:
        kind: `constant`; `step` (times `factor` every `every_epochs`); `exponential` (the same, smoothly);
            `cosine` (half a cosine from the learning rate down to `floor` of it, `cycles` times).
        warmup_epochs: Rise linearly from 0 to the learning rate over this long first, >= 0.
        every_epochs: For `step` and `exponential`, > 0; 1 if left open.
        factor: For `step` and `exponential`, in (0, 1); 0.5 if left open.
        cycles: For `cosine`: how often it starts again at the full rate, in equal parts of the epochs,
            >= 1; 1 if left open.
        floor: For `cosine`: share of the learning rate at the end of a cycle, in [0, 1); 0 if left open.
    """

    kind: Literal["constant", "step", "exponential", "cosine"] = "constant"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    every_epochs: Annotated[float, Field(gt=0)] | None = None
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    cycles: Annotated[int, Field(ge=1)] | None = None
    floor: Share | None = None

    @model_validator(mode="after")
    def _options_belong(self) -> "Schedule":
        steps, waves = ("step", "exponential"), ("cosine",)
        _refuse_strangers(
            self, {"every_epochs": steps, "factor": steps, "cycles": waves, "floor": waves}, self.kind
        )
        return self


class Loss(Section):
    """What training makes small.

    Attributes:
        kind: `auto` is cross_entropy for classes and mse for numbers. For classes: `cross_entropy`,
            `focal`, `hinge`. For numbers, on the scaled target: `mse`, `mae`, `huber`, `quantile`; `msle`
            in the label's own units (> -1). `custom`: a function of your own.
        label_smoothing: For cross_entropy: share of each label spread over all classes, in [0, 1).
        gamma: For focal: how much less rows count that are right already, >= 0; 2 if left open.
        alpha: For focal, not for multiclass: weight of positives, in (0, 1), negatives weigh 1 - alpha;
            if left open both weigh 1.
        delta: For huber: error from which it grows linearly, on the scaled target, > 0; 1 if left open.
        quantile: For quantile: the share of labels that should lie below the prediction, in (0, 1).
        use: For custom: "module:function" of `(labels [rows, n], outputs [rows, n]) -> losses [rows]`, of
            TensorFlow operations; outputs are logits or the scaled number.
        options: For custom: further arguments by name.
    """

    kind: Literal[
        "auto", "cross_entropy", "focal", "hinge", "mse", "mae", "huber", "quantile", "msle", "custom"
    ] = "auto"
    label_smoothing: Share = 0.0
    gamma: Annotated[float, Field(ge=0)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    delta: Annotated[float, Field(gt=0)] | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    use: ImportPath | None = None
    options: Annotated[dict[str, object], MAY_HOLD_SECRET] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_belong(self) -> "Loss":
        owners = {
            "label_smoothing": ("auto", "cross_entropy"),
            "gamma": ("focal",),
            "alpha": ("focal",),
            "delta": ("huber",),
            "quantile": ("quantile",),
            "use": ("custom",),
            "options": ("custom",),
        }
        _refuse_strangers(self, owners, self.kind)
        for needed, kind in (("quantile", "quantile"), ("use", "custom")):
            if self.kind == kind and getattr(self, needed) is None:
                raise ValueError(f"`kind: {kind}` needs `{needed}`")
        return self


class Target(Section):
    """How the label of a regression is scaled for training; served predictions are in its own units.

    Attributes:
        log: Train on log(1 + label), for labels > -1 whose size varies over orders of magnitude. Answers then
            reach about e times the largest label of the training split, and no more.
        scale: `zscore` (mean 0, standard deviation 1 on the training split, after the log) or `none`.
    """

    log: bool = False
    scale: Literal["zscore", "none"] = "zscore"


class AugmentImages(Section):
    """Change pictures at random, each drawn anew in every epoch; values stay in the batch's range.

    Attributes:
        flip: Mirror half of the pictures.
        rotate: Most degrees, either way, in [0, 180].
        shift: Most share of height and width, either way, in [0, 1).
        shear: Most degrees, either way, in [0, 60].
        zoom: Most share that pictures grow or shrink by, in [0, 1).
        crop: Cut out a random part with sides of at least 1 - crop, and enlarge it to full size; in [0, 1).
        brightness: Most share of the range of values added or taken away, in [0, 1).
        contrast: Most share that differences from a picture's mean grow or shrink by, in [0, 1).
        noise: Standard deviation of noise, as a share of the range of values, in [0, 1).
        fill: What is outside the picture: its nearest pixel, its mirror image or 0.
    """

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    zoom: Share = 0.0
    crop: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0
    fill: Literal["nearest", "reflect", "zero"] = "nearest"


class AugmentText(Section):
    """Change texts at random.

    Attributes:
        drop: Chance that a token is left out, in [0, 1); a text never loses all.
        swap: Chance that a pair of neighbours changes places, in [0, 1).
    """

    drop: Share = 0.0
    swap: Share = 0.0


class AugmentTabular(Section):
    """Change numbers at random.

    Attributes:
        noise: Standard deviation of noise on dense inputs, after scaling; missing indicators stay.
    """

    noise: Annotated[float, Field(ge=0)] = 0.0


class AugmentSeries(Section):
    """Change series at random, within their length.

    Attributes:
        jitter: Standard deviation of noise on each step, after scaling, >= 0.
        scale: Standard deviation of the factor, around 1, of each row and channel, >= 0.
        shift: Most steps that a series moves, either way, >= 0; its ends are repeated.
    """

    jitter: Annotated[float, Field(ge=0)] = 0.0
    scale: Annotated[float, Field(ge=0)] = 0.0
    shift: Annotated[int, Field(ge=0)] = 0


class Augment(Section):
    """Random changes of training batches; eval and test rows stay as they are.

    Attributes:
        mixup: Mix each row with another one of its batch, labels too; the share is drawn from
            Beta(mixup, mixup). Categories and tokens are those of the larger share. 0 is off.
    """

    image: AugmentImages = AugmentImages()
    text: AugmentText = AugmentText()
    tabular: AugmentTabular = AugmentTabular()
    series: AugmentSeries = AugmentSeries()
    mixup: Annotated[float, Field(ge=0)] = 0.0


class UserCallback(Section):
    """A Keras callback of your own.

    Attributes:
        use: "module:Class"; for instance `keras.callbacks:TerminateOnNaN`.
        options: Arguments by name.
    """

    use: ImportPath
    options: Annotated[dict[str, object], MAY_HOLD_SECRET] = Field(default_factory=dict)


class TrainingConfig(Section):
    """Loss, optimizer, schedule, regularisation, callbacks and hardware.

    Attributes:
        epochs: Most passes over the training split, >= 1.
        batch_size: Rows a step, over all replicas, >= 1.
        optimizer: Keras optimizer.
        learning_rate: First learning rate, > 0.
        weight_decay: Decoupled weight decay, >= 0.
        momentum: For sgd and rmsprop, in [0, 1).
        nesterov: For sgd with momentum: look ahead by it.
        clip_norm: Clip the global gradient norm at this value; None: no clipping. At most one of the three.
        clip_each_norm: Clip the norm of each weight's gradient at this value.
        clip_value: Clip each number of the gradient at this size.
        accumulate_steps: Add up gradients of this many steps before the weights change, >= 1.
        ema_momentum: Evaluate, keep and export an exponential moving average of the weights with this
            momentum, in (0, 1), such as 0.99; None: the weights themselves.
        loss: What training makes small.
        target: How the label of a regression is scaled.
        schedule: Learning rate over time; None keeps it, but for `reduce_on_plateau`.
        lr_finder: Try a range of learning rates on a copy first, and tell the best one; it is not used.
        class_weights: `none`, `balanced` (inverse frequency), or label -> weight. Multilabel: weights of
            the rows that have a label, against 1 (balanced: against those that have it not).
        sampling: Rows of rare classes are drawn as often as those of the most frequent one (`over`), the
            other way round (`under`), or joined by rows between two neighbours of the class (`smote`,
            numbers are mixed, categories copied). Not for multilabel and regression.
        smote_neighbours: For smote: neighbours to choose from, >= 1.
        augment: Random changes of training batches; None: none.
        early_stopping: None switches it off.
        reduce_on_plateau: None switches it off. Not together with `schedule`.
        callbacks: Callbacks of your own, in order.
        tensorboard: Write TensorBoard logs beside the model.
        tensorboard_histograms: Add histograms of weights to them, every epoch.
        monitoring: Keep norms of gradients, spread of weights and dead units of every epoch.
        backup: Save state every epoch so that a killed training goes on (BackupAndRestore).
        strategy: `mirrored` over all GPUs (or logical CPUs), `multi_worker` over the processes that
            TF_CONFIG names (`kubeflow.workers.trainer` starts them), `none`, or `auto`: the workers where
            there are several, else mirrored where more than one GPU is present.
        mixed_precision: `auto` uses mixed_float16 where a GPU is present.
        xla: Compile training steps with XLA.
        shuffle_buffer: Rows of the in-memory shuffle on top of ingest's global one, >= 1; fewer where they
            would need more than 1 GiB.
        cache: Keep parsed training batches in memory after the first epoch.
    """

    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 512
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad", "lion"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    clip_each_norm: Annotated[float, Field(gt=0)] | None = None
    clip_value: Annotated[float, Field(gt=0)] | None = None
    accumulate_steps: Annotated[int, Field(ge=1)] = 1
    ema_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    loss: Loss = Loss()
    target: Target = Target()
    schedule: Schedule | None = None
    lr_finder: bool = False
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]] = "none"
    sampling: Literal["none", "over", "under", "smote"] = "none"
    smote_neighbours: Annotated[int, Field(ge=1)] = 5
    augment: Augment | None = None
    early_stopping: EarlyStopping | None = EarlyStopping()
    reduce_on_plateau: ReduceOnPlateau | None = ReduceOnPlateau()
    callbacks: tuple[UserCallback, ...] = ()
    tensorboard: bool = True
    tensorboard_histograms: bool = False
    monitoring: bool = True
    backup: bool = True
    strategy: Literal["auto", "none", "mirrored", "multi_worker"] = "auto"
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    xla: bool = False
    shuffle_buffer: Annotated[int, Field(ge=1)] = 100_000
    cache: bool = True

    @model_validator(mode="before")
    @classmethod
    def _schedule_replaces_plateau(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("schedule") and "reduce_on_plateau" not in data:
            return {**data, "reduce_on_plateau": None}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if self.schedule is not None and self.reduce_on_plateau is not None:
            raise ValueError(
                "give at most one of `schedule` and `reduce_on_plateau`: both would set the learning rate"
            )
        clips = [name for name in ("clip_norm", "clip_each_norm", "clip_value") if getattr(self, name)]
        if len(clips) > 1:
            raise ValueError(
                "give at most one of `clip_norm`, `clip_each_norm` and `clip_value`. "
                f"Received: {', '.join(clips)}"
            )
        if self.class_weights == "balanced" and self.sampling != "none":
            raise ValueError(
                f"leave `class_weights: balanced` out: `sampling: {self.sampling}` balances classes already"
            )
        if self.tensorboard_histograms and not self.tensorboard:
            raise ValueError("`tensorboard_histograms: true` needs `tensorboard: true`")
        return self
