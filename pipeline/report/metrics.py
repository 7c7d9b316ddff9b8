"""Which metrics the report shows of each task, the telling ones first."""

from collections.abc import Collection, Mapping

__all__ = ["LESS_IS_BETTER", "MAIN", "SHOWN", "SLICED", "first_present"]

MAIN: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "accuracy"),
    "multiclass": ("accuracy", "macro_f1"),
    "multilabel": ("macro_f1", "subset_accuracy"),
    "regression": ("rmse", "r2"),
}
"""Metrics of the cards and of the first columns."""

SHOWN: Mapping[str, tuple[str, ...]] = {
    "binary": (
        *MAIN["binary"], "cost", "pr_auc", "f1", "precision", "recall", "log_loss", "calibration_error"
    ),
    "multiclass": (
        *MAIN["multiclass"], "cost", "top_k_accuracy", "precision", "recall", "auc",
        "log_loss", "calibration_error",
    ),
    "multilabel": (
        *MAIN["multilabel"], "hamming_loss", "micro_f1", "weighted_f1", "precision", "recall", "auc",
        "micro_auc", "pr_auc", "log_loss", "calibration_error",
    ),
    "regression": (*MAIN["regression"], "mae", "median_ae", "mape", "bias"),
}  # fmt: skip
"""Metrics of the table of variants."""

SLICED: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "accuracy", "precision", "recall", "f1", "log_loss"),
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
    "multilabel": ("macro_f1", "subset_accuracy", "micro_f1", "hamming_loss", "log_loss"),
    "regression": ("rmse", "mae", "r2", "bias"),
}
"""Metrics of the table of slices; the first is drawn."""

LESS_IS_BETTER = frozenset(
    {"log_loss", "rmse", "mae", "median_ae", "mape", "calibration_error", "hamming_loss", "cost"}
)

_ANY = ("auc", "accuracy", "macro_f1", "rmse", "r2")


def first_present(chosen: Mapping[str, tuple[str, ...]], task: str, present: Collection[str]) -> list[str]:
    """Return those of a task's metrics that are there; of an unknown task the best known ones."""
    return [name for name in chosen.get(task, _ANY) if name in present]
