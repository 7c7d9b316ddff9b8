"""The batching parameters file of TensorFlow Serving."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from headrace.data.errors import ConfigError

__all__ = ["BatchingParameters", "parse_batching_parameters"]

_INT, _BOOL, _STRING = "Int64Value", "BoolValue", "StringValue"
_WRAPPED: Mapping[str, str] = {
    "max_batch_size": _INT,
    "batch_timeout_micros": _INT,
    "max_enqueued_batches": _INT,
    "num_batch_threads": _INT,
    "thread_pool_name": _STRING,
    "enable_large_batch_splitting": _BOOL,
    "max_execution_batch_size": _INT,
    "enable_low_priority_queue": _BOOL,
    "low_priority_max_batch_size": _INT,
    "low_priority_batch_timeout_micros": _INT,
    "low_priority_max_enqueued_batches": _INT,
    "mixed_priority_policy": _STRING,
    "batch_padding_policy": _STRING,
}
_IGNORED = (*(name for name in _WRAPPED if "priority" in name), "batch_padding_policy", "thread_pool_name")


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are put together.

    Attributes:
        max_batch_size: Most rows of a request, and in one run, >= 1.
        batch_timeout_s: Seconds that a batch waits to fill, >= 0.
        max_enqueued_batches: Batches that wait for a thread, >= 1; more are refused.
        num_batch_threads: Batches that run at once, >= 1.
        allowed_batch_sizes: Sizes that runs are padded to, increasing, the last `run_limit`.
        pad_variable_length_inputs: Pad inputs of different shapes to the largest.
        ignored: Names in the file that mean nothing here.
        split_large: Fill runs up to their limit, and split a request that does not fit into several.
        max_execution_batch_size: Most rows in one run where requests are split, from 1 to `max_batch_size`,
            which is then the most rows of a request; 0 for `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    ignored: tuple[str, ...] = ()
    split_large: bool = False
    max_execution_batch_size: int = 0

    @property
    def run_limit(self) -> int:
        """Most rows in one run."""
        return (self.split_large and self.max_execution_batch_size) or self.max_batch_size


def parse_batching_parameters(text: str, place: str = "batching parameters") -> BatchingParameters:
    """Read a file in the text format of `BatchingParameters`.

    Args:
        text: Content, such as "max_batch_size { value: 128 }".
        place: Name of the file, for errors.

    Raises:
        ConfigError: If it cannot be read or its values do not fit each other.
    """
    message = _message()()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(
            f"batching parameters must be a BatchingParameters text. Received: {error} ({place})"
        ) from error
    found = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
    sizes = tuple(message.allowed_batch_sizes)
    defaults = BatchingParameters()
    split_large = found.get("enable_large_batch_splitting", False)
    unused = _IGNORED if split_large else (*_IGNORED, "max_execution_batch_size")
    parameters = BatchingParameters(
        max_batch_size=found.get("max_batch_size", defaults.max_batch_size),
        batch_timeout_s=found.get("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=found.get("max_enqueued_batches", defaults.max_enqueued_batches),
        num_batch_threads=found.get("num_batch_threads", defaults.num_batch_threads),
        split_large=split_large,
        max_execution_batch_size=found.get("max_execution_batch_size", 0) if split_large else 0,
        allowed_batch_sizes=sizes,
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        ignored=tuple(name for name in unused if name in found),
    )
    _check(parameters, place)
    return parameters


def _check(found: BatchingParameters, place: str) -> None:
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
        if getattr(found, name) < 1:
            raise ConfigError(f"{name} must be >= 1. Received: {getattr(found, name)} ({place})")
    if found.batch_timeout_s < 0:
        raise ConfigError(
            f"batch_timeout_micros must be >= 0. Received: {found.batch_timeout_s * 1e6:.0f} ({place})"
        )
    sizes = found.allowed_batch_sizes
    if any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ConfigError(
            f"allowed_batch_sizes entries must be monotonically increasing. Received: {list(sizes)} ({place})"
        )
    _check_execution(found, place)
    if found.split_large and sizes and sizes[-1] not in (found.run_limit, found.max_batch_size):
        raise ConfigError(
            "Last entry in allowed_batch_sizes must be equal to max_execution_batch_size; last entry was "
            f"{sizes[-1]}; expected {found.run_limit} ({place})"
        )
    if not found.split_large and sizes and sizes[-1] != found.max_batch_size:
        raise ConfigError(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
            f"expected {found.max_batch_size} ({place})"
        )


def _check_execution(found: BatchingParameters, place: str) -> None:
    if found.max_execution_batch_size < 0:
        raise ConfigError(
            f"max_execution_batch_size must be >= 1. Received: {found.max_execution_batch_size} ({place})"
        )
    if found.run_limit > found.max_batch_size:
        raise ConfigError(
            "max_execution_batch_size must be at most max_batch_size. "
            f"Received: {found.run_limit} and {found.max_batch_size} ({place})"
        )


@cache
def _message() -> Any:
    """Build the message class: `session_bundle_config.proto` is not in the tensorflow-serving-api package."""
    file = descriptor_pb2.FileDescriptorProto(
        name="headrace/batching_parameters.proto",
        package="headrace.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, wrapper) in enumerate(_WRAPPED.items(), start=1):
        message.field.add(
            name=name,
            number=number,
            type=kinds.TYPE_MESSAGE,
            label=kinds.LABEL_OPTIONAL,
            type_name=f".google.protobuf.{wrapper}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=100, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED
    )
    message.field.add(
        name="pad_variable_length_inputs", number=101, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("headrace.serving.BatchingParameters"))
