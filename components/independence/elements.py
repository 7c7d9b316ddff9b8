"""Rules of operators that work element by element, of constants, and of sizes."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import tensorflow as tf

from .registry import broadcast, need, rule, same_form, shape_of, sizes_of, with_dims
from .values import Const, Entries, Flat, Index, RowOf, Rows, Size, Sizes, Value, fresh, product

_SMALL = 64
_WHOLE = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)

_ELEMENTWISE = (
    "Abs Acos Acosh Add AddN AddV2 AsString Asin Asinh Atan Atan2 Atanh BitwiseAnd BitwiseOr BitwiseXor "
    "Bucketize Cast Ceil CheckNumerics ClipByValue Cos Cosh Digamma Div DivNoNan Elu Equal Erf Erfc Exp "
    "Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Inv Invert IsFinite IsInf IsNan "
    "LeakyRelu Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul "
    "MulNoNan Neg NotEqual OnesLike Pow PreventGradient RealDiv Reciprocal RegexFullMatch RegexReplace "
    "Relu Relu6 Rint Round Rsqrt Select SelectV2 Selu Sigmoid Sign Sin Sinh Snapshot Softplus Softsign "
    "Sqrt Square SquaredDifference StaticRegexFullMatch StaticRegexReplace StopGradient StringJoin "
    "StringLength StringLower StringStrip StringToHashBucket StringToHashBucketFast "
    "StringToHashBucketStrong StringToNumber StringUpper Sub Substr Tan Tanh TruncateDiv TruncateMod "
    "Xdivy Xlogy ZerosLike"
)
_CONSTANT = "Const HashTableV2 VarHandleOp ReadVariableOp DisableCopyOnRead LookupTableSizeV2 Range"
_SAME = ("Identity", "StopGradient", "Snapshot", "PreventGradient")


@rule(_ELEMENTWISE)
def _elementwise(node: Any, values: list[Any]) -> Any:
    """Element by element, with broadcasting that leaves the rows in axis 0."""
    if all(isinstance(value, Sizes | Const) for value in values):
        return _arithmetic(node.op, values)
    if len(values) == 1:
        same = node.op in _SAME or (node.op == "Cast" and isinstance(values[0], Index | RowOf))
        return values[0] if same else same_form(values[0])
    if node.op == "Select" and isinstance(values[0], Rows) and not values[0].dims:
        values = values[1:]
    first = next(value for value in values if not isinstance(value, Const | Sizes))
    if isinstance(first, Flat):
        flats = [value for value in values if isinstance(value, Flat)]
        need(all(isinstance(v, Flat) or getattr(v, "shape", None) == () for v in values), "parts are mixed")
        need(all(v.base.dims == first.base.dims and v.lying == first.lying for v in flats), "parts are mixed")
        return same_form(first)
    need(isinstance(first, Rows | Entries), "rows are needed")
    shapes = [_beside(value, first) for value in values]
    dims = [_reduced(sizes) for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=Size(1))]
    widest = max(
        (s for v, s in zip(values, shapes, strict=True) if not isinstance(v, Const | Sizes)), key=len
    )
    need(len(dims) == len(widest), "a constant has more axes than a row")
    return with_dims(first, tuple(reversed(dims)))


def _reduced(sizes: Sequence[Size]) -> Size:
    found = sizes[0]
    for size in sizes[1:]:
        found = broadcast(found, size)
    return found


def _beside(value: Value, first: Any) -> tuple[Size, ...]:
    """Return the axes of a value but that of the rows, which it must share with `first` or not have."""
    if isinstance(value, Const | Sizes):
        if isinstance(value, Sizes):
            need(all(size.steady for size in value.entries), "a number depends on the other rows")
            return () if value.scalar else (Size(len(value.entries)),)
        sizes = shape_of(value)
        return sizes[1:] if len(sizes) == len(first.dims) + 1 and sizes[0].known == 1 else sizes
    same = type(value) is type(first) and (isinstance(value, Rows) or value.of is first.of)  # type: ignore[union-attr]
    need(same and len(value.dims) == len(first.dims), "rows are not in the same axis")  # type: ignore[union-attr]
    return value.dims  # type: ignore[union-attr]


def _arithmetic(name: str, values: list[Any]) -> Sizes:
    """Follow sizes where they stay products; anything else is a number that depends on all rows."""
    if name in _SAME or name == "Cast":
        return values[0]
    parts = [sizes_of(value) for value in values]
    scalar = all(getattr(value, "scalar", False) or getattr(value, "shape", 0) == () for value in values)
    length = max(map(len, parts))
    columns = zip(*(part * length if len(part) == 1 else part for part in parts), strict=True)
    if name == "Mul":
        return Sizes(tuple(product(column) for column in columns), scalar)
    steady = [all(size.steady for size in column) for column in columns]
    return Sizes(tuple(fresh("S" if found else "D") for found in steady), scalar)


@rule(_CONSTANT)
def _constant(node: Any, values: list[Any]) -> Any:
    need(node.op == "Const", "a constant is needed")
    tensor = node.attr["value"].tensor
    shape = tuple(int(dim.size) for dim in tensor.tensor_shape.dim)
    small = 0 < math.prod(shape) <= _SMALL and tensor.dtype in _WHOLE
    return Const(shape, tf.make_ndarray(tensor) if small else np.zeros(shape) if 0 in shape else None)


@rule("Shape ShapeN")
def _shape(node: Any, values: list[Any]) -> Any:
    return [Sizes(shape_of(value)) for value in values]


@rule("Size")
def _size(node: Any, values: list[Any]) -> Any:
    return Sizes((product(shape_of(values[0])),), scalar=True)
