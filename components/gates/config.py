"""The `gates` section: bounds that decide whether anything is pushed."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headrace.data.config import Task
from headrace.data.section import Section

__all__ = ["TASK_METRICS", "CostGate", "GatesConfig", "QualityGate", "ServingGate", "VariantGate"]

Metric = Literal[
    "accuracy", "auc", "pr_auc", "precision", "recall", "f1", "macro_f1", "weighted_f1", "log_loss",
    "calibration_error", "top_k_accuracy", "cost",
    "subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1", "micro_auc",
    "micro_pr_auc",
    "rmse", "mae", "median_ae", "mape", "bias", "r2",
]  # fmt: skip

_CLASSES = (
    "accuracy", "auc", "pr_auc", "precision", "recall", "f1", "log_loss", "calibration_error", "cost"
)  # fmt: skip
_MEANS = ("macro_f1", "weighted_f1")

TASK_METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": _CLASSES,
    "multiclass": (*_CLASSES, *_MEANS, "top_k_accuracy"),
    "multilabel": (
        "auc", "pr_auc", "precision", "recall", "f1", *_MEANS, "log_loss", "calibration_error",
        "subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1", "micro_auc",
        "micro_pr_auc",
    ),
    "regression": ("rmse", "mae", "median_ae", "mape", "bias", "r2"),
}  # fmt: skip
"""What can be bounded, by task; `cost` needs `evaluation.costs`."""


class QualityGate(Section):
    """A bound on a metric of the float32 model and of every variant that would be pushed.

    Attributes:
        metric: Name of a metric.
        slice: Column -> value of the slice judged; empty: all test rows.
        every_slice: Judge every slice with at least `evaluation.min_slice_rows` rows instead.
        min: Smallest value that passes.
        max: Largest value that passes.
        max_drop: How much worse than the baseline (the model that is live, on the same rows) the
            value may be, >= 0; a negative number asks for an improvement.
    """

    metric: Metric
    slice: dict[str, str] = Field(default_factory=dict)
    every_slice: bool = False
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None

    @field_validator("slice", mode="before")
    @classmethod
    def _values_as_text(cls, value: object) -> object:
        # YAML reads `month: 1` as a number; slices are compared as text.
        return {key: str(item) for key, item in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_way(self) -> "QualityGate":
        if self.slice and self.every_slice:
            raise ValueError(f"give at most one of `slice` and `every_slice`. Received: slice {self.slice}")
        return self


class VariantGate(Section):
    """How far a variant may fall behind float32 on the same rows.

    Attributes:
        metric: Metric compared; `auto` takes `accuracy` for classifiers, `macro_f1` for multilabel and `r2`
            for regression.
        max_drop: Largest loss over all rows, in the metric's unit, >= 0.
        max_slice_drop: Largest loss on any slice with at least `evaluation.min_slice_rows` rows.
        max_flip_rate: Largest share of rows whose predicted class changes, or with multilabel of label
            decisions that change, in [0, 1]; not for regression.

    A bound set to null is reported as NO_THRESHOLD.
    """

    metric: Metric | Literal["auto"] = "auto"
    max_drop: Annotated[float, Field(ge=0)] | None = 0.005
    max_slice_drop: Annotated[float, Field(ge=0)] | None = 0.02
    max_flip_rate: Annotated[float, Field(ge=0, le=1)] | None = 0.02


class CostGate(Section):
    """Bounds on size and speed.

    Attributes:
        variant: Variant it holds for.
        max_size_bytes: Of all files of the variant.
        max_size_ratio: Size over the size of the same side's float32 (SavedModel: weight bytes
            over float32 parameter bytes; TF Lite: file over the float32 TF Lite file).
        max_p99_us_b1: 99th percentile latency of one row, microseconds.
        max_p99_us_b100: 99th percentile latency of a batch of 100 rows, microseconds.
        max_load_s: Seconds to load.
        max_rss_bytes: Peak resident memory of the process that serves it.
    """

    variant: str
    max_size_bytes: Annotated[int, Field(ge=0)] | None = None
    max_size_ratio: Annotated[float, Field(gt=0)] | None = None
    max_p99_us_b1: Annotated[float, Field(gt=0)] | None = None
    max_p99_us_b100: Annotated[float, Field(gt=0)] | None = None
    max_load_s: Annotated[float, Field(gt=0)] | None = None
    max_rss_bytes: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "CostGate":
        if not any(v is not None for k, v in self.__dict__.items() if k.startswith("max_")):
            raise ValueError(f"a cost gate must set at least one bound. Received: variant {self.variant}")
        return self


class ServingGate(Section):
    """The infra check: load as the C++ server does, answer golden requests, in process and over the network.

    Attributes:
        gate: Server that must answer them over REST and gRPC: the embedded one, or the real TensorFlow
            Serving (`tensorflow_model_server` on the PATH, or Docker with the image tensorflow/serving).
        timeout_s: Seconds for load and inferences, > 0.
        max_rss_bytes: Peak resident memory of the checking process.
        tolerance: Largest |a - b| / max(1, |a|) against the golden values of the exported model,
            of `float32` and `tflite_float32`. Every server's answers are held to it against those of the same
            variant in process.
        quantized_tolerance: Same for every variant below float32. None: their single answers are told and
            not bounded; the variant gates hold drop and flip rate over the whole test split.
        latency_s: Seconds of timing for each variant and batch size, > 0; more steadies the 99th percentile.
    """

    gate: Literal["embedded", "tensorflow_serving"] = "embedded"
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    max_rss_bytes: Annotated[int, Field(gt=0)] | None = 4_000_000_000
    tolerance: Annotated[float, Field(ge=0)] = 1e-5
    quantized_tolerance: Annotated[float, Field(ge=0)] | None = None
    latency_s: Annotated[float, Field(gt=0, le=60)] = 0.5


class GatesConfig(Section):
    """Every bound; what has none is reported as NO_THRESHOLD.

    Attributes:
        quality: Absolute bounds and bounds against the baseline.
        variant: Drop and flip rate against float32.
        cost: Size, latency, load time and memory.
        serving: The infra check.
        allow_unbounded: Whether a model whose quality has no bound may be pushed.
    """

    quality: tuple[QualityGate, ...] = ()
    variant: VariantGate = VariantGate()
    cost: tuple[CostGate, ...] = ()
    serving: ServingGate = ServingGate()
    allow_unbounded: bool = False
