"""TFMA metrics whose parts are merged right, where an engine cuts a slice's rows into several.

Some combiners of TFMA 0.52 take the first part with `next(iter(parts))` and then walk over all of them:
unless the parts are an iterator, the first is counted twice (`cross_entropy_metrics.py`,
`mean_regression_error.py`). Beam hands them a tuple. In one process a slice is one part, and nothing shows.
"""

from collections.abc import Iterable
from typing import Any

from tensorflow_model_analysis import metrics
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import beam_util

__all__ = ["MergedBinaryCrossEntropy", "MergedMeanAbsoluteError", "MergedMeanSquaredError", "merging_config"]


class _WalkedOnce(beam_util.DelegatingCombineFn):
    """A combiner of TFMA that is given the parts as an iterator."""

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return super().merge_accumulators(iter(accumulators))


class _Merged(metrics.Metric):
    def computations(self, **given: Any) -> list[Any]:
        """Return TFMA's computations with their combiners mended."""
        return [one._replace(combiner=_WalkedOnce(one.combiner)) for one in super().computations(**given)]


class MergedBinaryCrossEntropy(_Merged, metrics.BinaryCrossEntropy):
    """TFMA's `BinaryCrossEntropy`, mended."""


class MergedMeanAbsoluteError(_Merged, metrics.MeanAbsoluteError):
    """TFMA's `MeanAbsoluteError`, mended."""


class MergedMeanSquaredError(_Merged, metrics.MeanSquaredError):
    """TFMA's `MeanSquaredError`, mended."""


_MENDED = {
    "BinaryCrossEntropy": MergedBinaryCrossEntropy,
    "MeanAbsoluteError": MergedMeanAbsoluteError,
    "MeanSquaredError": MergedMeanSquaredError,
}


def merging_config(config: config_pb2.EvalConfig) -> config_pb2.EvalConfig:
    """Return the same evaluation, with metrics of this module in place of those that merge wrongly.

    Args:
        config: As TFMA's files record it; not changed. The names of the values stay.
    """
    mended = config_pb2.EvalConfig()
    mended.CopyFrom(config)
    for spec in mended.metrics_specs:
        for metric in spec.metrics:
            if metric.class_name in _MENDED:
                metric.class_name, metric.module = _MENDED[metric.class_name].__name__, __name__
    return mended
