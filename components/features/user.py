"""A preprocessing_fn that the user wrote, named by import path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import schema_inference

from headrace.data.errors import ConfigError

from .graph import LabelPlan, dense_column, label_outputs
from .plan import default_embedding_dim

__all__ = ["describe_output", "describe_user_features", "wrap_user_function"]

_MIN_COLLECTION = "tft_schema_override_min"
_MAX_COLLECTION = "tft_schema_override_max"
_TENSOR_COLLECTION = "tft_schema_override_tensor"

PreprocessingFn = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def wrap_user_function(
    function: PreprocessingFn, path: str, features: Sequence[str], label: LabelPlan
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return `function` with what the pipeline adds: checks, shapes, label and weight.

    `function` receives the feature columns alone, as SparseTensors `[rows, values]`, so that it can be
    applied when serving. Floats become float32. An int64 output is a category where tf.Transform knows
    its range (`compute_and_apply_vocabulary`, `bucketize`, ...), otherwise a number, cast to float32.

    Args:
        function: The user's preprocessing_fn.
        path: Its import path, for messages.
        features: Raw columns that it receives.
        label: The label and weight.
    """

    def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            given = dict(function({name: inputs[name] for name in features}))
        except ConfigError:
            raise
        except Exception as error:  # whatever the user's code raises is the user's to know
            raise ConfigError(
                f"`preprocessing_fn` must run on tensors. Received: {type(error).__name__}: {error} ({path})"
            ) from error
        if not given:
            raise ConfigError(f"`preprocessing_fn` must return at least one tensor. Received: none ({path})")
        ranges = _known_ranges()
        tensors = {name: _conform(name, tensor, ranges, path) for name, tensor in given.items()}
        names = (label.name, label.weight)
        columns = {name: dense_column(inputs[name]) for name in names if name is not None}
        return tensors | label_outputs(columns, label)

    return preprocessing_fn


def describe_user_features(transform_graph_dir: str) -> list[dict[str, Any]]:
    """Return the entries `features` of features.json from the transformed schema.

    Raises:
        ConfigError: If a category may be negative.
    """
    schema = tft.TFTransformOutput(transform_graph_dir).transformed_metadata.schema
    features = []
    for feature in schema.feature:
        if feature.name in ("label", "weight"):
            continue
        width = feature.shape.dim[0].size
        cardinality = feature.int_domain.max + 1 if feature.HasField("int_domain") else None
        if cardinality is not None and feature.int_domain.min < 0 and width == 1:
            raise ConfigError(
                f"categories must not be negative. Received: a range from {feature.int_domain.min} to "
                f"{feature.int_domain.max} (preprocessing_fn, output {feature.name!r})",
                "give `num_oov_buckets` of 1 or more, so that unknown values have a category",
            )
        features.append(describe_output(feature.name, width, cardinality))
    return features


def describe_output(name: str, width: int, cardinality: int | None) -> dict[str, Any]:
    """Return the entry of `features` of features.json for an output of the user's function.

    Args:
        name: The output.
        width: Numbers a row.
        cardinality: How many categories there are; None where it is a number.
    """
    return {
        "name": name,
        "role": "dense" if cardinality is None else "index" if width == 1 else "indices",
        "width": width,
        "cardinality": cardinality,
        "encode": "none" if cardinality is None else "embedding",
        "embedding_dim": None if cardinality is None else default_embedding_dim(cardinality),
        "source": name,
    }


def _known_ranges() -> dict[str, tuple[Any, Any]]:
    """Return tensor name -> (least, greatest) of the categorical tensors of the graph being built."""
    names, low, high = (
        tf.compat.v1.get_collection(key) for key in (_TENSOR_COLLECTION, _MIN_COLLECTION, _MAX_COLLECTION)
    )
    return {tensor.name: (least, greatest) for tensor, least, greatest in zip(names, low, high, strict=True)}


def _conform(name: str, tensor: Any, ranges: Mapping[str, tuple[Any, Any]], path: str) -> Any:
    """Return `tensor` as `[rows, width]`, float32 or a category in int64."""
    place = f"({path}, output {name!r})"
    if name in ("label", "weight"):
        raise ConfigError(
            f"`label` and `weight` come from the `data` section. Received: an output of that name {place}"
        )
    if not isinstance(tensor, tf.Tensor):
        raise ConfigError(
            f"outputs must be dense tensors. Received: {type(tensor).__name__} {place}",
            "use tf.sparse.to_dense, or RaggedTensor.to_tensor with a fixed shape",
        )
    if tensor.dtype == tf.string or tensor.dtype.is_complex:
        raise ConfigError(
            f"outputs must be numbers. Received: {tensor.dtype.name} {place}",
            "use tft.compute_and_apply_vocabulary for text",
        )
    rank = tensor.shape.rank
    if rank not in (1, 2) or (rank == 2 and tensor.shape[1] is None):
        raise ConfigError(
            f"outputs must have shape [rows] or [rows, width]. Received: {tensor.shape} {place}"
        )
    known = ranges.get(tensor.name) if tensor.dtype.is_integer else None
    shaped = tf.reshape(tensor, [-1, 1]) if rank == 1 else tensor
    if known is None:
        return tf.cast(shaped, tf.float32)
    category = tf.identity(tf.cast(shaped, tf.int64))
    schema_inference.set_tensor_schema_override(category, *known)
    return category
