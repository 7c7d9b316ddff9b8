"""Rules of operators that cut, join, turn and repeat axes."""

from typing import Any

import numpy as np

from .registry import (
    LISTS,
    axis_of,
    broadcast,
    ints_of,
    need,
    quotient,
    rows_of,
    rule,
    shape_of,
    sizes_of,
    with_dims,
)
from .slices import sliced
from .values import BATCH, Const, Entries, Flat, Index, RowOf, Rows, Size, Sizes, Unproven, fresh, product


@rule("StridedSlice")
def _strided_slice(node: Any, values: list[Any]) -> Any:
    value = values[0]
    bounds = [ints_of(bound) for bound in values[1:]]
    if isinstance(value, Sizes):
        need(not value.scalar and len(bounds[0]) == 1, "a vector is needed")
        entries = sliced([Size(len(value.entries))], node, bounds, pick=value.entries)
        return Sizes(tuple(entries), bool(node.attr["shrink_axis_mask"].i))
    if isinstance(value, Index):
        need(bounds[0][1:] == [0] and node.attr["shrink_axis_mask"].i == 2, "another part of an index")
        need(bool(node.attr["begin_mask"].i & node.attr["end_mask"].i & 1), "another part of an index")
        return RowOf(value.of, value.flat)
    found = sliced(list(shape_of(value)), node, bounds)
    need(bool(found) and found[0] == shape_of(value)[0] and len(found) > 0, "the axis of the rows is cut")
    return with_dims(value, tuple(found[1:]))


@rule("Slice")
def _slice(node: Any, values: list[Any]) -> Any:
    value, begin, size = rows_of(values[0]), ints_of(values[1]), ints_of(values[2])
    need(begin[0] == 0 and size[0] == -1, "the axis of the rows is cut")
    dims = []
    for dim, start, wanted in zip(value.dims, begin[1:], size[1:], strict=True):
        need(wanted >= 0 or dim.known is not None or start == 0, "a size is not known")
        dims.append(Size(wanted) if wanted >= 0 else dim if not start else Size((dim.known or 0) - start))
    return Rows(tuple(dims))


@rule("Reshape")
def _reshape(node: Any, values: list[Any]) -> Any:
    value = values[0]
    target = list(sizes_of(values[1]))
    if isinstance(value, Sizes):
        return Sizes(value.entries, scalar=not target)
    if isinstance(value, Const):
        need(all(size.steady for size in target), "a constant is cut by the number of rows")
        return Const(None)
    if isinstance(value, Entries):
        need(target == [Size(-1)] and not value.dims, "entries of another form")
        return value
    base: Rows = value.base if isinstance(value, Flat) else rows_of(value)
    within = product(base.dims)
    whole = (Size(-1), BATCH.times(within))
    if len(target) == 1 and target[0] in whole:
        return Flat(base) if base.dims else base
    if len(target) == 2 and target in ([Size(-1), whole[1]], [Size(1), Size(-1)], [Size(1), whole[1]]):
        return Flat(base, lying=True)
    need(bool(target) and target[0] in (Size(-1), BATCH), "the axis of the rows is cut or joined")
    dims = target[1:]
    if Size(-1) in dims:
        need(target[0] == BATCH, "the axis of the rows is not known")
        rest = product([dim for dim in dims if dim != Size(-1)])
        dims[dims.index(Size(-1))] = quotient(within, rest)
    need(product(dims) == within and within.factor > 0, "the axis of the rows is cut or joined")
    return Rows(tuple(dims))


@rule("ExpandDims")
def _expand(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        return Sizes(values[0].entries)
    value = values[0]
    sizes = list(shape_of(value))
    axis = axis_of(values[1], len(sizes) + 1)
    return with_dims(value, (*sizes[1:axis], Size(1), *sizes[axis:]))


@rule("Squeeze")
def _squeeze(node: Any, values: list[Any]) -> Any:
    value = values[0]
    axes = list(node.attr["squeeze_dims"].list.i)
    if isinstance(value, Index):
        need(value.columns == 1 and axes == [1], "another part of an index")
        return RowOf(value.of, value.flat)
    if isinstance(value, Sizes):
        return Sizes(value.entries, scalar=True)
    sizes = shape_of(value)
    axes = [axis + len(sizes) if axis < 0 else axis for axis in axes]
    need(bool(axes) and 0 not in axes, "the axis of the rows may be dropped")
    return with_dims(value, tuple(size for place, size in enumerate(sizes) if place and place not in axes))


@rule("Transpose")
def _transpose(node: Any, values: list[Any]) -> Any:
    value, order = rows_of(values[0]), ints_of(values[1])
    need(order[0] == 0, "the axis of the rows is moved")
    return Rows(tuple(value.dims[place - 1] for place in order[1:]))


@rule("ConcatV2")
def _concat(node: Any, values: list[Any]) -> Any:
    *parts, axis = values
    if all(isinstance(part, Sizes | Const) for part in parts):
        return Sizes(tuple(size for part in parts for size in sizes_of(part)))
    shapes = [rows_of(part).dims for part in parts]
    place = axis_of(axis, len(shapes[0]) + 1) - 1
    need(all(len(shape) == len(shapes[0]) for shape in shapes), "sizes do not fit")
    along = [shape[place] for shape in shapes]
    need(all(size.steady for size in along), "a size depends on other rows")
    known = [size.known for size in along]
    total = fresh("S") if None in known else Size(sum(size for size in known if size is not None))
    return Rows((*shapes[0][:place], total, *shapes[0][place + 1 :]))


@rule("Pack")
def _pack(node: Any, values: list[Any]) -> Any:
    if all(isinstance(value, Sizes | Const) for value in values):
        return Sizes(tuple(size for value in values for size in sizes_of(value)))
    shapes = [rows_of(value).dims for value in values]
    need(len(set(shapes)) == 1, "sizes do not fit")
    rank = len(shapes[0]) + 2
    axis = axis_of(Const((), np.array(node.attr["axis"].i)), rank)
    return Rows((*shapes[0][: axis - 1], Size(len(values)), *shapes[0][axis - 1 :]))


@rule("Unpack")
def _unpack(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        return [Sizes((size,), scalar=True) for size in values[0].entries]
    dims = rows_of(values[0]).dims
    axis = axis_of(Const((), np.array(node.attr["axis"].i)), len(dims) + 1)
    return [Rows((*dims[: axis - 1], *dims[axis:])) for _ in range(node.attr["num"].i)]


@rule("Split")
def _split(node: Any, values: list[Any]) -> Any:
    dims, count = rows_of(values[1]).dims, node.attr["num_split"].i
    axis = axis_of(values[0], len(dims) + 1)
    part = quotient(dims[axis - 1], Size(count))
    return [Rows((*dims[: axis - 1], part, *dims[axis:])) for _ in range(count)]


@rule("Pad PadV2 MirrorPad")
def _pad(node: Any, values: list[Any]) -> Any:
    paddings = values[1].value if isinstance(values[1], Const) else None
    need(paddings is not None, "constant numbers are needed")
    assert paddings is not None
    need(not paddings[0].any(), "the axis of the rows is padded")
    if isinstance(values[0], Index):
        need(not values[0].flat and not paddings[1][0], "another part of an index")
        return Index(values[0].of, values[0].columns + int(paddings[1][1]))
    dims = rows_of(values[0]).dims
    need(all(size.known is not None for size in dims), "a size is not known")
    more = [int(pair.sum()) for pair in paddings[1:]]
    return Rows(tuple(Size((size.known or 0) + extra) for size, extra in zip(dims, more, strict=True)))


@rule("Fill BroadcastTo")
def _fill(node: Any, values: list[Any]) -> Any:
    sizes, value = (values[0], values[1]) if node.op == "Fill" else (values[1], values[0])
    dims = sizes_of(sizes)
    if isinstance(value, Rows):
        need(dims[0] == BATCH and len(dims) == len(value.dims) + 1, "rows are not in the same axis")
        return Rows(tuple(broadcast(size, one) for size, one in zip(dims[1:], value.dims, strict=True)))
    shape = shape_of(value)
    need(isinstance(value, Const) and bool(dims), "a constant is needed")
    need(len(shape) < len(dims) or shape[0].known == 1, "a constant has as many rows as there are")
    if dims[0] == BATCH:
        return Rows(dims[1:])
    (symbol,) = dims[0].symbols or ("",)
    of = LISTS.get(symbol)
    if of is None or dims[0].factor != 1:
        raise Unproven("the axis of the rows is not known")
    return Entries(of, dims[1:])


@rule("Tile")
def _tile(node: Any, values: list[Any]) -> Any:
    times = sizes_of(values[1])
    if isinstance(values[0], Const):
        shape = shape_of(values[0])
        need(times[0] == BATCH and shape[0].known == 1, "a constant has as many rows as there are")
        return Rows(tuple(size.times(by) for size, by in zip(shape[1:], times[1:], strict=True)))
    dims = rows_of(values[0]).dims
    need(times[0].known == 1, "the axis of the rows is repeated")
    return Rows(tuple(size.times(by) for size, by in zip(dims, times[1:], strict=True)))
