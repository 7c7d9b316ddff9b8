"""TF Lite variants of the transformed-features SavedModel.

What was tried, on flights (flips: rows of the test split whose class changes; time: of 128 rows, to float32):

    int8 of                                          flips   time
    tables (`tables.py`), products by dynamic range  0.003   0.88
    tables, products static                          0.008   0.72
    tables, products static but weights of the first 0.001   0.89

Static int8 has one range for all that a product reads. A dense product over features as they come reads them
joined, vectors of a tenth beside numbers of any size, so there only the weights are int8. Convolutions read
one image or series. The calibrator does not see into the loops of recurrent layers: there the ranges are
found at run time. With every operator static, as
TFLiteConverter's own full int8 does it too, a model of accuracy 0.994 falls to 0.71: scores and logits then
have 256 values. Hence the rest stays float32.
"""

import re
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import qtyping, quantizer

from headrace.data.errors import HeadraceError

from . import flatbuffer
from .tables import quantize_tables

__all__ = ["BrokenConversion", "check_weights", "convert", "convert_float", "run_lite"]

_SIGNATURE = "serving_default"
_CALIBRATION_BATCH = 256  # litert-quantizer averages the ranges of calls, so a call must see many rows
_STATEFUL = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
_PRODUCTS = (
    qtyping.TFLOperationName.FULLY_CONNECTED,
    qtyping.TFLOperationName.CONV_2D,
    qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
)

Columns = Mapping[str, np.ndarray[Any, Any]]


class BrokenConversion(HeadraceError):
    """A converted model has lost weights or answers differently."""


def convert_float(saved_model_dir: str, *, float16: bool = False) -> bytes:
    """Convert a SavedModel over transformed features.

    Args:
        saved_model_dir: Folder of the SavedModel; not one whose root is a Keras model.
        float16: Whether constants are stored in float16 (computed with in float32).
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model_dir, signature_keys=[_SIGNATURE])
    if float16:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def convert(name: str, saved_model_dir: str, control: bytes, calibration: Columns) -> bytes:
    """Return the flatbuffer of variant `name`.

    Args:
        name: One of `LITE_VARIANTS`.
        saved_model_dir: SavedModel over transformed features.
        control: Its float32 flatbuffer.
        calibration: Transformed rows, feature -> `[rows, width]`, at least 256.
    """
    if name == "tflite_float32":
        return control
    if name == "tflite_float16":
        return convert_float(saved_model_dir, float16=True)
    with warnings.catch_warnings():
        # The quantizer keeps all tensors on purpose, and ai-edge-litert warns that this takes memory.
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        ready = flatbuffer.empty_strays(quantize_tables(control))
        return _quantize(ready, calibration if name == "tflite_int8" else None)


def _quantize(content: bytes, calibration: Columns | None) -> bytes:
    """Quantize the matrix products: statically with `calibration`, else with ranges found at run time."""
    job = quantizer.Quantizer(content)
    ranges = None
    model = flatbuffer.read(content)
    for operation in _PRODUCTS:
        if calibration is None:
            job.add_dynamic_config(".*", operation, 8)
            continue
        job.add_static_config(".*", operation, 8, 8)
        for name in flatbuffer.mixed_products(model):
            job.add_weight_only_config(f"^{re.escape(name)}", operation, 8)
        for name in flatbuffer.looped_products(model):
            job.add_dynamic_config(f"^{re.escape(name)}", operation, 8)
    if calibration is not None and job.need_calibration:
        ranges = job.calibrate({_SIGNATURE: _batches(calibration)}, num_threads=1)
    result = job.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    # Read and written again: constants behind the flatbuffer are news to older runtimes on devices.
    return flatbuffer.write(flatbuffer.read(bytes(result.quantized_model or b"")))


def _batches(columns: Columns) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Cut rows into equal calls of at least `_CALIBRATION_BATCH` rows."""
    rows = len(next(iter(columns.values())))
    calls = max(1, rows // _CALIBRATION_BATCH)
    bounds = np.linspace(0, rows, calls + 1).astype(int)
    return [
        {name: values[start:stop] for name, values in columns.items()} for start, stop in pairwise(bounds)
    ]


def check_weights(content: bytes, matrix_elements: int, bytes_per_element: int) -> int:
    """Check that a flatbuffer holds its weights as constants.

    Args:
        content: The flatbuffer.
        matrix_elements: Number of elements of all parameters of rank 2 and more (those of rank 1 may have
            been folded into others).
        bytes_per_element: Of the stored form: 4, 2 or 1.

    Returns:
        Bytes of its constant tensors.

    Raises:
        BrokenConversion: If variables are left, or there are too few constants.
    """
    model = flatbuffer.read(content)
    left = sorted(flatbuffer.operator_names(model) & _STATEFUL)
    if left:
        raise BrokenConversion(
            f"a TF Lite model must hold its weights as constants. Received: operators {', '.join(left)}",
            hint="export a plain tf.Module or a keras.export.ExportArchive, not a Keras model as root",
        )
    buffers = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    found = sum(len(model.buffers[i].data) for i in buffers if model.buffers[i].data is not None)
    if found < matrix_elements * bytes_per_element:
        raise BrokenConversion(
            f"a TF Lite model must hold at least {matrix_elements * bytes_per_element:,} bytes of constants. "
            f"Received: {found:,} bytes"
        )
    return found


def run_lite(content: bytes, columns: Columns) -> np.ndarray[Any, Any]:
    """Return the answers (`scores` `[rows, K]` or `outputs` `[rows]`) of a flatbuffer to transformed rows."""
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(_SIGNATURE)
    details = runner.get_input_details()
    answers = runner(**{name: columns[name].astype(details[name]["dtype"]) for name in details})
    (answer,) = answers.values()
    return np.asarray(answer)
