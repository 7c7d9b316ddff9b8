"""TF Lite flatbuffers as objects: read, write, and what their tensors and operators are."""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from headrace.data.errors import HeadraceError

__all__ = [
    "MAX_BYTES",
    "constant",
    "constant_bytes",
    "empty_strays",
    "looped_products",
    "mixed_products",
    "opcode_index",
    "operator_names",
    "read",
    "write",
]

MAX_BYTES = 2**31 - 1
"""Offsets in a flatbuffer are signed 32 bit integers, in bytes."""

_IDENTIFIER = b"TFL3"
_DENSE = "FULLY_CONNECTED"
_FEATURES = {"GATHER", "ONE_HOT"}
_LOOPS = {"WHILE", "CALL"}
_PRODUCTS = {_DENSE, "CONV_2D", "DEPTHWISE_CONV_2D"}
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


def read(content: bytes) -> Any:
    """Return the flatbuffer as a `schema.ModelT`, with all constants in its buffers' `data`.

    litert-quantizer appends the constants of larger models behind the flatbuffer, where `offset` and `size`
    find them.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that there is none
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write(model: Any) -> bytes:
    """Return `model` (a `schema.ModelT`) as a flatbuffer.

    Raises:
        HeadraceError: If its constants exceed `MAX_BYTES`.
    """
    total = constant_bytes(model)
    if total > MAX_BYTES:
        raise HeadraceError(
            f"a TF Lite model must hold at most {MAX_BYTES} bytes of constants. Received: {total} bytes"
        )
    builder = flatbuffers.Builder(total + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def constant(model: Any, tensor: Any) -> np.ndarray[Any, Any] | None:
    """Return the value of `tensor`, or None where it is computed or of a type that is never a weight."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type not in _DTYPES:
        return None
    values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), _DTYPES[tensor.type])
    return values.reshape(tensor.shape if tensor.shape is not None else [])


def constant_bytes(model: Any) -> int:
    """Return the bytes of all buffers of `model`, metadata included."""
    return sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)


def operator_names(model: Any) -> set[str]:
    """Return the builtin names of all operators in `model`, such as "GATHER" (custom ones: their own)."""
    return {_name(model, operator) for graph in model.subgraphs for operator in graph.operators}


def mixed_products(model: Any) -> list[str]:
    """Return the output names of the dense products that read features as they come, side by side.

    Those are what no product (dense, convolution) and no loop stands between and a float input, a row of a
    table or a one-hot vector.
    """
    graph = model.subgraphs[0]
    found = []
    raw = {int(i) for i in graph.inputs if graph.tensors[int(i)].type == schema.TensorType.FLOAT32}
    for operator in graph.operators:  # in order of execution
        name, outputs = _name(model, operator), [int(index) for index in operator.outputs]
        reads_raw = any(int(index) in raw for index in operator.inputs)
        if name == _DENSE and reads_raw:
            found.append(graph.tensors[outputs[0]].name.decode())
        if name in _FEATURES or (reads_raw and name not in _PRODUCTS | _LOOPS):
            raw.update(outputs)
    return found


def looped_products(model: Any) -> list[str]:
    """Return the output names of all products inside loops."""
    return [
        graph.tensors[int(operator.outputs[0])].name.decode()
        for graph in model.subgraphs[1:]
        for operator in graph.operators
        if _name(model, operator) in _PRODUCTS
    ]


def empty_strays(content: bytes) -> bytes:
    """Return the model with shape [0] for tensors that no operator reads or writes.

    TFLiteConverter leaves some behind, without a value. litert-quantizer 0.11 reads every tensor that has an
    element when it calibrates, and fails at those.
    """
    model = read(content)
    for graph in model.subgraphs:
        used = {int(index) for end in (graph.inputs, graph.outputs) for index in end}
        for operator in graph.operators:
            used.update(int(index) for index in (*operator.inputs, *operator.outputs))
        for index, tensor in enumerate(graph.tensors):
            if index not in used:
                tensor.shape = np.zeros(1, np.int32)
    return write(model)


def _name(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    name = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return str(code.customCode.decode()) if name == "CUSTOM" else name


def opcode_index(model: Any, builtin: int, version: int) -> int:
    """Return the index of an operator code in `model`, added where there is none."""
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and not code.customCode:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
