"""What a model asks for and gives: the signature that a server tells, as columns and tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.data.errors import ConfigError

from ..columns import Column

__all__ = ["NUMPY_TYPES", "ModelSignature", "Tensor", "column_kinds", "tensors_of"]

Array = np.ndarray[Any, Any]

NUMPY_TYPES: Mapping[str, str] = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_HALF": "float16",
    "DT_INT8": "int8",
    "DT_INT16": "int16",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_UINT8": "uint8",
    "DT_UINT16": "uint16",
    "DT_UINT32": "uint32",
    "DT_UINT64": "uint64",
    "DT_BOOL": "bool",
    "DT_STRING": "object",
}
"""TensorFlow's name of a type -> numpy's; strings are objects that hold bytes."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        dtype: Name of numpy's type, `object` for strings; TensorFlow's own name for other types.
        shape: Sizes, None for any; None where the rank is unknown.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class ModelSignature:
    """A signature of a version.

    Attributes:
        name: Its name.
        inputs: Name -> tensor.
        outputs: Name -> tensor.
        version: Version of the model that told it.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    version: int


def column_kinds(signature: ModelSignature) -> dict[str, str]:
    """Return column -> `int`, `float`, `string` or `floats`, as `read_columns` knows them.

    Raises:
        ConfigError: If an input is no column: one value a row, or a list of numbers.
    """
    return {name: _kind(signature, name, tensor) for name, tensor in signature.inputs.items()}


def _kind(signature: ModelSignature, name: str, tensor: Tensor) -> str:
    shape = tensor.shape or ()
    if tensor.dtype == "object" and shape in ((None,), (None, 1)):
        return "string"
    if tensor.dtype.startswith(("float", "int", "uint")):
        if shape in ((None,), (None, 1)):
            return "float" if tensor.dtype.startswith("float") else "int"
        if len(shape) == 2 and shape[0] is None and tensor.dtype.startswith("float"):
            return "floats"
    raise ConfigError(
        "every input of a signature for rows must be a column: numbers or texts [None], or lists of numbers "
        f"[None, None]. Received: {tensor.dtype} {'of any shape' if tensor.shape is None else list(shape)} "
        f"(signature {signature.name!r}, input {name!r})",
        "`run` sends tensors as they are",
    )


def tensors_of(columns: Mapping[str, Column], signature: ModelSignature) -> dict[str, Array]:
    """Return columns as the tensors of a signature: NaN and "" where missing.

    Args:
        columns: Column -> values, one for each input.
        signature: What they are sent to.

    Raises:
        ConfigError: If a whole number is missing, for which a tensor of integers has no value.
    """
    return {name: _tensor(columns[name], name, tensor) for name, tensor in signature.inputs.items()}


def _tensor(column: Column, name: str, tensor: Tensor) -> Array:
    found: Array
    if column.files is not None or column.texts is not None:
        found = np.empty(len(column.present), object)
        if column.files is not None:
            found[:] = column.files
        else:
            found[:] = [text.encode("utf-8", "surrogateescape") for text in column.texts or ()]
    elif column.lists is not None:
        found = column.lists
        if not found.shape[1]:
            found = np.full((len(found), 1), np.nan, np.float32)
    else:
        assert column.numbers is not None
        if tensor.dtype.startswith("float"):
            found = np.where(column.present, column.numbers, np.nan)
        elif column.present.all():
            found = column.numbers
        else:
            raise ConfigError(
                "a column of integers must have no missing values. "
                f"Received: none in row {int(np.argmin(column.present))} (column {name!r})"
            )
    found = found.astype(tensor.dtype, copy=False)
    return found.reshape(-1, 1) if tensor.shape == (None, 1) else found
