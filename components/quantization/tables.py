"""Embedding tables of a TF Lite model in int8, with one scale per column.

Neither quantizer does this: TFLiteConverter uses one scale for the whole table, litert-quantizer leaves the
tables float32 (it knows EMBEDDING_LOOKUP, but converted models use GATHER). A scale per row would cost 4
bytes for every 8 of an 8-wide table. So `GATHER(float32 table)` becomes
`MUL(CAST(GATHER(int8 table)), scales)`.
"""

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from . import flatbuffer
from .scaling import quantize_columns

__all__ = ["quantize_tables"]

_GATHER_INT8_VERSION = 2
"""Version of GATHER from which the kernel takes int8 (TensorFlow's `op_version.cc`)."""


def quantize_tables(content: bytes, min_elements: int = 256) -> bytes:
    """Return the model with each constant table that only GATHER along axis 0 reads stored in int8.

    Args:
        content: A float32 TF Lite flatbuffer.
        min_elements: Smaller tables stay float32, >= 1.

    Returns:
        The changed flatbuffer; inputs and outputs are as before.
    """
    model = flatbuffer.read(content)
    for graph in model.subgraphs:
        for table in _tables(model, graph, min_elements):
            _store_int8(model, graph, table)
    return flatbuffer.write(model)


def _tables(model: Any, graph: Any, min_elements: int) -> list[int]:
    """List the tensors of `graph` that are large constant tables with no other reader than GATHER."""
    gathers = [operator for operator in graph.operators if _is_row_gather(model, operator)]
    gathered = Counter(int(operator.inputs[0]) for operator in gathers)
    readers = Counter(int(index) for operator in graph.operators for index in operator.inputs)
    found = []
    for index, count in gathered.items():
        tensor = graph.tensors[index]
        value = flatbuffer.constant(model, tensor) if tensor.type == schema.TensorType.FLOAT32 else None
        if value is not None and value.ndim == 2 and value.size >= min_elements and readers[index] == count:
            found.append(index)
    return found


def _is_row_gather(model: Any, operator: Any) -> bool:
    code = model.operatorCodes[operator.opcodeIndex]
    options = operator.builtinOptions
    return (
        max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.GATHER
        and options.axis == 0
        and options.batchDims == 0
    )


def _store_int8(model: Any, graph: Any, table: int) -> None:
    """Replace one table and put CAST and MUL behind each of its readers."""
    tensor = graph.tensors[table]
    value = flatbuffer.constant(model, tensor)
    assert value is not None  # `_tables` lists constants only
    quantized, scales = quantize_columns(value)
    model.buffers[tensor.buffer] = _buffer(np.zeros(0, np.uint8))
    tensor.buffer = _add_buffer(model, quantized)
    tensor.type = schema.TensorType.INT8
    scale_index = _add_tensor(
        graph, tensor.name + b"/scales", schema.TensorType.FLOAT32, scales.shape, _add_buffer(model, scales)
    )
    # One GATHER may not be shared with float32 tables under version 1.
    gather = flatbuffer.opcode_index(model, schema.BuiltinOperator.GATHER, _GATHER_INT8_VERSION)
    rebuilt = []
    for operator in graph.operators:
        rebuilt.append(operator)
        if operator.opcodeIndex == gather and int(operator.inputs[0]) == table:
            rebuilt += _dequantize(model, graph, operator, scale_index)
    graph.operators = rebuilt


def _dequantize(model: Any, graph: Any, gather: Any, scales: int) -> list[Any]:
    """Route the output of `gather` through CAST and MUL into the tensor that it wrote before."""
    final = int(gather.outputs[0])
    wide = graph.tensors[final]
    names = [wide.name + suffix for suffix in (b"/int8", b"/cast")]
    rows = _add_tensor(graph, names[0], schema.TensorType.INT8, wide.shape, 0, wide.shapeSignature)
    cast = _add_tensor(graph, names[1], schema.TensorType.FLOAT32, wide.shape, 0, wide.shapeSignature)
    gather.outputs = np.array([rows], np.int32)
    return [
        _operator(
            model,
            schema.BuiltinOperator.CAST,
            [rows],
            [cast],
            schema.BuiltinOptions.CastOptions,
            _cast_options(),
        ),
        _operator(
            model,
            schema.BuiltinOperator.MUL,
            [cast, scales],
            [final],
            schema.BuiltinOptions.MulOptions,
            schema.MulOptionsT(),
        ),
    ]


def _cast_options() -> Any:
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = schema.TensorType.INT8, schema.TensorType.FLOAT32
    return options


def _operator(
    model: Any, builtin: int, inputs: list[int], outputs: list[int], kind: int, options: Any
) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = flatbuffer.opcode_index(model, builtin, 1)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _buffer(values: np.ndarray[Any, Any]) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8) if values.size else None
    return buffer


def _add_buffer(model: Any, values: np.ndarray[Any, Any]) -> int:
    model.buffers.append(_buffer(values))
    return len(model.buffers) - 1


def _add_tensor(graph: Any, name: bytes, kind: int, shape: Any, buffer: int, signature: Any = None) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, kind, buffer
    tensor.shape = np.asarray(shape, np.int32)
    tensor.shapeSignature = signature
    tensor.quantization = schema.QuantizationParametersT()
    tensor.hasRank = True
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
