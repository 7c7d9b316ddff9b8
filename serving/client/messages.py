"""TensorFlow Serving's messages without TensorFlow: only the fields that a client needs.

The generated modules of tensorflow-serving-api import the whole of TensorFlow (seconds, hundreds of MB). On
the wire only field numbers count; these are of tensorflow/core/framework/{tensor,tensor_shape}.proto,
tensorflow/core/protobuf/meta_graph.proto and tensorflow_serving/apis/{model,predict}.proto with
get_model_metadata.proto. They live in a pool of their own, so that a program may import the generated modules
as well.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["TYPES", "message_class"]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "headrace.serving.wire"
_KINDS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    # message -> number -> (name, type; * repeats it, and map:T is a map from strings)
    "Dim": {1: ("size", "int64")},
    "Shape": {2: ("dim", "*Dim"), 3: ("unknown_rank", "bool")},
    "Tensor": {
        1: ("dtype", "int32"),
        2: ("tensor_shape", "Shape"),
        4: ("tensor_content", "bytes"),
        5: ("float_val", "*float"),
        6: ("double_val", "*double"),
        7: ("int_val", "*int32"),
        8: ("string_val", "*bytes"),
        10: ("int64_val", "*int64"),
        11: ("bool_val", "*bool"),
        13: ("half_val", "*int32"),
        16: ("uint32_val", "*uint32"),
        17: ("uint64_val", "*uint64"),
    },
    "Version": {1: ("value", "int64")},
    "ModelSpec": {
        1: ("name", "string"),
        2: ("version", "Version"),
        3: ("signature_name", "string"),
        4: ("version_label", "string"),
    },
    "PredictRequest": {
        1: ("model_spec", "ModelSpec"),
        2: ("inputs", "map:Tensor"),
        3: ("output_filter", "*string"),
    },
    "PredictResponse": {1: ("outputs", "map:Tensor"), 2: ("model_spec", "ModelSpec")},
    "MetadataRequest": {1: ("model_spec", "ModelSpec"), 2: ("metadata_field", "*string")},
    "Any": {1: ("type_url", "string"), 2: ("value", "bytes")},
    "MetadataResponse": {1: ("model_spec", "ModelSpec"), 2: ("metadata", "map:Any")},
    "TensorInfo": {1: ("name", "string"), 2: ("dtype", "int32"), 3: ("tensor_shape", "Shape")},
    "Signature": {
        1: ("inputs", "map:TensorInfo"),
        2: ("outputs", "map:TensorInfo"),
        3: ("method_name", "string"),
    },
    "SignatureMap": {1: ("signature_def", "map:Signature")},
}

TYPES: Mapping[int, str] = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "object", 9: "int64",
    10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
"""TensorFlow's number of a type -> numpy's name; strings are objects that hold bytes."""


def message_class(name: str) -> Any:
    """Return the class of a message of `_MESSAGES`."""
    return _CLASSES[name]


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="headrace/serving/wire.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            if kind.startswith("map:"):
                _add_map(message, name, number, field, kind[4:])
            else:
                _add_field(message, number, field, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _add_field(message: Any, number: int, name: str, kind: str) -> None:
    plain = kind.removeprefix("*")
    field = message.field.add(
        name=name,
        number=number,
        type=_KINDS.get(plain, _Field.TYPE_MESSAGE),
        label=_Field.LABEL_REPEATED if kind != plain else _Field.LABEL_OPTIONAL,
    )
    if plain not in _KINDS:
        field.type_name = f".{_PACKAGE}.{plain}"


def _add_map(message: Any, owner: str, number: int, name: str, value: str) -> None:
    """Add a map as what it is on the wire: repeated entries of key and value."""
    entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _add_field(entry, 1, "key", "string")
    _add_field(entry, 2, "value", value)
    message.field.add(
        name=name,
        number=number,
        type=_Field.TYPE_MESSAGE,
        label=_Field.LABEL_REPEATED,
        type_name=f".{_PACKAGE}.{owner}.{entry_name}",
    )


_CLASSES = _classes()
