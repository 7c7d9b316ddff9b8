"""Attributes of allowed operators that can name a file or an address, and what they may say.

tests/serving/test_allowed_list.py lists the others, and fails when TensorFlow brings one that is in neither.
"""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2

__all__ = ["JUDGED", "bad_attributes"]


def _no_file(value: bytes) -> bool:
    return not value.startswith(b"file:")


def _empty(value: bytes) -> bool:
    return not value


def _no_descriptor_file(value: bytes) -> bool:
    return not value or value.startswith((b"local://", b"bytes://"))


def _no_address(value: bytes) -> bool:
    """Tell whether a ConfigProto names no other process."""
    config = config_pb2.ConfigProto()
    try:
        config.ParseFromString(value)
    except DecodeError:
        return False
    return not any(config.HasField(field) for field in ("cluster_def", "rpc_options"))


JUDGED: Mapping[tuple[str, str], Callable[[bytes], bool]] = {
    ("PrintV2", "output_stream"): _no_file,
    ("FixedUnigramCandidateSampler", "vocab_file"): _empty,
    ("DecodeProtoV2", "descriptor_source"): _no_descriptor_file,
    ("EncodeProto", "descriptor_source"): _no_descriptor_file,
    ("PartitionedCall", "config_proto"): _no_address,
    ("StatefulPartitionedCall", "config_proto"): _no_address,
    ("PartitionedCall", "config"): _empty,
    ("StatefulPartitionedCall", "config"): _empty,
}
"""Operator and attribute -> whether a value names neither file nor address."""


def bad_attributes(node: Any) -> list[str]:
    """Return the attributes of a NodeDef that name a file or an address, as `Operator.attribute`."""
    return [
        f"{op}.{name}"
        for (op, name), good in JUDGED.items()
        if op == node.op and name in node.attr and not _good(node.attr[name], good)
    ]


def _good(value: Any, good: Callable[[bytes], bool]) -> bool:
    """Judge an attribute; one that a function's caller fills in cannot be judged here."""
    return value.WhichOneof("value") == "s" and good(value.s)
