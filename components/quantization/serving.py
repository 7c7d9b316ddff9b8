"""The `int8_weights` SavedModel: int8 on disk, float32 in memory.

Each large weight is an int8 constant with one scale per output column, multiplied out once at load into a
resource that the serving functions read as they would read a variable. So the model is as fast as float32,
its weights take a quarter of the space, and both `tf.saved_model.load` and the session of a C++ server
load it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from headrace.components.training.signatures import Forward
from headrace.data.errors import HeadraceError

from .scaling import quantize_columns

__all__ = ["MAX_CONSTANT_BYTES", "Int8Model", "TooLarge", "int8_model", "stored_constant_bytes"]

MAX_CONSTANT_BYTES = 2**31 - 2**26
"""saved_model.pb is one protobuf message, below 2 GiB; 64 MiB are left for the graph itself."""

_MIN_ELEMENTS = 64

Array = np.ndarray[Any, Any]


class TooLarge(HeadraceError):
    """The int8 weights do not fit into one saved_model.pb."""


class _Int8Weight(tf.saved_model.experimental.TrackableResource):
    """One weight: a handle to a float32 tensor that `_initialize` computes from int8."""

    def __init__(self, quantized: Array, scales: Array, shared_name: str) -> None:
        super().__init__()
        self._quantized, self._scales, self._shared_name = quantized, scales, shared_name
        with tf.init_scope():  # else the first function traced would own the handle
            self.resource_handle  # noqa: B018
            self._initialize()

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=self._quantized.shape, shared_name=self._shared_name, container=""
        )

    def _initialize(self) -> None:
        value = tf.cast(tf.constant(self._quantized), tf.float32) * tf.constant(self._scales)
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=value)

    def read(self) -> Any:
        """Return the float32 tensor."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.float32)
        value.set_shape(self._quantized.shape)  # known while tracing; costs nothing when served
        return value


@dataclass(frozen=True)
class Int8Model:
    """A model whose weights are stored in int8.

    Attributes:
        forward: Transformed features -> logits, for `serving_module`.
        trackables: What `forward` reads.
        constant_bytes: Bytes of int8 weights and scales.
        variable_bytes: Bytes of the small tensors kept as they are.
    """

    forward: Forward
    trackables: Sequence[Any]
    constant_bytes: int
    variable_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights on disk."""
        return self.constant_bytes + self.variable_bytes


def int8_model(model: Any, max_constant_bytes: int = MAX_CONSTANT_BYTES) -> Int8Model:
    """Return `model` with its large weights in int8.

    Args:
        model: A built float32 Keras model, transformed features -> logits.
        max_constant_bytes: Most bytes of int8 weights and scales.

    Raises:
        TooLarge: If they need more.
    """
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    split = len(model.trainable_variables)
    needed = sum(_int8_bytes(variable) for variable in variables if _is_large(variable))
    if needed > max_constant_bytes:
        raise TooLarge(
            f"int8 weights must fit into one saved_model.pb of at most {max_constant_bytes:,} bytes. "
            f"Received: {needed:,} bytes",
            hint="push `float32` to serving (push.serving), or make embedding tables smaller",
        )
    weights = list(_weights(variables))

    def forward(features: dict[str, Any]) -> Any:
        values = [
            weight.read() if isinstance(weight, _Int8Weight) else weight.read_value() for weight in weights
        ]
        logits, _ = model.stateless_call(values[:split], values[split:], features, training=False)
        return logits

    kept = sum(w.dtype.size * int(np.prod(w.shape)) for w in weights if not isinstance(w, _Int8Weight))
    return Int8Model(forward, weights, needed, kept)


def _is_large(variable: Any) -> bool:
    shape = tuple(variable.shape)
    size = int(np.prod(shape))
    # With few rows the scales would eat what int8 saves.
    return (
        len(shape) >= 2
        and size >= _MIN_ELEMENTS
        and size // shape[-1] >= 4
        and str(variable.dtype) == "float32"
    )


def _int8_bytes(variable: Any) -> int:
    return int(np.prod(variable.shape)) + 4 * int(variable.shape[-1])


def _weights(variables: Sequence[Any]) -> Iterator[Any]:
    """Give one resource or variable for each Keras variable.

    Handles of one name are one resource to all models of a process (under `tf.saved_model.load`), so the name
    must tell models apart: it holds a digest of all values.
    """
    stored = [_stored(variable) for variable in variables]
    digest = hashlib.sha256()
    for parts in stored:
        for part in parts:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    name = digest.hexdigest()[:24]
    for index, parts in enumerate(stored):
        if len(parts) == 2:
            yield _Int8Weight(*parts, shared_name=f"headrace_int8/{name}/{index}")
        else:
            yield tf.Variable(parts[0], trainable=False, name=f"kept_{index}")


def _stored(variable: Any) -> tuple[Array, ...]:
    value = np.asarray(variable)
    return quantize_columns(value) if _is_large(variable) else (value,)


def stored_constant_bytes(saved_model_dir: str) -> int:
    """Return the bytes of all numeric constants in `saved_model.pb`, functions included.

    Raises:
        HeadraceError: If the file cannot be read.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    path = f"{saved_model_dir}/saved_model.pb"
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            message.ParseFromString(stream.read())
    except (tf.errors.OpError, DecodeError) as error:
        raise HeadraceError(
            f"a SavedModel must hold a readable saved_model.pb. Received: {path} ({error})"
        ) from error
    nodes = [node for graph in message.meta_graphs for node in graph.graph_def.node]
    nodes += [node for g in message.meta_graphs for f in g.graph_def.library.function for node in f.node_def]
    return sum(_constant_bytes(node.attr["value"].tensor) for node in nodes if node.op == "Const")


def _constant_bytes(tensor: Any) -> int:
    dtype = tf.as_dtype(tensor.dtype)
    if dtype == tf.string:
        return 0
    return max(len(tensor.tensor_content), tensor.ByteSize() - 32)
