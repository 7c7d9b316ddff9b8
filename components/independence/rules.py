"""The operators that are known to be row-wise, and what each makes of where the rows are.

An operator that is not here makes a signature unproven, even if nobody looks at what it gives: it may have
other effects. A rule returns one value, or a list or a dictionary of several.
"""

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import tensorflow as tf

from .slices import sliced
from .values import (
    BATCH,
    Const,
    Entries,
    Flat,
    Index,
    RowOf,
    Rows,
    Size,
    Sizes,
    Unproven,
    Value,
    fresh,
    product,
)

__all__ = ["RULES", "static_shape"]

_SYMBOLS: WeakKeyDictionary[Rows, str] = WeakKeyDictionary()
_LISTS: WeakValueDictionary[str, Rows] = WeakValueDictionary()
_SMALL = 64
_WHOLE = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)

Rule = Callable[[Any, list[Any]], Any]
RULES: dict[str, Rule] = {}
"""Operator -> its rule."""

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
_REDUCTIONS = "All Any EuclideanNorm Max Mean Min Prod Sum"
_PICTURES = "AvgPool Conv2D DepthwiseConv2dNative MaxPool ResizeBilinear ResizeNearestNeighbor"
_SAME = ("Identity", "StopGradient", "Snapshot", "PreventGradient")


def _rule(names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        for name in names.split():
            RULES[name] = rule
        return rule

    return add


def static_shape(node: Any, place: int = 0) -> tuple[int, ...] | None:
    """Return the shape of an output as the graph tells it; None if it does not tell all of it."""
    told = node.attr["_output_shapes"].list.shape
    if place >= len(told) or told[place].unknown_rank:
        return None
    sizes = tuple(int(dim.size) for dim in told[place].dim)
    return sizes if all(size >= 0 for size in sizes) else None


def _need(met: bool, text: str) -> None:
    if not met:
        raise Unproven(text)


def _rows(value: Value, least: int = 0) -> Rows:
    """Return a value that must hold rows with at least so many other axes."""
    if not isinstance(value, Rows) or len(value.dims) < least:
        raise Unproven("rows are needed")
    return value


def _sizes(value: Value) -> tuple[Size, ...]:
    """Return whole numbers as sizes."""
    if isinstance(value, Sizes):
        return value.entries
    if isinstance(value, Const) and value.value is not None and value.value.ndim < 2:
        return tuple(Size(int(number)) for number in value.value.reshape(-1))
    raise Unproven("whole numbers that are known are needed")


def _ints(value: Value) -> list[int]:
    """Return whole numbers that are constants."""
    found = [size.known for size in _sizes(value)]
    if None in found:
        raise Unproven("constant numbers are needed")
    return [number for number in found if number is not None]


def _axis(value: Value, rank: int) -> int:
    """Return a constant axis of a tensor with `rank` axes, which must not be that of the rows."""
    (axis,) = _ints(value)
    axis += rank if axis < 0 else 0
    _need(0 < axis < rank, "the axis of the rows is reduced or moved")
    return axis


def _shape_of(value: Value) -> tuple[Size, ...]:
    """Return the sizes of every axis."""
    if isinstance(value, Rows):
        return (BATCH, *value.dims)
    if isinstance(value, Entries):
        return (Size(1, (_symbol(value.of),)), *value.dims)
    if isinstance(value, Const) and value.shape is not None:
        return tuple(Size(size) for size in value.shape)
    raise Unproven("a shape is not known")


def _symbol(of: Rows) -> str:
    """Return the symbol of the length of a list of entries."""
    if of not in _SYMBOLS:
        (symbol,) = fresh("E").symbols
        _SYMBOLS[of], _LISTS[symbol] = symbol, of
    return _SYMBOLS[of]


def _broadcast(one: Size, other: Size) -> Size:
    if one == other or other.known == 1:
        return one
    _need(one.known == 1, "sizes do not fit")
    return other


# Elements


@_rule(_ELEMENTWISE)
def _elementwise(node: Any, values: list[Any]) -> Any:
    """Element by element, with broadcasting that leaves the rows in axis 0."""
    if all(isinstance(value, Sizes | Const) for value in values):
        return _arithmetic(node.op, values)
    if len(values) == 1:
        same = node.op in _SAME or (node.op == "Cast" and isinstance(values[0], Index | RowOf))
        return values[0] if same else _like(values[0])
    first = next(value for value in values if not isinstance(value, Const | Sizes))
    if isinstance(first, Flat):
        flats = [value for value in values if isinstance(value, Flat)]
        _need(all(isinstance(v, Flat) or getattr(v, "shape", None) == () for v in values), "parts are mixed")
        _need(
            all(v.base.dims == first.base.dims and v.lying == first.lying for v in flats), "parts are mixed"
        )
        return _like(first)
    _need(isinstance(first, Rows | Entries), "rows are needed")
    if node.op == "Select" and isinstance(values[0], Rows) and not values[0].dims:
        values = values[1:]
    shapes = [_beside(value, first) for value in values]
    dims = [_reduced(sizes) for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=Size(1))]
    widest = max(
        (s for v, s in zip(values, shapes, strict=True) if not isinstance(v, Const | Sizes)), key=len
    )
    _need(len(dims) == len(widest), "a constant has more axes than a row")
    return _with(first, tuple(reversed(dims)))


def _reduced(sizes: Sequence[Size]) -> Size:
    found = sizes[0]
    for size in sizes[1:]:
        found = _broadcast(found, size)
    return found


def _beside(value: Value, first: Any) -> tuple[Size, ...]:
    """Return the axes of a value but that of the rows, which it must share with `first` or not have."""
    if isinstance(value, Const | Sizes):
        if isinstance(value, Sizes):
            _need(all(size.steady for size in value.entries), "a number depends on the other rows")
            return () if value.scalar else (Size(len(value.entries)),)
        sizes = _shape_of(value)
        return sizes[1:] if len(sizes) == len(first.dims) + 1 and sizes[0].known == 1 else sizes
    same = type(value) is type(first) and (isinstance(value, Rows) or value.of is first.of)  # type: ignore[union-attr]
    _need(same and len(value.dims) == len(first.dims), "rows are not in the same axis")  # type: ignore[union-attr]
    return value.dims  # type: ignore[union-attr]


def _with(value: Any, dims: tuple[Size, ...]) -> Any:
    return Rows(dims) if isinstance(value, Rows) else Entries(value.of, dims)


def _like(value: Any) -> Any:
    """Return a value of the same form, made element by element."""
    if isinstance(value, Flat):
        return Flat(Rows(value.base.dims), value.lying)
    _need(isinstance(value, Rows | Entries), "rows are needed")
    return _with(value, value.dims)


def _arithmetic(name: str, values: list[Any]) -> Sizes:
    """Follow sizes where they stay products; anything else is a number that depends on all rows."""
    if name in _SAME or name == "Cast":
        return values[0]
    parts = [_sizes(value) for value in values]
    scalar = all(getattr(value, "scalar", False) or getattr(value, "shape", 0) == () for value in values)
    length = max(map(len, parts))
    columns = zip(*(part * length if len(part) == 1 else part for part in parts), strict=True)
    if name == "Mul":
        return Sizes(tuple(product(column) for column in columns), scalar)
    steady = [all(size.steady for size in column) for column in columns]
    return Sizes(tuple(fresh("S" if found else "D") for found in steady), scalar)


# Constants and sizes


@_rule(_CONSTANT)
def _constant(node: Any, values: list[Any]) -> Any:
    _need(node.op == "Const", "a constant is needed")
    tensor = node.attr["value"].tensor
    shape = tuple(int(dim.size) for dim in tensor.tensor_shape.dim)
    small = 0 < math.prod(shape) <= _SMALL and tensor.dtype in _WHOLE
    return Const(shape, tf.make_ndarray(tensor) if small else np.zeros(shape) if 0 in shape else None)


@_rule("Shape ShapeN")
def _shape(node: Any, values: list[Any]) -> Any:
    return [Sizes(_shape_of(value)) for value in values]


@_rule("Size")
def _size(node: Any, values: list[Any]) -> Any:
    return Sizes((product(_shape_of(values[0])),), scalar=True)


# Axes


@_rule("StridedSlice")
def _strided_slice(node: Any, values: list[Any]) -> Any:
    value = values[0]
    bounds = [_ints(bound) for bound in values[1:]]
    if isinstance(value, Sizes):
        _need(not value.scalar and len(bounds[0]) == 1, "a vector is needed")
        entries = sliced([Size(len(value.entries))], node, bounds, pick=value.entries)
        return Sizes(tuple(entries), bool(node.attr["shrink_axis_mask"].i))
    if isinstance(value, Index):
        _need(bounds[0][1:] == [0] and node.attr["shrink_axis_mask"].i == 2, "another part of an index")
        _need(bool(node.attr["begin_mask"].i & node.attr["end_mask"].i & 1), "another part of an index")
        return RowOf(value.of, value.flat)
    found = sliced(list(_shape_of(value)), node, bounds)
    _need(bool(found) and found[0] == _shape_of(value)[0] and len(found) > 0, "the axis of the rows is cut")
    return _with(value, tuple(found[1:]))


@_rule("Slice")
def _slice(node: Any, values: list[Any]) -> Any:
    value, begin, size = _rows(values[0]), _ints(values[1]), _ints(values[2])
    _need(begin[0] == 0 and size[0] == -1, "the axis of the rows is cut")
    dims = []
    for dim, start, wanted in zip(value.dims, begin[1:], size[1:], strict=True):
        _need(wanted >= 0 or dim.known is not None or start == 0, "a size is not known")
        dims.append(Size(wanted) if wanted >= 0 else dim if not start else Size((dim.known or 0) - start))
    return Rows(tuple(dims))


@_rule("Reshape")
def _reshape(node: Any, values: list[Any]) -> Any:
    value = values[0]
    target = list(_sizes(values[1]))
    if isinstance(value, Sizes):
        return Sizes(value.entries, scalar=not target)
    if isinstance(value, Const):
        _need(all(size.steady for size in target), "a constant is cut by the number of rows")
        return Const(None)
    if isinstance(value, Entries):
        _need(target == [Size(-1)] and not value.dims, "entries of another form")
        return value
    base: Rows = value.base if isinstance(value, Flat) else _rows(value)
    within = product(base.dims)
    whole = (Size(-1), BATCH.times(within))
    if len(target) == 1 and target[0] in whole:
        return Flat(base) if base.dims else base
    if len(target) == 2 and target in ([Size(-1), whole[1]], [Size(1), Size(-1)], [Size(1), whole[1]]):
        return Flat(base, lying=True)
    _need(bool(target) and target[0] in (Size(-1), BATCH), "the axis of the rows is cut or joined")
    dims = target[1:]
    if Size(-1) in dims:
        _need(target[0] == BATCH, "the axis of the rows is not known")
        rest = product([dim for dim in dims if dim != Size(-1)])
        dims[dims.index(Size(-1))] = _quotient(within, rest)
    _need(product(dims) == within and within.factor > 0, "the axis of the rows is cut or joined")
    return Rows(tuple(dims))


def _quotient(whole: Size, part: Size) -> Size:
    symbols = list(whole.symbols)
    for symbol in part.symbols:
        _need(symbol in symbols, "sizes do not fit")
        symbols.remove(symbol)
    _need(part.factor > 0 and whole.factor % part.factor == 0, "sizes do not fit")
    return Size(whole.factor // part.factor, tuple(symbols))


@_rule("ExpandDims")
def _expand(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        return Sizes(values[0].entries)
    value = values[0]
    sizes = list(_shape_of(value))
    axis = _axis(values[1], len(sizes) + 1)
    return _with(value, (*sizes[1:axis], Size(1), *sizes[axis:]))


@_rule("Squeeze")
def _squeeze(node: Any, values: list[Any]) -> Any:
    value = values[0]
    axes = list(node.attr["squeeze_dims"].list.i)
    if isinstance(value, Index):
        _need(value.columns == 1 and axes == [1], "another part of an index")
        return RowOf(value.of, value.flat)
    if isinstance(value, Sizes):
        return Sizes(value.entries, scalar=True)
    sizes = _shape_of(value)
    axes = [axis + len(sizes) if axis < 0 else axis for axis in axes]
    _need(bool(axes) and 0 not in axes, "the axis of the rows may be dropped")
    return _with(value, tuple(size for place, size in enumerate(sizes) if place and place not in axes))


@_rule("Transpose")
def _transpose(node: Any, values: list[Any]) -> Any:
    value, order = _rows(values[0]), _ints(values[1])
    _need(order[0] == 0, "the axis of the rows is moved")
    return Rows(tuple(value.dims[place - 1] for place in order[1:]))


@_rule("ConcatV2")
def _concat(node: Any, values: list[Any]) -> Any:
    *parts, axis = values
    if all(isinstance(part, Sizes | Const) for part in parts):
        return Sizes(tuple(size for part in parts for size in _sizes(part)))
    shapes = [_rows(part).dims for part in parts]
    place = _axis(axis, len(shapes[0]) + 1) - 1
    _need(all(len(shape) == len(shapes[0]) for shape in shapes), "sizes do not fit")
    along = [shape[place] for shape in shapes]
    _need(all(size.steady for size in along), "a size depends on other rows")
    known = [size.known for size in along]
    total = fresh("S") if None in known else Size(sum(size for size in known if size is not None))
    return Rows((*shapes[0][:place], total, *shapes[0][place + 1 :]))


@_rule("Pack")
def _pack(node: Any, values: list[Any]) -> Any:
    if all(isinstance(value, Sizes | Const) for value in values):
        return Sizes(tuple(size for value in values for size in _sizes(value)))
    shapes = [_rows(value).dims for value in values]
    _need(len(set(shapes)) == 1, "sizes do not fit")
    rank = len(shapes[0]) + 2
    axis = _axis(Const((), np.array(node.attr["axis"].i)), rank)
    return Rows((*shapes[0][: axis - 1], Size(len(values)), *shapes[0][axis - 1 :]))


@_rule("Unpack")
def _unpack(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        return [Sizes((size,), scalar=True) for size in values[0].entries]
    dims = _rows(values[0]).dims
    axis = _axis(Const((), np.array(node.attr["axis"].i)), len(dims) + 1)
    return [Rows((*dims[: axis - 1], *dims[axis:])) for _ in range(node.attr["num"].i)]


@_rule("Split")
def _split(node: Any, values: list[Any]) -> Any:
    dims, count = _rows(values[1]).dims, node.attr["num_split"].i
    axis = _axis(values[0], len(dims) + 1)
    part = _quotient(dims[axis - 1], Size(count))
    return [Rows((*dims[: axis - 1], part, *dims[axis:])) for _ in range(count)]


@_rule("Pad PadV2 MirrorPad")
def _pad(node: Any, values: list[Any]) -> Any:
    paddings = values[1].value if isinstance(values[1], Const) else None
    _need(paddings is not None, "constant numbers are needed")
    assert paddings is not None
    _need(not paddings[0].any(), "the axis of the rows is padded")
    if isinstance(values[0], Index):
        _need(not values[0].flat and not paddings[1][0], "another part of an index")
        return Index(values[0].of, values[0].columns + int(paddings[1][1]))
    dims = _rows(values[0]).dims
    _need(all(size.known is not None for size in dims), "a size is not known")
    more = [int(pair.sum()) for pair in paddings[1:]]
    return Rows(tuple(Size((size.known or 0) + extra) for size, extra in zip(dims, more, strict=True)))


@_rule("Fill BroadcastTo")
def _fill(node: Any, values: list[Any]) -> Any:
    sizes, value = (values[0], values[1]) if node.op == "Fill" else (values[1], values[0])
    dims = _sizes(sizes)
    if isinstance(value, Rows):
        _need(dims[0] == BATCH and len(dims) == len(value.dims) + 1, "rows are not in the same axis")
        return Rows(tuple(_broadcast(size, one) for size, one in zip(dims[1:], value.dims, strict=True)))
    shape = _shape_of(value)
    _need(isinstance(value, Const) and bool(dims), "a constant is needed")
    _need(len(shape) < len(dims) or shape[0].known == 1, "a constant has as many rows as there are")
    if dims[0] == BATCH:
        return Rows(dims[1:])
    (symbol,) = dims[0].symbols or ("",)
    of = _LISTS.get(symbol)
    if of is None or dims[0].factor != 1:
        raise Unproven("the axis of the rows is not known")
    return Entries(of, dims[1:])


@_rule("Tile")
def _tile(node: Any, values: list[Any]) -> Any:
    times = _sizes(values[1])
    if isinstance(values[0], Const):
        shape = _shape_of(values[0])
        _need(times[0] == BATCH and shape[0].known == 1, "a constant has as many rows as there are")
        return Rows(tuple(size.times(by) for size, by in zip(shape[1:], times[1:], strict=True)))
    dims = _rows(values[0]).dims
    _need(times[0].known == 1, "the axis of the rows is repeated")
    return Rows(tuple(size.times(by) for size, by in zip(dims, times[1:], strict=True)))


# Sums and products over the axes of a row


@_rule(_REDUCTIONS)
def _reduction(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        _need(node.op == "Prod", "a number depends on the other rows")
        return Sizes((product(values[0].entries),), scalar=True)
    dims = _rows(values[0]).dims
    axes = [axis + len(dims) + 1 if axis < 0 else axis for axis in _ints(values[1])]
    _need(0 not in axes, "the axis of the rows is reduced or moved")
    _need(all(dims[axis - 1].steady for axis in axes), "a size depends on other rows")
    if node.attr["keep_dims"].b:
        return Rows(tuple(Size(1) if place in axes else size for place, size in enumerate(dims, 1)))
    return Rows(tuple(size for place, size in enumerate(dims, 1) if place not in axes))


@_rule("ArgMax ArgMin")
def _arg(node: Any, values: list[Any]) -> Any:
    dims = _rows(values[0]).dims
    axis = _axis(values[1], len(dims) + 1)
    _need(dims[axis - 1].steady, "a size depends on other rows")
    return Rows((*dims[: axis - 1], *dims[axis:]))


@_rule("Cumsum Cumprod")
def _cumulative(node: Any, values: list[Any]) -> Any:
    dims = _rows(values[0]).dims
    _need(dims[_axis(values[1], len(dims) + 1) - 1].steady, "a size depends on other rows")
    return Rows(dims)


@_rule("Softmax LogSoftmax")
def _softmax(node: Any, values: list[Any]) -> Any:
    dims = _rows(values[0], 1).dims
    _need(dims[-1].steady, "a size depends on other rows")
    return Rows(dims)


@_rule("BiasAdd")
def _bias(node: Any, values: list[Any]) -> Any:
    _need(node.attr["data_format"].s in (b"", b"NHWC"), "channels come first")
    _need(isinstance(values[1], Const), "a constant is needed")
    return Rows(_rows(values[0], 1).dims)


@_rule("MatMul BatchMatMulV2 BatchMatMul")
def _matmul(node: Any, values: list[Any]) -> Any:
    one, other = values
    turned = node.attr["transpose_a"].b or node.attr["adj_x"].b
    turned_other = node.attr["transpose_b"].b or node.attr["adj_y"].b
    dims = _rows(one, 1).dims
    _need(dims[-1].steady, "a size depends on other rows")
    if isinstance(other, Const):
        shape = _shape_of(other)
        _need(len(shape) == 2 and not turned, "a matrix is needed")
        return Rows((*dims[:-1], shape[0 if turned_other else 1]))
    second = _rows(other, 2).dims
    _need(len(dims) == len(second) >= 2 and dims[:-2] == second[:-2], "sizes do not fit")
    _need(all(size.steady for size in (*dims[-2:], *second[-2:])), "a size depends on other rows")
    return Rows((*dims[:-2], dims[-1 if turned else -2], second[-2 if turned_other else -1]))


@_rule("Einsum")
def _einsum(node: Any, values: list[Any]) -> Any:
    sides, _, result = node.attr["equation"].s.decode().partition("->")
    labels = sides.split(",")
    _need("." not in sides and bool(result) and len(labels) == len(values), "an equation of another form")
    sizes: dict[str, Size] = {}
    for label, value in zip(labels, values, strict=True):
        shape = _shape_of(value)
        _need(isinstance(value, Rows | Const) and len(shape) == len(label), "sizes do not fit")
        has_rows = result[0] in label
        _need(has_rows == isinstance(value, Rows), "the axis of the rows is reduced or moved")
        _need(
            not has_rows or label.index(result[0]) == 0 == label.rindex(result[0]), "rows are not in axis 0"
        )
        sizes |= dict(zip(label, shape, strict=True))
    inner = [size for label, size in sizes.items() if label != result[0]]
    _need(all(size.steady for size in inner), "a size depends on other rows")
    return Rows(tuple(sizes[label] for label in result[1:]))


@_rule(_PICTURES)
def _static(node: Any, values: list[Any]) -> Any:
    """Pictures: row by row, of a shape that the graph tells."""
    _rows(values[0], 3)
    _need(node.attr["data_format"].s in (b"", b"NHWC"), "channels come first")
    _need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    _need(all(size.steady for size in values[0].dims), "a size depends on other rows")
    return Rows(_told(node))


@_rule("FusedBatchNormV3")
def _batch_norm(node: Any, values: list[Any]) -> Any:
    training = "is_training" not in node.attr or node.attr["is_training"].b  # defaults are left out
    _need(not training, "statistics of all rows are taken")
    _need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    return {"y": [Rows(_rows(values[0], 1).dims)]}


def _told(node: Any) -> tuple[Size, ...]:
    """Return the axes of a row as the graph tells them."""
    told = node.attr["_output_shapes"].list.shape
    sizes = [dim.size for dim in told[0].dim[1:]] if told and not told[0].unknown_rank else [-1]
    _need(all(size >= 0 for size in sizes), "a shape is not known")
    return tuple(Size(size) for size in sizes)


# Look-ups


@_rule("LookupTableFindV2")
def _lookup(node: Any, values: list[Any]) -> Any:
    _need(isinstance(values[0], Const) and isinstance(values[2], Const), "a constant is needed")
    return _like(values[1])


@_rule("OneHot")
def _one_hot(node: Any, values: list[Any]) -> Any:
    dims = _like(values[0]).dims
    last = "axis" not in node.attr or node.attr["axis"].i in (-1, len(dims) + 1)  # defaults are left out
    _need(last and all(isinstance(value, Const) for value in values[1:]), "another axis")
    (depth,) = _ints(values[1])
    return _with(values[0], (*dims, Size(depth)))


@_rule("UpperBound LowerBound")
def _bound(node: Any, values: list[Any]) -> Any:
    """`tf.searchsorted`: one list of bounds for all, and what is looked for in one lying row."""
    bounds, sought = values
    _need(isinstance(bounds, Const) and isinstance(sought, Flat) and sought.lying, "another form of search")
    return _like(sought)


@_rule("GatherV2 ResourceGather")
def _gather(node: Any, values: list[Any]) -> Any:
    params, indices = values[0], values[1]
    axis = _ints(values[2])[0] if len(values) > 2 else 0
    if node.op == "ResourceGather":
        _need(isinstance(params, Const) and not node.attr["batch_dims"].i, "batches are gathered")
        return _with(indices, (*_like(indices).dims, *_told(node)[len(indices.dims) :]))
    _need(not node.attr["batch_dims"].i, "batches are gathered")
    if isinstance(params, Const):
        _need(axis == 0, "another axis")
        return _with(indices, (*_like(indices).dims, *_shape_of(params)[1:]))
    if isinstance(indices, RowOf):
        _need(axis == 0, "another axis")
        return _gathered(params, indices)
    dims = _rows(params).dims
    axis = _axis(values[2], len(dims) + 1)
    _need(isinstance(indices, Const) and dims[axis - 1].known is not None, "a constant is needed")
    return Rows((*dims[: axis - 1], *_shape_of(indices), *dims[axis:]))


def _gathered(params: Any, indices: RowOf) -> Entries:
    """Return what the entries of a list take from their rows."""
    if not indices.flat:
        return Entries(indices.of, _rows(params).dims)
    _need(isinstance(params, Flat) and not params.lying, "rows are not in the same axis")
    _need(params.base.dims == indices.of.dims, "rows are not in the same axis")
    return Entries(indices.of, ())


# Lists that the rows share


@_rule("Where")
def _where(node: Any, values: list[Any]) -> Any:
    value = values[0]
    if isinstance(value, Flat):
        _need(not value.lying, "rows are not in the same axis")
        return Index(value.base, 1, flat=True)
    return Index(_rows(value), len(value.dims) + 1)


@_rule("GatherNd")
def _gather_nd(node: Any, values: list[Any]) -> Any:
    dims, index = _rows(values[0]).dims, values[1]
    _need(isinstance(index, Index) and not index.flat, "an index of rows is needed")
    _need(index.columns <= len(dims) + 1, "sizes do not fit")
    return Entries(index.of, dims[index.columns - 1 :])


@_rule("SparseToDense")
def _dense(node: Any, values: list[Any]) -> Any:
    index, sizes, entries, default = values
    shape = _sizes(sizes)
    _need(shape[0] == BATCH and isinstance(default, Const), "the axis of the rows is not known")
    if isinstance(index, Const):
        _need(index.shape is not None and not index.shape[0], "entries are the same for all rows")
        return Rows(shape[1:])
    _need(isinstance(index, Index) and not index.flat and index.columns == len(shape), "sizes do not fit")
    same = isinstance(entries, Entries) and entries.of is index.of and not entries.dims
    _need(same or (isinstance(entries, Const) and entries.shape == ()), "entries of another list")
    return Rows(shape[1:])


@_rule("UnsortedSegmentSum UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd")
def _segments(node: Any, values: list[Any]) -> Any:
    entries, rows, number = values
    _need(isinstance(entries, Entries) and isinstance(rows, RowOf) and not rows.flat, "a list is needed")
    _need(entries.of is rows.of and _sizes(number) == (BATCH,), "entries of another list")
    return Rows(entries.dims)


@_rule("StringSplitV2 StringSplit")
def _string_split(node: Any, values: list[Any]) -> Any:
    rows = _rows(values[0])
    _need(not rows.dims and all(isinstance(value, Const) for value in values[1:]), "one text a row is needed")
    of = Rows(())
    return {
        "indices": [Index(of, 2)],
        "values": [Entries(of, ())],
        "shape": [Sizes((BATCH, fresh("D")))],
    }


@_rule("ParseExampleV2")
def _parse(node: Any, values: list[Any]) -> Any:
    _need(not _rows(values[0]).dims, "one example a row is needed")
    _need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    _need(not node.attr["ragged_value_types"].list.type, "ragged features")
    lists = [Rows(()) for _ in range(node.attr["num_sparse"].i)]
    shapes = [[dim.size for dim in shape.dim] for shape in node.attr["dense_shapes"].list.shape]
    return {
        "sparse_indices": [Index(of, 2) for of in lists],
        "sparse_values": [Entries(of, ()) for of in lists],
        "sparse_shapes": [Sizes((BATCH, fresh("D"))) for _ in lists],
        "dense_values": [
            Rows(tuple(Size(size) if size >= 0 else fresh("D") for size in shape)) for shape in shapes
        ],
    }
